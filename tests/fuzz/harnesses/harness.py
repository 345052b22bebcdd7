"""What a harness is, and what every refusal and every result has to be."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jsonschema

from harnesses.mutation import Mutation, mutate_as_bytes
from laminator.errors import LaminatorError, MalformedError

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "tests/vectors/cards/v1"
GOLDEN_CARDS = ("training.card", "evaluation.card")
MAX_MESSAGE = 2000

_CODE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")

T = TypeVar("T")


class Harness(NamedTuple):
    """How to fuzz one parser.

    `check` hands it arbitrary bytes, raises AssertionError (or whatever escapes the parser) where
    a promise is broken, and returns whether the bytes were accepted. `seeds` gives bytes that are
    accepted, `mutate` changes such bytes, `words` are for the fuzzer's dictionary.
    """

    check: Callable[[bytes], bool]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Mutation = mutate_as_bytes
    words: tuple[str, ...] = ()


def parsed(
    parse: Callable[[bytes], T], data: bytes, error: type[LaminatorError] = MalformedError
) -> T | None:
    """Return what `parse` makes of `data`, None where it refuses with an `error` as it should be.

    Everything else that it raises passes through.
    """
    try:
        return parse(data)
    except error as refusal:
        check_refusal(refusal)
        return None


def check_refusal(refusal: LaminatorError) -> None:
    """Check that a refusal has a code and one printable sentence of bounded length."""
    assert _CODE.fullmatch(refusal.code), refusal.code
    assert 0 < len(refusal.message) <= MAX_MESSAGE, len(refusal.message)
    assert refusal.message.isprintable(), ascii(refusal.message)


def golden_cards() -> tuple[bytes, ...]:
    """Return the cards of the first released format."""
    return tuple((VECTORS / name).read_bytes() for name in GOLDEN_CARDS)


def check_json(plain: object, schema: str) -> None:
    """Check that `plain` is JSON, and as the schema in docs says."""
    _validator(schema).validate(json.loads(json.dumps(plain, allow_nan=False)))


@cache
def _validator(schema: str) -> Any:
    content = json.loads((ROOT / "docs" / schema).read_bytes())
    return jsonschema.Draft202012Validator(content)
