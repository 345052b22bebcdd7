"""Files that a person names, never read beyond a bound."""

from laminator.errors import UsageError, shown


def read_bounded(path: str, bound: int, wanted: str = "another file") -> bytes:
    """Return up to one byte more than `bound`, for a parser that refuses what is too large.

    Raises UsageError, which asks for `wanted`.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs the verifier's start
            return file.read(bound + 1)
    except OSError as error:
        message = f"cannot read {shown(path)}: {error.strerror}; name {wanted}"
        raise UsageError("file.read", message) from error


def read_limited(path: str, limit: int) -> bytes:
    """Return what a file of at most `limit` bytes holds. Raises UsageError."""
    data = read_bounded(path, limit)
    if len(data) > limit:
        raise UsageError("file.size", f"{shown(path)} has more than {limit} bytes")
    return data
