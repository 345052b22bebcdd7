"""What an interpreter and its installed packages say of themselves."""

import json
import tempfile
from pathlib import Path

from harnesses.harness import Harness, parsed
from laminator.errors import LaminatorError
from laminator.measure.environment import find_sources, inspect_interpreter, list_distributions

# Memory, where there is such a folder: a temporary one may lie on a slow disk.
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
MAX_VERSION = 64
WORDS = ("home = ", "MAPPING: dict = {", "Name: ", "Version: ", '"dir_info"', '"editable": true')
_PLACES = (
    "a.pth",
    "__editable___x_finder.py",
    "x-1.dist-info/METADATA",
    "x-1.dist-info/direct_url.json",
    "y.egg-info",
)


def check(data: bytes) -> bool:
    """Whatever stands in a file, it is read or passed over, and no path is found that is not."""
    with tempfile.TemporaryDirectory(dir=_FOLDER) as name:
        root = Path(name).resolve()
        (root / "base/bin").mkdir(parents=True)
        (root / "base/bin/python").write_bytes(b"\x7fELF")
        (root / "base/pyvenv.cfg").write_bytes(data)
        packages = root / "packages"
        for place in _PLACES:
            (packages / place).parent.mkdir(parents=True, exist_ok=True)
            (packages / place).write_bytes(data)
        found = find_sources([packages])
        assert all(path.exists() for path in found)
        listed = parsed(lambda _: list_distributions([packages]), data, LaminatorError)
        python = root / "base/bin/python"
        answer = parsed(
            lambda given: inspect_interpreter(python, lambda *_: given), data, LaminatorError
        )
    assert answer is None or len(answer.version) <= MAX_VERSION
    names = () if listed is None else (item.name for item in listed.items)
    return bool(found) or answer is not None or not {"x", "y"}.issuperset(names)


def seeds() -> list[bytes]:
    """Return one file of each kind."""
    answer = {"version": "cpython 3.11.2", "bases": ["/usr"], "packages": ["/usr/lib"]}
    record = {"url": "file:///usr", "dir_info": {"editable": True}}
    return [
        json.dumps(answer).encode(),
        json.dumps(record).encode(),
        b"# comment\n/usr/lib\nimport os\n../base\n",
        b"MAPPING: dict[str, str] = {'os': '/usr/lib'}\n",
        b"Metadata-Version: 2.1\nName: numpy\nVersion: 1.26\n\ntext\n",
    ]


HARNESS = Harness(check, seeds, words=WORDS)
