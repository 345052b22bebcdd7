"""The workload's command line: which interpreter, which entry script.

What is measured is one script that a Python interpreter runs, so `python [flags] SCRIPT [args]`
is the one accepted form. The attester reads a request's words with the same parser as the command
line, so nobody's request can have another program run than the one that is measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from laminator.errors import UsageError, shown
from laminator.measure.environment import locate_interpreter

FLAGS = ("-B", "-E", "-I", "-O", "-OO", "-P", "-S", "-b", "-bb", "-d", "-q", "-s", "-u", "-v")
"""The interpreter's flags that may stand before the script: none changes which program runs."""

FLAGS_WITH_VALUE = ("-W", "-X")
"""Flags with a value, attached or in the next word."""

X_OPTIONS = ("dev", "faulthandler", "importtime", "int_max_str_digits", "no_debug_ranges", "utf8")
"""The -X options that may be given: others, such as `presite`, may load code of their own."""

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
    script = find_script(words)
    if not Path(words[script]).is_file():
        raise UsageError("command.script", f"no script {shown(words[script])}")
    return Command((str(interpreter), *words[1:]), script)


def find_script(words: Sequence[str]) -> int:
    """Return the index of the first word after the interpreter's own flags.

    Raises UsageError for no script, and for a word that is not exactly one of the known flags: a
    cluster such as `-BX` could have the interpreter take another word for its script.
    """
    index = 1
    while index < len(words) and words[index].startswith("-"):
        word = words[index]
        if word not in FLAGS and word[:2] not in FLAGS_WITH_VALUE:
            known = " ".join((*FLAGS, *(f"{flag} VALUE" for flag in FLAGS_WITH_VALUE)))
            message = f"{shown(word)}: before the script only these, one by one: {known}"
            raise UsageError("command.flag", f"{message}; {_EXAMPLE}")
        if word[:2] in FLAGS_WITH_VALUE:
            _check_value(word[:2], word[2:] or "".join(words[index + 1 : index + 2]))
        index += 2 if word in FLAGS_WITH_VALUE else 1
    if index >= len(words):
        raise UsageError("command.script", f"no script; {_EXAMPLE}")
    return index


def _check_value(flag: str, value: str) -> None:
    """Check that the flag's value loads no code: a dotted warning category is imported."""
    if flag == "-X" and value.partition("=")[0] not in X_OPTIONS:
        known = ", ".join(X_OPTIONS)
        raise UsageError("command.flag", f"-X {shown(value)}: before the script only {known}")
    if flag == "-W" and "." in value:
        message = f"-W {shown(value)}: before the script only built-in categories"
        raise UsageError("command.flag", message)
