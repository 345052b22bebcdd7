"""Launch a test's own entry text on a simulated machine and read what it says."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from enclave_sim.machine import Launching, Machine
from laminator.measure.attester_code import own_installation

HEAD = """\
import sys
sys.path.insert(0, __file__.rpartition("/")[0] + "/site")
import json, os
from laminator.run.setup import parse_setup
setup = parse_setup(os.fdopen(int(os.environ["LAMINATOR_SETUP_FD"]), "rb").read())
"""
"""How every entry text begins: it can import laminator, and `setup` is the owner's."""


class Said(NamedTuple):
    """An attester's exit status and the JSON that it printed, None for nothing."""

    status: int
    answer: Any


def launch_text(
    machine: Machine, text: str, request: bytes = b"", arguments: tuple[str, ...] = ()
) -> Said:
    """Launch HEAD and `text` in the attester's place, to their end."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(reader, "rb") as output:
        with os.fdopen(writer, "wb"), request_descriptor(request) as descriptor:
            what = launching(text)._replace(arguments=arguments)
            status = machine.launch(descriptor, (0, writer, 2), what)
        said = output.read()
    return Said(status, json.loads(said) if said else None)


def launching(text: str) -> Launching:
    """Return the launch of HEAD and `text` with this test's own installation."""
    return Launching(own_installation(), HEAD + text)


@contextmanager
def request_descriptor(request: bytes) -> Iterator[int]:
    """Yield a descriptor from which `request` can be read."""
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(request)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join()
