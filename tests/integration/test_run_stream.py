"""`laminator run --stream`: an input read in place, checked chunk by chunk as it is read."""

import hashlib
import subprocess
import time
from pathlib import Path

import pytest
from local_run import PYTHON, Attester, Workshop

from laminator.measure.tree import LEAF_BYTES, measure_tree

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARDS = {f"part-{number}": LEAF_BYTES + 1000 * number for number in range(3)}
OPTIONS = ("--stream=train=shards", "--output=model=model.bin")
WHOLE = """
import errno, hashlib
from laminator import workload
from laminator.data import measured

folder = measured("train")
try:
    open(workload.input("train") + "/part-0", "r+b").write(b"mine")
except OSError as error:
    assert error.errno in (errno.EROFS, errno.EACCES)
else:
    raise SystemExit("writable")
digest = hashlib.sha256()
for path, file in folder.items():
    digest.update(file.read())
with open(workload.output("model"), "w") as out:
    out.write(digest.hexdigest())
"""
LOADER = """
import torch
from torch.utils.data import DataLoader, Dataset
from laminator import workload
from laminator.data import measured

class Rows(Dataset):
    def __init__(self, folder):
        self.files = [folder[path] for path in folder]

    def __len__(self):
        return 600

    def __getitem__(self, index):
        row = self.files[index % 3].pread(64, index * 1700)
        return torch.frombuffer(bytearray(row), dtype=torch.uint8)

folder = measured("train")
for epoch in range(2):
    loader = DataLoader(Rows(folder), 50, shuffle=True, num_workers=2)
    total = sum(int(batch.sum()) for batch in loader)
    workload.report("sum", total, on=["train"], parameters={"epoch": epoch})
open(workload.output("model"), "w").write("done")
"""
WAITING = """
import time
from laminator import workload
from laminator.data import measured

path = workload.input("train") + "/part-1"
folder = measured("train")
before = open(path, "rb").read()
{first}
print("ready", flush=True)
for _ in range(3000):
    if open(path, "rb").read() != before:
        break
    time.sleep(0.01)
{then}
open(workload.output("model"), "w").write("done")
"""


def content(number: int) -> bytes:
    return hashlib.shake_256(bytes([number])).digest(SHARDS[f"part-{number}"])


@pytest.fixture
def shop(attester: Attester, tmp_path: Path) -> Workshop:
    (tmp_path / "shards").mkdir()
    for number in range(3):
        (tmp_path / f"shards/part-{number}").write_bytes(content(number))
    return Workshop(attester, tmp_path)


def test_a_folder_read_in_place_becomes_a_card(shop: Workshop) -> None:
    ran = shop.run(WHOLE, *OPTIONS)
    assert ran.status == 0, ran.stderr
    claimed = shop.card().claims.inputs["train"]
    found = measure_tree(shop.folder / "shards")
    assert (claimed.tree, claimed.digest) == (found.tree, found.measured.digest)
    assert (claimed.size, claimed.files) == (sum(SHARDS.values()), 3)
    assert shop.read("model.bin") == hashlib.sha256(b"".join(map(content, range(3)))).hexdigest()
    result = shop.verify()
    assert result.accepted
    assert "data.read-in-place" in {caveat.code for caveat in result.caveats}


def test_an_input_that_is_copied_has_no_tree(shop: Workshop) -> None:
    assert shop.run(WHOLE, "--input=train=shards", "--output=model=model.bin").status == 0
    assert shop.card().claims.inputs["train"].tree is None
    assert shop.read("model.bin") == hashlib.sha256(b"".join(map(content, range(3)))).hexdigest()
    assert "data.read-in-place" not in {caveat.code for caveat in shop.verify().caveats}


def test_a_data_loader_with_two_workers(shop: Workshop) -> None:
    ran = shop.run(LOADER, *OPTIONS)
    assert ran.status == 0, ran.stderr
    rows = (content(index % 3)[index * 1700 :][:64] for index in range(600))
    expected = sum(map(sum, rows))
    assert [item.value for item in shop.card().claims.properties] == [expected, expected]


def _changed_meanwhile(shop: Workshop, script: str) -> tuple[int, str]:
    """Change a byte of part-1 when the script is ready; return how the run ended."""
    with shop.start(script, *OPTIONS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.02)  # a later time of change than the one that was measured
        with (shop.folder / "shards/part-1").open("r+b") as file:
            file.seek(LEAF_BYTES + 10)
            file.write(b"\0" if content(1)[LEAF_BYTES + 10] else b"\1")
        _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


def test_a_chunk_changed_after_the_attesters_pass_ends_the_run(shop: Workshop) -> None:
    script = WAITING.format(first="", then="folder['part-1'].read()")
    status, stderr = _changed_meanwhile(shop, script)
    assert (status, shop.has_card) == (1, False)
    assert "DataChangedError: chunk 1 of" in stderr


def test_a_change_that_the_script_does_not_check_ends_the_run_too(shop: Workshop) -> None:
    first, then = "folder['part-1'].read()", "folder['part-0'].read()"
    status, stderr = _changed_meanwhile(shop, WAITING.format(first=first, then=then))
    assert (status, shop.has_card) == (125, False)
    assert "the input train was changed while the work read it" in stderr
    assert "part-1" in stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--stream=train=missing",), "cannot read the input train"),
        (("--stream=train=shards", "--input=train=shards"), "by --input and by --stream"),
        (("--stream=train=shards", "--output=train=x"), "of an input and of an output"),
        (("--stream=train=shards", "--output=model=shards/x"), "same place"),
        (("--stream=train",), "expected NAME=VALUE"),
    ],
)
def test_what_cannot_be_read_in_place(shop: Workshop, options: tuple[str, ...], words: str) -> None:
    ran = shop.run(WHOLE, *options)
    assert ran.status in (2, 125)
    assert words in ran.stderr
    assert not shop.has_card


def test_the_example_streams_parquet_with_two_workers(shop: Workshop) -> None:
    make = [PYTHON, str(EXAMPLES / "make_stream.py"), "--mib=4", "--shard-mib=2"]
    for folder in ("parquet", "again"):
        subprocess.run([*make, str(shop.folder / folder)], check=True)
    assert measure_tree(shop.folder / "parquet").tree == measure_tree(shop.folder / "again").tree
    script = (EXAMPLES / "train_stream.py").read_text()
    options = ("--stream=train=parquet", "--output=model=stream.safetensors")
    ran = shop.run(script, *options, arguments=["--epochs=2"])
    assert ran.status == 0, ran.stderr
    losses = [item.value for item in shop.card().claims.properties if item.name == "loss"]
    assert len(losses) == 2
    assert isinstance(losses[1], float)
    assert losses[1] < 0.5
    assert (shop.folder / "stream.safetensors").stat().st_size > 64
