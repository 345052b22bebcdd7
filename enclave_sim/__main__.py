"""`python -m enclave_sim create|start|stop|status|reset DIR [--json]`, and `timestamp DIR`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from enclave_sim.folder import open_folder, read_launches, read_manufactured
from enclave_sim.machine import create, is_running, start, stop
from enclave_sim.timestamp_authority import MAX_REQUEST, machine_authority
from laminator.errors import LaminatorError, UsageError, shown
from laminator.report.text import safe, safe_message
from laminator.run.atomic import write_atomically

_FAILURE_STATUS = 2

Answer = dict[str, object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 for a failure."""
    parser = argparse.ArgumentParser(
        prog="python -m enclave_sim",
        description="A simulated machine with a software TPM. What it signs proves nothing about "
        "hardware, and says so.",
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb in (_create, _start, _stop, _status, _reset, _timestamp):
        name = verb.__name__.strip("_")
        command = verbs.add_parser(name, help=verb.__doc__, description=verb.__doc__)
        command.set_defaults(verb=verb, name=name)
        command.add_argument("folder", type=Path, metavar="DIR", help="the machine's folder")
        command.add_argument("--json", action="store_true", help="print the answer as JSON")
        if verb is _timestamp:
            _add_files(command)
    args = parser.parse_args(arguments)
    try:
        answer = args.verb(args)
    except LaminatorError as error:
        print(f"enclave_sim {args.name}: {safe_message(error.message)}", file=sys.stderr)
        return _FAILURE_STATUS
    _show(answer, as_json=args.json)
    return 0


def _create(args: argparse.Namespace) -> Answer:
    """Make a machine in the new or empty folder DIR."""
    return _described(create(args.folder).root)


def _start(args: argparse.Namespace) -> Answer:
    """Start the machine; it stays on until it is stopped."""
    with start(args.folder, keep=True):
        return _status(args)


def _stop(args: argparse.Namespace) -> Answer:
    """Stop the machine, and whatever runs on it."""
    stop(args.folder)
    return _status(args)


def _status(args: argparse.Namespace) -> Answer:
    """Say whether the machine is on, and what it has launched."""
    answer = _described(args.folder)
    if is_running(open_folder(args.folder)):
        with start(args.folder) as machine:
            answer.update(running=True, **machine.status())
    return answer


def _reset(args: argparse.Namespace) -> Answer:
    """Reboot the machine: PCRs start anew, the TPM's resetCount grows."""
    with start(args.folder) as machine:
        machine.reset()
    return _status(args)


def _timestamp(args: argparse.Namespace) -> Answer:
    """Answer a time-stamping request (RFC 3161) as the machine's simulated authority."""
    try:
        with args.request.open("rb") as file:
            request = file.read(MAX_REQUEST + 1)
    except OSError as error:
        message = f"cannot read {shown(str(args.request))}: {error.strerror}"
        raise UsageError("timestamp.request", message) from error
    response = machine_authority(open_folder(args.folder)).reply(request)
    write_atomically(args.response, response, mode=0o644)
    return {"folder": str(args.folder), "response": str(args.response)}


def _add_files(command: argparse.ArgumentParser) -> None:
    for option, name, metavar, text in (
        ("--in", "request", "REQ.tsq", "the request"),
        ("--out", "response", "RESP.tsr", "where to write the response"),
    ):
        command.add_argument(
            option, dest=name, type=Path, required=True, metavar=metavar, help=text
        )


def _described(path: Path) -> Answer:
    folder = open_folder(path)
    return {
        "folder": str(folder.root),
        "serial": read_manufactured(folder).serial,
        "trust": str(folder.trust),
        "policy": str(folder.policy),
        "launches": [str(launch) for launch in read_launches(folder)],
        "running": False,
    }


def _show(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer))
        return
    width = max(map(len, answer))
    for name, value in answer.items():
        for line in value if isinstance(value, list) else [value]:
            print(f"{name:<{width}}  {safe(str(line))}")


if __name__ == "__main__":
    raise SystemExit(main())
