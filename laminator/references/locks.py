"""Which wheels a lock names, each by hashes: pylock.toml (PEP 751), or requirements with hashes.

An entry that pins no version or has no hash of the SHA-2 family is refused. Packages that the lock
takes from elsewhere than a wheel are listed: nothing in a lock tells what building them makes.
Parsed by `packaging.pylock` and by pip-requirements-parser, which is pip's own code.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from laminator.errors import MalformedError, shown
from laminator.reading import read_limited
from laminator.references.wheel_name import WheelName, parse_wheel_name

MAX_LOCK = 32 << 20
MAX_ENTRIES = 200_000
SIZES = {"sha256": 32, "sha384": 48, "sha512": 64}

_INDEX_OPTIONS = {"index_url": "--index-url", "find_links": "--find-links"}
_IGNORED_OPTIONS = ("require_hashes", "prefer_binary", "only_binary", "features_enabled", "pre")


class LockedWheel(NamedTuple):
    """A wheel that a lock names, with hashes that all have to match (algorithm to bytes).

    `filename` is None where the lock names project and version alone.
    """

    name: str
    version: str
    filename: str | None
    hashes: Mapping[str, bytes]
    url: str | None


class Lock(NamedTuple):
    """A lock: its wheels, the projects that it has no wheel of, options for pip's index."""

    wheels: tuple[LockedWheel, ...]
    without_wheel: tuple[str, ...]
    options: tuple[str, ...] = ()


def load_lock(path: str) -> Lock:
    """Read a lock: TOML where its name ends in ``.toml``, else requirements.

    Raises UsageError for a file that cannot be read and MalformedError `lock.*`.
    """
    data = read_limited(path, MAX_LOCK)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("lock.syntax", f"{shown(path)} is not UTF-8") from error
    return parse_pylock(text) if path.endswith(".toml") else parse_requirements(text)


def locked_as(lock: Lock, wheel: WheelName) -> tuple[LockedWheel, ...]:
    """Return what the lock says of a wheel with this name. Raises MalformedError `lock.unnamed`."""
    found = tuple(
        each
        for each in lock.wheels
        if (each.name, each.version) == (wheel.name, wheel.version)
        and each.filename in (None, wheel.filename)
    )
    if not found:
        message = "the lock does not name this wheel"
        raise MalformedError("lock.unnamed", message)
    return found


def check_locked(entries: Iterable[LockedWheel], digests: Mapping[str, bytes]) -> None:
    """Check that all hashes of one of the entries are the file's. Raises MalformedError."""
    for entry in entries:
        if all(digests[algorithm] == value for algorithm, value in entry.hashes.items()):
            return
    found = f"sha256:{digests['sha256'].hex()}"
    raise MalformedError("lock.hash", f"not the wheel that the lock names: it is {found}")


def parse_pylock(text: str) -> Lock:
    """Parse a pylock.toml. Raises MalformedError `lock.*`."""
    import tomllib

    from packaging.pylock import Pylock, PylockValidationError

    try:
        pylock = Pylock.from_dict(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, PylockValidationError, RecursionError) as error:
        message = f"not a pylock.toml: {shown(str(error))}"
        raise MalformedError("lock.syntax", message) from error
    wheels = tuple(each for package in pylock.packages for each in _pylock_wheels(package))
    _check_count(wheels)
    without = sorted(package.name for package in pylock.packages if not package.wheels)
    return Lock(wheels, tuple(without))


def parse_requirements(text: str) -> Lock:
    """Parse requirements with hashes; only index options beside them. Raises MalformedError."""
    parsed = _parsed_requirements(text)
    for line in parsed.invalid_lines:
        raise MalformedError("lock.syntax", f"no requirement: {shown(line.line)}")
    index = tuple(word for option in parsed.options for word in _index_words(option))
    wheels = tuple(each for item in parsed.requirements for each in _required_wheels(item))
    _check_count(wheels)
    return Lock(wheels, (), index)


def _parsed_requirements(text: str) -> Any:  # noqa: ANN401 - the parser's types
    """Parse a copy: the parser reads files only, and this text is what was bounded."""
    from pip_requirements_parser import RequirementsFile, RequirementsFileParseError

    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as copy:
        copy.write(text)
        copy.flush()
        try:
            return RequirementsFile.from_file(copy.name, include_nested=False)
        except (RequirementsFileParseError, ValueError, RecursionError) as error:
            message = f"no requirements with hashes: {shown(str(error))}"
            raise MalformedError("lock.syntax", message) from error


def _pylock_wheels(package: Any) -> Iterator[LockedWheel]:  # noqa: ANN401 - packaging's types
    from packaging.pylock import PylockValidationError

    for wheel in package.wheels or ():
        try:
            name = parse_wheel_name(wheel.filename)
        except PylockValidationError as error:
            message = f"a wheel of {shown(package.name)} without a file name"
            raise MalformedError("lock.syntax", message) from error
        hashes = _hashes(wheel.hashes.items(), wheel.filename)
        yield LockedWheel(name.name, name.version, name.filename, hashes, wheel.url)


def _required_wheels(item: Any) -> Iterator[LockedWheel]:  # noqa: ANN401 - the parser's types
    """Yield one entry for each hash, any of which may match, as pip has it."""
    from packaging.utils import canonicalize_name

    shown_line = shown(item.line)
    if item.is_editable or not item.name:
        raise MalformedError("lock.kind", f"not a published project: {shown_line}")
    if item.link is not None:
        url = item.link.url
        wheel = parse_wheel_name(_url_name(url))
        name, version, filename = wheel.name, wheel.version, wheel.filename
    else:
        name, version = canonicalize_name(item.name), _pinned(item)
        url = filename = None
    if not item.hash_options:
        raise MalformedError("lock.hash", f"no --hash for {shown(item.name)} {version}")
    pairs = [each.partition(":")[::2] for each in item.hash_options]
    strong = [pair for pair in pairs if pair[0] in SIZES]
    for pair in strong or pairs:
        yield LockedWheel(name, version, filename, _hashes([pair], item.name), url)


def _pinned(item: Any) -> str:  # noqa: ANN401 - the parser's types
    from packaging.version import InvalidVersion, Version

    pins = list(item.specifier or ())
    try:
        if len(pins) == 1 and pins[0].operator in ("==", "==="):
            return str(Version(pins[0].version))
    except InvalidVersion:
        pass
    raise MalformedError("lock.pin", f"no version is pinned with == in {shown(item.line)}")


def _hashes(pairs: Iterable[tuple[str, str]], what: str) -> dict[str, bytes]:
    hashes = {}
    for algorithm, text in pairs:
        if algorithm not in SIZES:
            continue
        if len(text) != 2 * SIZES[algorithm] or set(text.lower()) - set("0123456789abcdef"):
            raise MalformedError("lock.hash", f"no {algorithm} in hex: {shown(text)} of {what}")
        hashes[algorithm] = bytes.fromhex(text)
    if not hashes:
        message = f"no sha256, sha384 or sha512 hash for {shown(what)}"
        raise MalformedError("lock.hash", message)
    return hashes


def _index_words(option: Any) -> Iterator[str]:  # noqa: ANN401 - the parser's types
    """Return pip's words for an option that says where wheels are; the hashes say which ones."""
    for key, value in option.options.items():
        if key in _IGNORED_OPTIONS:
            continue
        if key == "extra_index_urls":
            yield from (word for each in value for word in ("--extra-index-url", each))
        elif key in _INDEX_OPTIONS:
            values = value if isinstance(value, list) else [value]
            yield from (word for each in values for word in (_INDEX_OPTIONS[key], each))
        else:
            message = f"an option that a lock cannot have here: {shown(option.line)}"
            raise MalformedError("lock.option", f"{message}; write the pinned projects themselves")


def _url_name(url: str) -> str:
    return os.path.basename(unquote(urlsplit(url).path))  # noqa: PTH119 - text in, text out


def _check_count(wheels: tuple[LockedWheel, ...]) -> None:
    if not 0 < len(wheels) <= MAX_ENTRIES:
        raise MalformedError("lock.size", f"no wheel, or more than {MAX_ENTRIES}")
