"""Reference values of .debs: names as they lie on the system, digests of the .deb's bytes."""

import tarfile
from pathlib import Path

import packages
import pytest
from backports import zstd
from packages import deb_bytes, digest, member

from laminator.errors import UsageError
from laminator.references.debs import read_deb

FILES = [
    member("./", kind=tarfile.DIRTYPE),
    member("./lib/", kind=tarfile.DIRTYPE),
    member("./lib/x86_64-linux-gnu/libdemo.so.1.0", b"\x7fELF demo"),
    member("./lib/x86_64-linux-gnu/libdemo.so.1", kind=tarfile.SYMTYPE, target="libdemo.so.1.0"),
    member("./lib/libold.so", kind=tarfile.SYMTYPE, target="/lib/x86_64-linux-gnu/libdemo.so.1"),
    member("./lib/gone.so", kind=tarfile.SYMTYPE, target="../nowhere.so"),
    member("./usr/bin/python3.11", b"python"),
    member("./usr/bin/python3.11-again", kind=tarfile.LNKTYPE, target="./usr/bin/python3.11"),
    member("./usr/lib/python3.11/os.py", b"os"),
    member("./usr/lib/python3/dist-packages/x.py", b"x"),
    member("./etc/demo.conf", b"conf"),
]
EXPECTED = {
    "interpreter/python3.11": b"python",
    "site/x.py": b"x",
    "stdlib/os.py": b"os",
    "system/etc/demo.conf": b"conf",
    "system/usr/bin/python3.11-again": b"python",
    "system/usr/lib/libold.so": b"\x7fELF demo",
    "system/usr/lib/x86_64-linux-gnu/libdemo.so.1": b"\x7fELF demo",
    "system/usr/lib/x86_64-linux-gnu/libdemo.so.1.0": b"\x7fELF demo",
}


def _zstd_deb() -> bytes:
    parts = [
        ("debian-binary", b"2.0\n"),
        (
            "control.tar.zst",
            zstd.compress(packages.tar_bytes([member("control", packages.CONTROL)], "w")),
        ),
        ("data.tar.zst", zstd.compress(packages.tar_bytes(FILES, "w"))),
    ]
    return packages.ar_bytes(parts)


@pytest.mark.parametrize("packed", ["xz", "gz", "", "zst"])
def test_a_debs_files_have_the_names_of_the_system(packed: str, tmp_path: Path) -> None:
    content = _zstd_deb() if packed == "zst" else deb_bytes(FILES, packed=packed)
    path = tmp_path / "libdemo1_1.0-2_amd64.deb"
    path.write_bytes(content)
    found = read_deb(str(path))
    assert (found.name, found.version, found.kind) == ("libdemo1", "1.0-2", "deb")
    assert found.origin is not None
    assert found.origin.value == digest(content)
    named = {name: found.digest(place) for place, name in enumerate(found.paths)}
    assert named == {name: digest(data) for name, data in EXPECTED.items()}


def test_a_deb_that_is_not_there_is_a_question_of_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_deb(str(tmp_path / "missing.deb"))
