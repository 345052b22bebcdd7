"""The part of scripts/fuzz that needs no fuzzer: what it reads, keeps and collects."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import harnesses
import pytest

ROOT = Path(__file__).parents[2]
OUTPUT = """\
#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 40Mb
#4096\tpulse  cov: 113 ft: 716 corp: 142/9196b lim: 8192 exec/s: 274 rss: 48Mb
Done 160015 runs in 611 second(s)
stat::number_of_executed_units: 160015
"""


@pytest.fixture
def fuzz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, whose corpus is the folder `fuzz` of an empty place."""
    loader = SourceFileLoader("fuzz_script", str(ROOT / "scripts/fuzz"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "FUZZ", tmp_path / "fuzz")
    (tmp_path / "fuzz/corpus/log").mkdir(parents=True)
    (tmp_path / "work/corpus").mkdir(parents=True)
    return module


def test_the_fuzzers_last_words_are_read(fuzz: ModuleType) -> None:
    assert fuzz._report(OUTPUT, 600) == (611, 160_015, 113, 716)
    assert fuzz._report("no module named atheris", 600) == (600, 0, 0, 0)


def test_a_word_of_any_characters_fits_a_dictionary(fuzz: ModuleType) -> None:
    assert fuzz._dictionary_line('"é\\') == '"\\x22\\xc3\\xa9\\x5c"\n'


def test_only_what_reaches_something_new_is_kept(fuzz: ModuleType, tmp_path: Path) -> None:
    seed = harnesses.load("log").seeds()[0]
    for number, data in enumerate((seed, b"", b"\xff", b"\xff\xff", b"\x81\x00", b"\x81\x01")):
        (tmp_path / "work/corpus" / str(number)).write_bytes(data)
    added = fuzz._keep("log", tmp_path / "work")
    kept = [file.read_bytes() for file in (tmp_path / "fuzz/corpus/log").iterdir()]
    assert added == len(kept) > 1
    assert seed not in kept
    assert (b"\x81\x00" in kept) + (b"\x81\x01" in kept) == 1
    assert fuzz._keep("log", tmp_path / "work") == 0


def test_no_more_is_kept_than_there_is_room_for(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, data in enumerate((b"\xff", b"\x81\x00", b"\x82\x00")):
        (tmp_path / "work/corpus" / str(number)).write_bytes(data)
    monkeypatch.setattr(fuzz, "MAX_KEPT_BYTES", 2)
    assert fuzz._keep("log", tmp_path / "work") == 1


def test_findings_become_files_of_the_corpus(fuzz: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "work/findings").mkdir()
    (tmp_path / "work/findings/1").write_bytes(b"raised")
    (tmp_path / "work/findings-timeout-2").write_bytes(b"hung")
    moved = fuzz._collect_findings("log", tmp_path / "work")
    assert {file.read_bytes() for file in moved} == {b"raised", b"hung"}
    assert {file.parent for file in moved} == {tmp_path / "fuzz/corpus/log"}
    assert all(file.name.startswith("finding-") for file in moved)


def test_tracing_ends(fuzz: ModuleType) -> None:
    before = sys.gettrace()

    def check(data: bytes) -> bool:
        raise ValueError(data)

    assert fuzz._arcs(check, b"") == set()
    assert sys.gettrace() is before
