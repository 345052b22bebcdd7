"""Every harness, without a fuzzer: its seeds, its corpus, and a few hundred changes of both."""

import inspect
from pathlib import Path
from random import Random
from typing import Any

import harnesses
import pytest
from harnesses.harness import Harness, check_refusal, parsed
from harnesses.mutation import byte_change, with_unknown_keys

from laminator.errors import MalformedError

CORPUS = Path(__file__).parent / "corpus"
MAX_CORPUS_BYTES = 1024 * 1024
CHANGES = 200


def _inputs(name: str) -> list[bytes]:
    files = sorted((CORPUS / name).glob("*"))
    return [*harnesses.load(name).seeds(), *(file.read_bytes() for file in files)]


def _changed(name: str, harness: Harness) -> list[bytes]:
    random = Random(name)
    change = byte_change(random)
    inputs = _inputs(name)
    return [harness.mutate(random.choice(inputs), random, change) for _ in range(CHANGES)]


def test_every_harness_is_listed() -> None:
    folder = Path(inspect.getfile(harnesses)).parent
    modules = {file.stem for file in folder.glob("[!_]*.py")}
    shared = {"harness", "mutation", "der_mutation", "signing"}
    assert set(harnesses.NAMES) == modules - shared


@pytest.mark.parametrize("name", harnesses.NAMES)
def test_seeds_are_accepted(name: str) -> None:
    harness = harnesses.load(name)
    assert [harness.check(seed) for seed in harness.seeds()] == [True] * len(harness.seeds())


@pytest.mark.parametrize("name", harnesses.NAMES)
def test_corpus_keeps_every_promise(name: str) -> None:
    harness = harnesses.load(name)
    for data in _inputs(name):
        harness.check(data)


@pytest.mark.parametrize("name", harnesses.NAMES)
def test_changed_inputs_keep_every_promise(name: str) -> None:
    harness = harnesses.load(name)
    accepted = [harness.check(data) for data in _changed(name, harness)]
    assert False in accepted


@pytest.mark.parametrize("name", harnesses.NAMES)
def test_a_key_that_nobody_knows_breaks_no_promise(name: str) -> None:
    """In each map of each seed: chance comes by few of them in a few hundred changes."""
    harness = harnesses.load(name)
    for seed in harness.seeds():
        for data in with_unknown_keys(seed):
            harness.check(data)


@pytest.mark.parametrize("name", harnesses.NAMES)
def test_changes_follow_from_the_seed(name: str) -> None:
    harness = harnesses.load(name)
    assert _changed(name, harness) == _changed(name, harness)


def test_corpus_belongs_to_harnesses_and_is_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {file.parent.name for file in files} <= set(harnesses.NAMES)
    assert sum(file.stat().st_size for file in files) < MAX_CORPUS_BYTES


@pytest.mark.parametrize(
    ("raised", "caught"),
    [
        (MalformedError("a.code", "a sentence"), None),
        (MalformedError("no code", "a sentence"), AssertionError),
        (MalformedError("a.code", "a\nline"), AssertionError),
        (MalformedError("a.code", "x" * 5000), AssertionError),
        (KeyError("stumbled"), KeyError),
    ],
)
def test_a_broken_promise_is_seen(raised: Exception, caught: Any) -> None:
    def parse(_: bytes) -> bytes:
        raise raised

    if caught is None:
        assert parsed(parse, b"") is None
    else:
        with pytest.raises(caught):
            parsed(parse, b"")


def test_a_refusal_says_something() -> None:
    with pytest.raises(AssertionError):
        check_refusal(MalformedError("a.code", ""))
