import errno
import hashlib
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from laminator.errors import MachineError, UsageError
from laminator.measure.files import measure_path
from laminator.run import private_copy
from laminator.run.private_copy import (
    copy_measured,
    private_place,
    remove,
    store,
)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "weights").write_bytes(os.urandom(5 << 20))
    (folder / "deep" / "er" / "config").write_bytes(b"{}")
    (folder / "link").symlink_to("deep/er/config")
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize("size", [0, 10, 1 << 20, 9 << 20])
def test_a_copied_file_is_the_measured_one(tmp_path: Path, place: Path, size: int) -> None:
    source = tmp_path / "data"
    source.write_bytes(os.urandom(size))
    copied = copy_measured(source, place / "copy")
    assert copied.measured == measure_path(source) == measure_path(copied.path)
    assert stat.S_IMODE(copied.path.stat().st_mode) == 0o444


def test_a_copied_folder_is_the_measured_one(model: Path, place: Path) -> None:
    copied = copy_measured(model, place / "copy")
    assert copied.measured == measure_path(model) == measure_path(copied.path)
    assert tree(copied.path) == tree(model)
    assert not (copied.path / "link").is_symlink()
    assert not (copied.path / "empty").exists()


def test_a_program_stays_executable(place: Path) -> None:
    copied = copy_measured(Path("/bin/true"), place / "true")
    assert subprocess.run([copied.path], check=False).returncode == 0


def test_an_input_swapped_after_the_copy_changes_nothing(tmp_path: Path, place: Path) -> None:
    source = tmp_path / "data"
    source.write_bytes(b"measured")
    copied = copy_measured(source, place / "copy")
    source.write_bytes(b"swapped!")
    assert measure_path(copied.path) == copied.measured
    assert copied.measured.digest.value == hashlib.sha256(b"measured").digest()


def test_an_input_that_changes_meanwhile_is_measured_as_it_is_copied(
    tmp_path: Path, place: Path
) -> None:
    source = tmp_path / "data"
    source.write_bytes(bytes(8 << 20))
    going = threading.Event()

    def scribble() -> None:
        with source.open("r+b", buffering=0) as file:
            while not going.is_set():
                file.seek(int.from_bytes(os.urandom(3), "big") % (8 << 20))
                file.write(os.urandom(64))

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        copied = [copy_measured(source, place / str(number)) for number in range(5)]
    finally:
        going.set()
        writer.join()
    assert all(measure_path(one.path) == one.measured for one in copied)


def test_a_refused_folder_leaves_nothing(model: Path, place: Path) -> None:
    (model / "deep" / "bad").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="leaves the folder"):
        copy_measured(model, place / "copy")
    assert list(place.iterdir()) == []


def test_nothing_is_copied_over_something(model: Path, place: Path) -> None:
    (place / "copy").mkdir()
    (place / "copy" / "mine").write_bytes(b"")
    with pytest.raises(MachineError, match="file exists"):
        copy_measured(model, place / "copy")
    assert (place / "copy" / "mine").exists()


def test_small_places_lie_in_memory_and_vanish(tmp_path: Path) -> None:
    with private_place(1 << 20) as small, private_place(1 << 40, disk=tmp_path) as large:
        assert large.parent == tmp_path
        assert stat.S_IMODE(small.stat().st_mode) == stat.S_IMODE(large.stat().st_mode) == 0o700
        (large / "closed").mkdir()
        (large / "closed" / "file").write_bytes(b"")
        (large / "closed").chmod(0)
    assert not small.exists()
    assert not large.exists()


def test_a_place_lies_in_memory_up_to_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"f_flag": 0, "f_bavail": 1 << 40, "f_frsize": 1}
    monkeypatch.setattr(os, "statvfs", lambda _path: type("Room", (), fields))
    monkeypatch.setattr(private_copy, "available_memory", lambda: 400 << 20)
    assert private_copy._fits_memory(100 << 20)
    assert not private_copy._fits_memory((100 << 20) + 1)


def test_the_memory_available_is_bounded_by_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "max").write_text("4096\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(private_copy, "_MEMORY_LIMITS", [tmp_path / "none", tmp_path / "absent"])
    assert private_copy.available_memory() > 4096
    monkeypatch.setattr(private_copy, "_MEMORY_LIMITS", [tmp_path / "max"])
    assert private_copy.available_memory() == 4096


def test_the_places_of_killed_attesters_are_removed(tmp_path: Path) -> None:
    for name in ("laminator-place-old", "laminator-place-new", "laminator-other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_bytes(b"")
    (tmp_path / "laminator-place-file").write_bytes(b"")
    with private_place(1 << 40, disk=tmp_path) as used:
        for name in ("laminator-place-old", "laminator-other", used.name):
            os.utime(tmp_path / name, (0, 0))
        with private_place(1 << 40, disk=tmp_path) as other:
            left = {path.name for path in tmp_path.iterdir()}
    assert "laminator-place-old" not in left
    assert {"laminator-place-new", "laminator-other", used.name, other.name} <= left


def test_a_place_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineError, match="no such file"),
        private_place(1 << 40, disk=tmp_path / "absent"),
    ):
        pass


def test_a_memory_without_execution_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs("/dev/shm")  # noqa: S108 - only asked about
    assert not real.f_flag & os.ST_NOEXEC or not private_copy._fits_memory(1)
    fields = {"f_flag": os.ST_NOEXEC, "f_bavail": 1 << 40, "f_frsize": 1}
    monkeypatch.setattr(os, "statvfs", lambda _path: type("Room", (), fields))
    assert not private_copy._fits_memory(1)


@pytest.mark.parametrize("before", ["nothing", "file", "folder", "link"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_output_is_stored_whole_whatever_was_there(
    tmp_path: Path, place: Path, before: str, kind: str
) -> None:
    destination = tmp_path / "new" / "out"
    if before != "nothing":
        destination.parent.mkdir()
    if before == "file":
        destination.write_bytes(b"old")
    elif before == "folder":
        (destination / "old").mkdir(parents=True)
        (destination / "old" / "file").write_bytes(b"old")
    elif before == "link":
        destination.symlink_to("/etc/passwd")
    made = place / "made" / "out"
    made.parent.mkdir()
    if kind == "file":
        made.write_bytes(b"new")
    else:
        (made / "sub").mkdir(parents=True)
        (made / "sub" / "file").write_bytes(b"new")
    stored = store(place, "made/out", destination)
    assert stored == measure_path(destination) == measure_path(made)
    assert not destination.is_symlink()
    assert [path.name for path in destination.parent.iterdir()] == ["out"]


def test_an_output_gets_the_usual_permissions(tmp_path: Path, place: Path) -> None:
    (place / "out").write_bytes(b"1")
    (place / "out").chmod(0o4777)
    old = os.umask(0o027)
    try:
        store(place, "out", tmp_path / "out")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


@pytest.mark.parametrize("path", ["out", "sub/out"])
def test_a_link_left_as_an_output_is_not_followed(tmp_path: Path, place: Path, path: str) -> None:
    (tmp_path / "out").write_bytes(b"secret")
    if path == "out":
        (place / "out").symlink_to(tmp_path / "out")
    else:
        (place / "sub").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="cannot open"):
        store(place, path, tmp_path / "stored")
    assert not (tmp_path / "stored").exists()


def test_a_link_inside_an_output_does_not_reach_out(tmp_path: Path, place: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "weights").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="leaves the folder"):
        store(place, "out", tmp_path / "stored")
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_an_empty_folder_is_no_output(tmp_path: Path, place: Path) -> None:
    (place / "out").mkdir()
    (tmp_path / "stored").mkdir()
    (tmp_path / "stored" / "old").write_bytes(b"old")
    with pytest.raises(UsageError, match="an output without a file"):
        store(place, "out", tmp_path / "stored")
    assert tree(tmp_path / "stored") == {"old": b"old"}


def test_a_pipe_left_as_an_output_does_not_block(tmp_path: Path, place: Path) -> None:
    os.mkfifo(place / "out")
    with pytest.raises(UsageError, match="neither file nor folder"):
        store(place, "out", tmp_path / "stored")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_full_disk_keeps_the_old_output(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made = place / "out" / "f" if kind == "folder" else place / "out"
    made.parent.mkdir(exist_ok=True)
    made.write_bytes(bytes(6 << 20))
    (tmp_path / "stored").write_bytes(b"old")
    real, room = os.write, [4 << 20]

    def write(descriptor: int, chunk: memoryview) -> int:
        room[0] -= len(chunk)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, chunk)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(MachineError, match=r"no space left for .*stored.*; make room") as caught:
        store(place, "out", tmp_path / "stored")
    assert caught.value.code == "disk.full"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "stored"]
    assert (tmp_path / "stored").read_bytes() == b"old"


FULL = """
import os, sys
from pathlib import Path
from laminator.errors import MachineError
from laminator.run.private_copy import store
target = Path(sys.argv[1])
try:
    store(Path(sys.argv[2]), "big", target / "out")
except MachineError as error:
    print(error.code, os.listdir(target))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_disk(tmp_path: Path, place: Path) -> None:
    (place / "big").write_bytes(bytes(1 << 20))
    (tmp_path / "small").mkdir()
    script = 'mount -t tmpfs -o size=64k none "$1" && exec "$3" -c "$4" "$1" "$2"'
    words = ["sh", "-c", script, "sh", str(tmp_path / "small"), str(place)]
    words += [sys.executable, FULL]
    done = subprocess.run(["unshare", "-m", *words], check=False, capture_output=True, text=True)
    if "mount" in done.stderr:
        pytest.skip("mounting is forbidden here")
    assert done.stdout == "disk.full []\n"


def test_renaming_works_without_the_exchange(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def renameat2(self, *_arguments: object) -> int:
            return -1

    monkeypatch.setattr("ctypes.CDLL", lambda *_args, **_more: Library())
    (place / "out").write_bytes(b"new")
    (tmp_path / "stored" / "old").mkdir(parents=True)
    assert store(place, "out", tmp_path / "stored").files == 1
    assert (tmp_path / "stored").read_bytes() == b"new"


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove(tmp_path / "absent")
    (tmp_path / "dangling").symlink_to("absent")
    remove(tmp_path / "dangling")
    assert list(tmp_path.iterdir()) == []
