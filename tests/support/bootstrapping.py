"""Scripts started through the bootstrap, with the test at the other end of its channel."""

import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from laminator.eventlog import Record
from laminator.measure.code_names import Roots
from laminator.run import bootstrap
from laminator.run.bootstrapped import Script, bootstrapped
from laminator.run.code_channel import MAX_PACKET, parse_packet

PYTHON = str(Path(sys.base_prefix) / "bin" / "python3")
BARE = Script(PYTHON, (), "", ())


class Ran(NamedTuple):
    """How a script ended, what it printed, and the records that it sent, in their order."""

    status: int
    stdout: str
    stderr: str
    records: tuple[Record, ...]

    def names(self, event: str) -> list[str]:
        """Return the names in the records of `event`."""
        return [record.name for record in self.records if record.event == event]

    def digest(self, name: str) -> bytes:
        """Return the digest in the one record of a file called `name`."""
        (found,) = (record.digest for record in self.records if record.name == name)
        return found


def run_measured(
    folder: Path,
    script: str,
    what: Script = BARE,
    env: Mapping[str, str] = MappingProxyType({}),
) -> Ran:
    """Run `script` as main.py in `folder` with each module measured first.

    `what` has its interpreter, options, arguments and search path.
    """
    (folder / "main.py").write_text(script)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    roots = Roots((("script", str(folder)), ("stdlib", str(Path(sys.base_prefix) / "lib"))))
    what = what._replace(script=str(folder / "main.py"))
    own = Path(bootstrap.__file__)
    packets: list[bytes] = []
    with ours, theirs:
        words = bootstrapped(what, roots, theirs.fileno(), own, list(env))
        reader = threading.Thread(target=_receive_all, args=(ours, packets))
        reader.start()
        done = subprocess.run(
            words,
            cwd=folder,
            pass_fds=(theirs.fileno(),),
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", **env},
        )
        theirs.close()
        reader.join()
    records = tuple(map(parse_packet, packets))
    return Ran(done.returncode, done.stdout, done.stderr, records)


def _receive_all(ours: socket.socket, packets: list[bytes]) -> None:
    while packet := ours.recv(MAX_PACKET + 1):
        packets.append(packet)
