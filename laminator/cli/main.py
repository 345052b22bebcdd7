"""The `laminator` command: finds the verb, imports its module, hands it the arguments.

A verb is a module with

    HELP: str                                   what `laminator VERB --help` says first
    configure(parser: argparse.ArgumentParser)  adds the verb's arguments
    run(args: argparse.Namespace) -> int        does the work and returns the exit status
    FAILURE_STATUS: int                         optional: the status of a usage or machine error
    prepare(arguments: list[str]) -> list[str]  optional: rewrites the arguments before parsing

Only the chosen verb's module is imported: `laminator verify` never loads the prover's half.
A verb may raise `LaminatorError`; its message goes to stderr and the status is FAILURE_STATUS
(2 unless the verb says otherwise).
"""

import argparse
import errno
import gc
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from laminator.errors import LaminatorError, shown
from laminator.report.text import safe, safe_message

USAGE_STATUS = 2
HELP_WIDTH = 98
INTERRUPTED_STATUS = 130
BROKEN_PIPE_STATUS = 141
_PATH_ERRORS = (errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)
_OUTPUT_ERRORS = (errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC)
EXTRAS = {
    "tpm2_pytss": "tpm",
    "torch": "ml",
    "numpy": "ml",
    "safetensors": "ml",
    "rfc3161_client": "timestamp",
    "arpy": "reference",
    "backports": "reference",
    "packaging": "reference",
    "pip_requirements_parser": "reference",
}


class Verb(NamedTuple):
    """Where a verb lives and the line that `laminator --help` shows for it.

    A `brief` verb starts no thread, child or server and leaves nothing to clean up.
    """

    module: str
    summary: str
    brief: bool = False


VERBS = {
    "run": Verb("laminator.cli.run", "run a program under measurement and write its card"),
    "evaluate": Verb("laminator.cli.evaluate", "measure properties of a model and write a card"),
    "datasheet": Verb("laminator.cli.datasheet", "measure the records of data sets, write a card"),
    "verify": Verb("laminator.cli.verify", "verify cards offline against a policy", brief=True),
    "show": Verb("laminator.cli.show", "print a card without verifying it", brief=True),
    "ledger": Verb("laminator.cli.ledger", "list this user's runs by number, or export a ledger"),
    "policy": Verb("laminator.cli.policy", "explain an appraisal policy in sentences"),
    "plan": Verb("laminator.cli.plan", "explain a plan of runs, or write one"),
    "trust": Verb("laminator.cli.trust", "add trust anchors, or list them"),
    "nonce": Verb("laminator.cli.nonce", "issue nonces, each for one card, or list them"),
    "timestamp": Verb("laminator.cli.timestamp", "have a card or a plan time-stamped"),
    "reference": Verb("laminator.cli.reference", "compute reference values"),
    "endorse": Verb("laminator.cli.endorse", "endorse measurers of properties, or withdraw it"),
    "enroll": Verb("laminator.cli.enroll", "get a certificate for this machine's attestation key"),
    "authority": Verb("laminator.cli.authority", "certify attestation keys of other machines"),
    "doctor": Verb("laminator.cli.doctor", "say what this machine has, what is missing, what next"),
}


class _HelpFormatter(argparse.HelpFormatter):
    """A formatter of fixed width: argparse asks for one while it adds arguments already.

    Without a width it imports `shutil` with its compressors, 3 ms of a verification.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=HELP_WIDTH)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors end with the verb's own status."""

    failure_status = USAGE_STATUS

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error to stderr and exit."""
        self.print_usage(sys.stderr)
        self.exit(self.failure_status, f"{self.prog}: {safe_message(message)}\n")


def console() -> NoReturn:
    """Run the command line as a process of its own: the console script's entry.

    Collecting cycles and taking the interpreter down in order cost a brief verb a sixth of its
    time, so that such a process ends as soon as its output is flushed.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    verb = VERBS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if verb is None or not verb.brief:
        sys.exit(main())
    gc.disable()
    status = main()
    if sys.stderr is not None:
        sys.stderr.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else USAGE_STATUS
    if arguments[0] == "--version":
        print(f"laminator {_version()}")
        return 0
    verb = VERBS.get(arguments[0])
    if verb is None:
        print(
            f"laminator: unknown command {safe(arguments[0])}; `laminator --help` lists them",
            file=sys.stderr,
        )
        return USAGE_STATUS
    return _run_verb(arguments[0], verb, arguments[1:])


def overview() -> str:
    """Return the text of `laminator --help`."""
    width = max(map(len, VERBS))
    lines = ["usage: laminator COMMAND [options]", "", "commands:"]
    lines += [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    lines += ["", "`laminator COMMAND --help` describes a command."]
    return "\n".join(lines)


def build_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of the verb `name`, with its options and help."""
    module = importlib.import_module(VERBS[name].module)
    parser = _Parser(
        prog=f"laminator {name}",
        description=module.HELP,
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    parser.failure_status = getattr(module, "FAILURE_STATUS", USAGE_STATUS)
    module.configure(parser)
    return parser


def _run_verb(name: str, verb: Verb, arguments: list[str]) -> int:
    module = importlib.import_module(verb.module)
    failure_status: int = getattr(module, "FAILURE_STATUS", USAGE_STATUS)
    parser = build_parser(name)
    args = parser.parse_args(getattr(module, "prepare", list)(arguments))
    if sys.stdout is None:
        print(f"laminator {name}: standard output is closed", file=sys.stderr)
        return failure_status
    try:
        status: int = module.run(args)
        sys.stdout.flush()
    except LaminatorError as error:
        print(f"laminator {name}: {safe_message(error.message)}", file=sys.stderr)
        return failure_status
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        advice = f"pip install 'laminator[{EXTRAS[error.name]}]'"
        print(f"laminator {name}: {error.name} is not installed: {advice}", file=sys.stderr)
        return failure_status
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE_STATUS
    except OSError as error:
        print(f"laminator {name}: {_system_refusal(error)}", file=sys.stderr)
        return failure_status
    return status


def _system_refusal(error: OSError) -> str:
    """Return the sentence for a path or an output that the system refuses; raise other errors."""
    if error.filename is not None and error.errno in _PATH_ERRORS:
        return f"cannot use {shown(error.filename)}: {error.strerror}; name another path"
    if error.filename is not None or error.errno not in _OUTPUT_ERRORS:
        raise error
    _silence_stdout()
    return f"cannot write the output: {error.strerror}"


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("laminator")
