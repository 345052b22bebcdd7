"""Reference values of wheels: the files that a run of the installed wheel logs, byte for byte."""

import hashlib
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import packages
import pytest

from laminator.errors import MachineError, MalformedError, UsageError
from laminator.references import downloads, locks
from laminator.references.locks import parse_pylock, parse_requirements
from laminator.references.wheels import read_wheel

PYLOCK = """\
lock-version = "1.0"
created-by = "test"
[[packages]]
name = "demo-pkg"
version = "1.2"
[[packages.wheels]]
name = "{filename}"
url = "https://example.org/{filename}"
hashes = {{ {hashes} }}
"""


def pylock(content: bytes, filename: str = packages.FILENAME) -> str:
    hashes = f'sha256 = "{packages.digest(content).hex()}"'
    return PYLOCK.format(filename=filename, hashes=hashes)


def test_every_file_of_a_wheel_has_its_digest(tmp_path: Path) -> None:
    content = packages.wheel_bytes()
    found = read_wheel(
        str(packages.write_wheel(tmp_path, content)),
        parse_requirements(packages.requirement(content)),
    )
    assert (found.name, found.version, found.kind) == ("demo-pkg", "1.2", "wheel")
    assert found.origin is not None
    assert found.origin.value == packages.digest(content)
    expected = {f"site/{path}": packages.digest(data) for path, data in packages.FILES.items()}
    assert {path: found.digest(place) for place, path in enumerate(found.paths)} == expected


def test_data_folders_go_where_an_installer_puts_them(tmp_path: Path) -> None:
    data = f"{packages.NAME}-{packages.VERSION}.data"
    files = {
        **packages.FILES,
        f"{data}/platlib/demo_pkg/fast.so": b"\x7fELF",
        f"{data}/scripts/tool": b"#!/bin/sh\n",
        f"{data}/scripts/rewritten": b"#!python\nprint()\n",
        f"{data}/data/share/x.txt": b"x",
        f"{data}/headers/x.h": b"h",
    }
    content = packages.wheel_bytes(files)
    found = read_wheel(str(packages.write_wheel(tmp_path, content)), packages.lock_of(content))
    assert set(found.paths) - {f"site/{path}" for path in packages.FILES} == {
        "site/demo_pkg/fast.so",
        "prefix/bin/tool",
        "prefix/share/x.txt",
        "prefix/include/demo-pkg/x.h",
    }


def test_stored_members_and_folders_are_read_too(tmp_path: Path) -> None:
    def store(archive: zipfile.ZipFile) -> None:
        archive.mkdir("demo_pkg/empty/")
        archive.writestr("demo_pkg/s.py", b"s" * 3_000_000, zipfile.ZIP_STORED)

    record = packages.record_of({**packages.FILES, "demo_pkg/s.py": b"s" * 3_000_000})
    content = packages.wheel_bytes(record=record, write=store)
    found = read_wheel(str(packages.write_wheel(tmp_path, content)), packages.lock_of(content))
    assert "site/demo_pkg/s.py" in found.paths


def test_an_installed_wheel_has_the_digests_of_the_wheel(tmp_path: Path) -> None:
    content = packages.wheel_bytes()
    wheel = packages.write_wheel(tmp_path, content)
    venv.create(tmp_path / "env", with_pip=False)
    python = str(tmp_path / "env/bin/python")
    words = ["install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *words], check=True)
    (site,) = (tmp_path / "env/lib").glob("python3*/site-packages")
    found = read_wheel(str(wheel), packages.lock_of(content))
    for place, name in enumerate(found.paths):
        installed = site / name.removeprefix("site/")
        assert hashlib.sha256(installed.read_bytes()).digest() == found.digest(place), name


def test_a_pylock_names_wheels_by_file_and_hash(tmp_path: Path) -> None:
    content = packages.wheel_bytes()
    path = str(packages.write_wheel(tmp_path, content))
    assert read_wheel(path, parse_pylock(pylock(content))).name == "demo-pkg"
    other = parse_pylock(pylock(content, "demo_pkg-1.2-cp311-none-any.whl"))
    with pytest.raises(MalformedError) as refused:
        read_wheel(path, other)
    assert refused.value.code == "lock.unnamed"


def test_stronger_hashes_of_a_lock_count_alone(tmp_path: Path) -> None:
    content = packages.wheel_bytes()
    path = str(packages.write_wheel(tmp_path, content))
    right = hashlib.sha512(content).hexdigest()
    line = f"demo-pkg==1.2 --hash=md5:00 --hash=sha512:{right} --hash=sha256:{'0' * 64}\n"
    assert read_wheel(path, parse_requirements(line)).version == "1.2"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("demo-pkg==1.2\n", "lock.hash"),
        ("demo-pkg\n", "lock.pin"),
        ("demo-pkg==1.2 --hash=md5:" + "0" * 32 + "\n", "lock.hash"),
        ("demo-pkg==1.2 --hash=sha256:zz\n", "lock.hash"),
        ("demo-pkg>=1.2 --hash=sha256:" + "0" * 64 + "\n", "lock.pin"),
        ("demo-pkg==1.* --hash=sha256:" + "0" * 64 + "\n", "lock.pin"),
        ("-e .\n", "lock.kind"),
        ("-r other.txt\n", "lock.option"),
        ("--no-binary :all:\n", "lock.option"),
        ("demo-pkg==!! --hash=sha256:00\n", "lock.syntax"),
        ("--what\n", "lock.syntax"),
        ("", "lock.size"),
        ("demo-pkg @ https://x/demo.zip --hash=sha256:" + "0" * 64 + "\n", "wheel.name"),
    ],
)
def test_requirements_that_lock_nothing_are_refused(text: str, code: str) -> None:
    with pytest.raises(MalformedError) as refused:
        parse_requirements(text)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no toml", "lock.syntax"),
        ('lock-version = "1.0"\n', "lock.syntax"),
        (PYLOCK.format(filename=packages.FILENAME, hashes='md5 = "00"'), "lock.hash"),
        (
            PYLOCK.format(filename="other-1.2-py3-none-any.whl", hashes='sha256 = "00"'),
            "lock.syntax",
        ),
        (
            PYLOCK.format(filename="demo_pkg-2-py3-none-any.whl", hashes='sha256 = "00"'),
            "lock.syntax",
        ),
        ('lock-version = "1.0"\ncreated-by = "x"\npackages = []\n', "lock.size"),
    ],
)
def test_pylocks_that_lock_nothing_are_refused(text: str, code: str) -> None:
    with pytest.raises(MalformedError) as refused:
        parse_pylock(text)
    assert refused.value.code == code


def test_options_of_an_index_go_to_pip_and_no_other() -> None:
    hashed = "a==1 --hash=sha256:" + "0" * 64
    text = f"--index-url https://i\n--extra-index-url https://e\n--require-hashes\n{hashed}\n"
    lock = parse_requirements(text)
    assert lock.options == ("--index-url", "https://i", "--extra-index-url", "https://e")


def test_pip_gets_pins_and_hashes_and_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packages.wheel_bytes()
    index = tmp_path / "index"
    index.mkdir()
    packages.write_wheel(index, content)
    lock = parse_requirements(packages.requirement(content))
    offline = lock._replace(options=("--no-index", "--find-links", str(index)))
    (path,) = downloads.download_wheels(offline, tmp_path)
    assert Path(path).read_bytes() == content
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(MachineError) as refused:
        downloads.download_wheels(offline, tmp_path)
    assert "--wheels" in refused.value.message


def test_of_many_wheels_pip_gets_the_one_for_this_interpreter() -> None:
    names = ["a-1-cp27-none-win32.whl", "a-1-py3-none-any.whl"]
    hashes = {"sha256": bytes(32)}
    entries = tuple(
        locks.LockedWheel("a", "1", name, hashes, f"https://x/{name}") for name in names
    )
    (line,) = downloads._lines(locks.Lock(entries, ()))
    assert line.startswith("a @ https://x/a-1-py3-none-any.whl --hash=sha256:00")
    (other,) = downloads._lines(locks.Lock(entries[:1], ()))
    assert "win32" in other


def test_a_folder_without_wheels_is_a_question_of_usage(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError):
            downloads.list_wheels(str(folder))
