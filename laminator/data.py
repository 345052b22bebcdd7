"""Reading an input that was measured in place: each chunk is checked when it is first read.

    from laminator.data import measured

    data = measured("train")                 # after `laminator run --stream train=PATH`
    if isinstance(data, MeasuredFolder):     # a folder of shards
        table = pyarrow.parquet.ParquetFile(data["part-0.parquet"])
    else:
        rows = np.frombuffer(data.view(0, data.size), np.float32)

The attester read the whole input before the work began; this compares what is read now with the
leaves that it found (`laminator.measure.tree`). Each process checks each leaf of 1 MiB once, when
it first reads from it, and raises DataChangedError, for that read and all later ones, where the
bytes differ. What is read again is not compared again. An input that was handed over as a private
copy (`--input`) is read through the same interface, unchecked: no one can change it.

Files and folders pickle by what they are, so that they go to DataLoader workers, by fork or spawn:
each process opens its own descriptor and checks for itself.
"""

import functools
import io
import mmap
import os
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from laminator import workload
from laminator.errors import LaminatorError, MalformedError, shown
from laminator.measure.tree import (
    DIGEST_BYTES,
    LEAF_BYTES,
    FileLeaves,
    leaf_count,
    leaf_digest,
    parse_leaves,
    tree_digest,
)

__all__ = ["DataChangedError", "MeasuredFile", "MeasuredFolder", "measured"]

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class DataChangedError(LaminatorError):
    """What is read now is not what the attester measured; `code` says how."""


class Place(NamedTuple):
    """Where an input lies: its data, and the file of leaves with its tree (None for a copy)."""

    name: str
    path: str
    leaves: str | None = None
    tree: str | None = None


def measured(name: str) -> "MeasuredFile | MeasuredFolder":
    """Return the input called `name`, to be read in this process and in those that it starts.

    Raises ReportRefusedError for another name, UsageError outside a measured run's first process,
    DataChangedError where the file of leaves is not the attester's.
    """
    return open_place(Place(name, workload.input(name), *(workload.leaves(name) or ())))


def open_place(place: Place) -> "MeasuredFile | MeasuredFolder":
    """Return the file or folder at `place`. Raises DataChangedError."""
    is_file = "" in _files(place, os.getpid())
    return MeasuredFile(place, "") if is_file else MeasuredFolder(place)


class MeasuredFolder(Mapping[str, "MeasuredFile"]):
    """The files of a folder by their relative paths, sorted as in its manifest."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._paths = tuple(_files(place, os.getpid()))

    def __getitem__(self, path: str) -> "MeasuredFile":
        if path not in _files(self._place, os.getpid()):
            raise KeyError(path)
        return MeasuredFile(self._place, path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __reduce__(self) -> tuple[object, ...]:
        return MeasuredFolder, (self._place,)


class MeasuredFile(io.RawIOBase):
    """A file of an input, for reading at any place: a binary file object without a buffer.

    `pread`, `pread_into` and `view` do not move the position and may be called from any thread.
    """

    def __init__(self, place: Place, path: str) -> None:
        self._place, self._path = place, path
        self._position = 0
        self._opened: _Opened | None = None
        self._opened = _open(place, path)
        self.size = self._opened.file.size
        self.name = self._opened.file.path

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: "bytearray | memoryview | mmap.mmap", /) -> int:  # type: ignore[override]
        """Fill `buffer` from the position on; return the number of bytes. As `pread_into`."""
        count = self.pread_into(buffer, self._position)
        self._position += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """Return `size` bytes from the position on, all that are left for None or -1."""
        data = self.pread(self.size if size is None or size < 0 else size, self._position)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Return all bytes from the position on."""
        return self.read()

    def pread(self, size: int, offset: int) -> bytes:
        """Return `size` bytes from `offset` on, fewer at the end. Raises as `pread_into`."""
        return self._own().read(max(0, min(size, self.size - offset)), offset)

    def pread_into(self, buffer: "bytearray | memoryview | mmap.mmap", offset: int) -> int:
        """Fill `buffer` from `offset` on; return the number of bytes, fewer at the end.

        Raises DataChangedError, and leaves zeros where the bytes differ.
        """
        target = memoryview(buffer).cast("B")
        target = target[: max(0, min(len(target), self.size - offset))]
        self._own().read_into(target, offset)
        return len(target)

    def view(self, offset: int, size: int) -> memoryview:
        """Return bytes of the mapped file, checked now, without a copy.

        Who changes the file later changes what the view shows: `pread` copies what it checked.
        Raises DataChangedError; ValueError for bytes that the file does not have.
        """
        if not 0 <= offset <= offset + size <= self.size:
            raise ValueError(f"bytes {offset} to {offset + size} of a file of {self.size}")
        return self._own().view(offset, size)

    def close(self) -> None:
        """Close this process's descriptor; views that were given out stay."""
        if self._opened is not None:
            self._opened.close()
        super().close()

    def __reduce__(self) -> tuple[object, ...]:
        return MeasuredFile, (self._place, self._path)

    def _own(self) -> "_Opened":
        """Return what this process opened: after a fork that is done anew."""
        if self.closed:
            raise ValueError("the file is closed")
        if self._opened is None or self._opened.process != os.getpid():
            self._opened = _open(self._place, self._path)
        return self._opened


class _File:
    """One file as this process knows it: which leaves it has checked, and whether one differed."""

    def __init__(self, path: str, size: int, leaves: memoryview | None) -> None:
        self.path, self.size, self.leaves = path, size, leaves
        self.checked = bytearray(leaf_count(size) if leaves is not None else 0)
        self.changed = False
        self.checking = threading.Lock()

    def check(self, index: int, *pieces: bytearray | memoryview) -> None:
        """Compare a whole chunk, in its pieces, with its leaf. Raises DataChangedError."""
        expected = (self.leaves or b"")[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        if leaf_digest(*pieces) != expected:
            raise self.refuse(f"chunk {index} of {shown(self.path)} is not what was measured")
        self.checked[index] = 1

    def unchecked(self, start: int, end: int) -> list[int]:
        """Return the chunks with bytes from `start` to `end` that this process has not checked."""
        if self.leaves is None:
            return []
        first, last = start // LEAF_BYTES, leaf_count(end)
        return [index for index in range(first, last) if not self.checked[index]]

    def refuse(self, message: str) -> DataChangedError:
        """Refuse the file from now on; return the error that says so."""
        self.changed = True
        hint = "it changed after the attester read it; leave the data alone and run again"
        return DataChangedError("data.changed", f"{message}: {hint}")


class _Opened:
    """A descriptor of one process, with what that process knows of the file."""

    def __init__(self, file: _File, stream: io.FileIO) -> None:
        self.file = file
        self.process = os.getpid()
        self._stream = stream
        self._map: mmap.mmap | None = None

    def close(self) -> None:
        self._stream.close()

    def read(self, size: int, offset: int) -> bytes:
        """Return `size` bytes, all of which the file has. Raises DataChangedError."""
        data = os.pread(self._stream.fileno(), size, offset)
        if len(data) < size:  # more than one system call reads, or the file is shorter
            target = bytearray(size)
            self.read_into(memoryview(target), offset)
            return bytes(target)
        self._check(memoryview(data), offset)
        return data

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fill `target`, all of which the file has. Raises DataChangedError."""
        try:
            self._fill(target, offset)
            self._check(target, offset)
        except DataChangedError:
            target[:] = bytes(len(target))
            raise

    def view(self, offset: int, size: int) -> memoryview:
        """Return mapped bytes, checked. Raises DataChangedError."""
        if self._map is None and self.file.size:
            self._map = mmap.mmap(self._stream.fileno(), self.file.size, prot=mmap.PROT_READ)
        whole = memoryview(self._map or b"")
        start = offset - offset % LEAF_BYTES
        self._check(whole[start : leaf_count(offset + size) * LEAF_BYTES], start)
        return whole[offset : offset + size]

    def _check(self, data: memoryview, offset: int) -> None:
        """Check the chunks that `data`, read from `offset` on, lies in."""
        if self.file.changed:
            raise self.file.refuse(f"{shown(self.file.path)} is refused")
        if not data or not self.file.unchecked(offset, offset + len(data)):
            return
        with self.file.checking:  # threads that read from one chunk hash it once
            for index in self.file.unchecked(offset, offset + len(data)):
                self._check_chunk(index, data, offset)

    def _check_chunk(self, index: int, data: memoryview, offset: int) -> None:
        """Check one chunk with the part of it that `data` holds; what else it has is read."""
        start, end = index * LEAF_BYTES, offset + len(data)
        stop = min(start + LEAF_BYTES, self.file.size)
        first, last = max(start, offset), min(stop, end)
        head, tail = bytearray(first - start), bytearray(stop - last)
        self._fill(memoryview(head), start)
        self._fill(memoryview(tail), last)
        self.file.check(index, head, data[first - offset : last - offset], tail)

    def _fill(self, target: memoryview, offset: int) -> None:
        while target:
            count = os.preadv(self._stream.fileno(), [target], offset)
            if count == 0:
                raise self.file.refuse(f"{shown(self.file.path)} is shorter than it was")
            target, offset = target[count:], offset + count


@functools.lru_cache(maxsize=64)
def _files(place: Place, _process: int) -> Mapping[str, _File]:
    """Return what `_process`, this one, knows of the files at `place`. Raises DataChangedError."""
    if place.leaves is None:
        return {path: _File(_joined(place, path), 0, None) for path in _walk(place.path)}
    return {
        item.path: _File(_joined(place, item.path), item.size, memoryview(item.leaves))
        for item in _load_leaves(place)
    }


def _load_leaves(place: Place) -> tuple[FileLeaves, ...]:
    """Read the file of leaves, and hold it against the tree that the attester named."""
    with open(place.leaves or "", "rb") as file:  # noqa: PTH123 - a plain descriptor will do
        content = file.read()
    try:
        files = parse_leaves(content)
    except MalformedError as error:
        raise DataChangedError("data.leaves", f"the leaves of {place.name}: {error}") from error
    if str(tree_digest(files)) != place.tree:
        message = f"the leaves of {place.name} are not those that the attester found"
        raise DataChangedError("data.leaves", message)
    return files


def _open(place: Place, path: str) -> _Opened:
    file = _files(place, os.getpid())[path]
    stream = io.FileIO(os.open(file.path, _FLAGS), closefd=True)
    found = os.fstat(stream.fileno()).st_size
    if file.leaves is None:
        file.size = found
    elif found != file.size:
        stream.close()
        raise file.refuse(f"{shown(file.path)} has {found} bytes, {file.size} were measured")
    return _Opened(file, stream)


def _joined(place: Place, path: str) -> str:
    return f"{place.path}/{path}" if path else place.path


def _walk(top: str) -> list[str]:
    """List the files of a private copy: it has no links."""
    if not os.path.isdir(top):  # noqa: PTH112 - text in, text out
        return [""]
    found = [
        os.path.relpath(f"{folder}/{name}", top)
        for folder, _, names in os.walk(top)
        for name in names
    ]
    return sorted(found, key=os.fsencode)
