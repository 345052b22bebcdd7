"""The workload's command line: which interpreter, which entry script.

What is measured is one script that a Python interpreter runs, so `python [flags] SCRIPT [args]`
is the one accepted form.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from laminator.errors import UsageError, shown
from laminator.measure.environment import locate_interpreter

_FLAGS_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
_EXAMPLE = "write: laminator run [options] -- python SCRIPT [arguments]"


class Command(NamedTuple):
    """`argv[0]` is the interpreter's absolute path, `argv[script]` the entry script."""

    argv: tuple[str, ...]
    script: int


def parse_command(words: Sequence[str]) -> Command:
    """Find the interpreter and the script in the command after ``--``. Raises UsageError."""
    if not words:
        raise UsageError("command.empty", f"no command; {_EXAMPLE}")
    if not Path(words[0]).name.startswith(("python", "pypy")):
        message = f"{shown(words[0])} is not a Python interpreter; {_EXAMPLE}"
        raise UsageError("command.interpreter", message)
    interpreter = locate_interpreter(words[0])
    script = _script(words)
    if not Path(words[script]).is_file():
        raise UsageError("command.script", f"no script {shown(words[script])}")
    return Command((str(interpreter), *words[1:]), script)


def _script(words: Sequence[str]) -> int:
    """Return the index of the first word after the interpreter's own flags."""
    index = 1
    while index < len(words) and words[index].startswith("-"):
        flag = words[index]
        if flag == "-" or (flag[1] not in "-WX" and {"m", "c"} & set(flag)):
            message = f"{flag}: only a script in a file can be measured; {_EXAMPLE}"
            raise UsageError("command.flag", message)
        index += 2 if flag in _FLAGS_WITH_VALUE else 1
    if index >= len(words):
        raise UsageError("command.script", f"no script; {_EXAMPLE}")
    return index
