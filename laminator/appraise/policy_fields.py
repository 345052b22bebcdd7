"""Parsers of what several parts of a policy file hold: digests, and lists without repetition."""

from typing import TypeVar

from laminator.cbor import Value
from laminator.digest import Digest, parse_digest
from laminator.errors import MalformedError
from laminator.fields import Parse, array, malformed, text

_MAX_LIST = 10_000

T = TypeVar("T")


def digest_text(value: Value, path: str) -> Digest:
    """Parse a digest written as ``sha-256:<hex>``. Raises MalformedError."""
    try:
        return parse_digest(text(value, path))
    except MalformedError as error:
        raise MalformedError("policy.digest", error.message, path=path) from error


def digest_set(value: Value, path: str) -> frozenset[Digest]:
    """Parse an array of digests without repetition. Raises MalformedError."""
    return frozenset(distinct(digest_text)(value, path))


def distinct(parse: Parse[T], *, least: int = 0) -> Parse[tuple[T, ...]]:
    """Return a parser of arrays without repetition: one that repeats was to say something else."""

    def parse_them(value: Value, path: str) -> tuple[T, ...]:
        items = array(parse, least=least, most=_MAX_LIST)(value, path)
        if len(set(items)) != len(items):
            raise malformed(path, "no repetition", value)
        return items

    return parse_them
