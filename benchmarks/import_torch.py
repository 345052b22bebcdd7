"""What measuring costs an `import torch`, against hashing the same bytes on one core and one copy.

Processor seconds of whole processes: the import through the bootstrap, and the same import without
byte code, which the bootstrap never reads. What the first takes beyond the second is held against
`hashlib` on all the files that it named and one copy of them, read from the page cache. Natives are
listed, not copied, in this version.
"""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks.timing import Report, arguments, medians, show
from laminator.measure.code_names import Roots
from laminator.run import bootstrap
from laminator.run.bootstrapped import NO_BYTE_CODE, Script, bootstrapped
from laminator.run.code_channel import MAX_PACKET, parse_packet

MEASURED, PLAIN, PEER = "import, measured", "import, no byte code", "hash and copy"
_FILES = {"source", "native", "data"}
_CODE = "import torch\n"


def measure(rounds: int) -> Report:
    """Import measured and plain in turns, and hash and copy what was named."""
    seconds: dict[str, list[float]] = {MEASURED: [], PLAIN: [], PEER: []}
    with tempfile.TemporaryDirectory() as name:
        script = Path(name, "main.py")
        script.write_text(_CODE)
        files = _named(_measured(script)[1])
        size = sum(file.stat().st_size for file in files)
        for _ in range(rounds):
            seconds[MEASURED].append(_measured(script)[0])
            plain = [sys.executable, "-B", "-X", NO_BYTE_CODE, str(script)]
            seconds[PLAIN].append(_processor(plain, ()))
            seconds[PEER].append(_hash_and_copy(files, Path(name, "copy")))
    each = zip(*seconds.values(), strict=True)
    ratios = sorted((measured - plain) / peer for measured, plain, peer in each)
    label = "measuring, in hashing and a copy"
    return Report(
        name="import_torch",
        unit="s",
        rounds=rounds,
        medians={
            **medians(seconds, "s"),
            "files": float(len(files)),
            "MiB": size / (1 << 20),
        },
        results={label: ratios[len(ratios) // 2]},
        targets={label: 1.3},
    )


def _measured(script: Path) -> tuple[float, list[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    packets: list[bytes] = []
    own = Path(bootstrap.__file__)
    words = bootstrapped(
        Script(sys.executable, (), str(script), ()), Roots(()), theirs.fileno(), own, ()
    )
    with ours, theirs:
        reader = threading.Thread(target=_receive_all, args=(ours, packets))
        reader.start()
        spent = _processor(words, (theirs.fileno(),))
        theirs.close()
        reader.join()
    return spent, packets


def _receive_all(ours: socket.socket, packets: list[bytes]) -> None:
    while packet := ours.recv(MAX_PACKET + 1):
        packets.append(packet)


def _processor(words: list[str], pass_fds: tuple[int, ...]) -> float:
    before = os.times()
    subprocess.run(words, check=True, pass_fds=pass_fds)
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


def _named(packets: list[bytes]) -> list[Path]:
    """Return the files that records without roots name: other/whole/path."""
    records = map(parse_packet, packets)
    names = {record.name for record in records if record.event in _FILES}
    paths = (Path("/", name.partition("/")[2]) for name in sorted(names))
    return [path for path in paths if path.is_file()]


def _hash_and_copy(files: list[Path], folder: Path) -> float:
    folder.mkdir()
    before = os.times()
    for number, file in enumerate(files):
        with file.open("rb", buffering=0) as opened:
            hashlib.file_digest(opened, "sha256")
        shutil.copyfile(file, folder / str(number))
    after = os.times()
    shutil.rmtree(folder)
    return after.user - before.user + after.system - before.system


if __name__ == "__main__":
    options = arguments(__doc__ or "", 3)
    show(measure(options.rounds), as_json=options.json)
