"""The error tree.

LaminatorError
├── MalformedError   bytes from outside are not what their format says
├── UsageError       the caller asked for something that makes no sense
└── MachineError     this machine lacks something, or refused it

A check that fails is not an error: it is a `Check` in a result.
"""

_SHOWN = 120


class LaminatorError(Exception):
    """Base of all errors: a stable `code` for programs and a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class MalformedError(LaminatorError):
    """Bytes from outside that are not what their format says.

    `path` names the place inside the input, such as ``claims.run.id``.
    """

    def __init__(self, code: str, message: str, *, path: str = "") -> None:
        super().__init__(code, f"{path}: {message}" if path else message)
        self.path = path


class UsageError(LaminatorError):
    """The caller's request makes no sense; the message says what to write instead."""


class MachineError(LaminatorError):
    """The machine lacks something or refused it; the message says what to do next."""


def shown(value: object) -> str:
    """Return `value` escaped and cut, fit for an error message."""
    try:
        text = ascii(value)
    except ValueError:  # a number with more digits than Python writes
        text = f"{type(value).__name__} with a number too long to write"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
