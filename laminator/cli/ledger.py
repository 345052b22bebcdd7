"""`laminator ledger`: this user's runs by number, and a ledger of them to hand over."""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laminator.errors import UsageError
from laminator.ledger import LEDGER_SUFFIX
from laminator.report.text import safe, safe_message
from laminator.run.atomic import write_atomically
from laminator.run.ledger_export import Export, choose_machine, export_ledger
from laminator.run.run_list import default_path, is_cut
from laminator.run.runs import LoggedRun, MachineRuns, machines

HELP = (
    "List this user's runs by number, with what is left of each: a card, a failure record, or "
    "nothing. `export` collects cards and failure records of an interval of numbers into a file "
    "that an auditor checks with `laminator verify --ledger`; its exit status is 1 where numbers "
    "are missing in that file."
)
INCOMPLETE_STATUS = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    _add_list(parser, json_default=False)
    actions = parser.add_subparsers(dest="action", metavar="export")
    export = actions.add_parser("export", help="write a ledger to hand over")
    add = export.add_argument
    add("--from", dest="first", type=int, metavar="N", help="default: the first listed number")
    add("--to", dest="last", type=int, metavar="N", help="default: the last listed number")
    add("--key", metavar="DIGEST", help="the attestation key, where several ran here")
    add("--out", metavar=f"FILE{LEDGER_SUFFIX}", required=True, help="the ledger to write")
    _add_list(export, json_default=argparse.SUPPRESS)


def _add_list(parser: argparse.ArgumentParser, *, json_default: Any) -> None:  # noqa: ANN401
    missing = argparse.SUPPRESS if json_default is argparse.SUPPRESS else None
    parser.add_argument(
        "--list", metavar="FILE", default=missing, help="another list of runs than your own"
    )
    parser.add_argument(
        "--json", action="store_true", default=json_default, help="print the outcome as JSON"
    )


def run(args: argparse.Namespace) -> int:
    """List the runs, or export some of them; return the exit status."""
    path = default_path() if args.list is None else Path(args.list)
    found = machines(path)
    if is_cut(path):
        said = f"the oldest runs of {safe(str(path))} are not read: keep it, and begin another"
        print(f"laminator ledger: {said}", file=sys.stderr)
    if args.action == "export":
        return _export(args, path, found)
    if args.json:
        print(json.dumps({"list": str(path), "machines": list(map(_machine_json, found))}))
    elif found:
        print("\n\n".join("\n".join(_machine_text(each)) for each in found))
    else:
        print(f"laminator ledger: no run is listed in {safe(str(path))} yet", file=sys.stderr)
    return 0


def _export(args: argparse.Namespace, path: Path, found: tuple[MachineRuns, ...]) -> int:
    if not found:
        raise UsageError("ledger.empty", f"no run is listed in {path}")
    machine = choose_machine(found, args.key)
    export = export_ledger(machine, args.first, args.last)
    write_atomically(Path(args.out), export.content, mode=0o644)
    if args.json:
        print(json.dumps({"ledger": args.out, **_export_json(machine, export)}))
    else:
        counts = f"{export.cards} card(s), {export.failures} failure record(s)"
        print(f"wrote {safe(args.out)}: numbers {export.first} to {export.last}, {counts}")
        for number, reason in export.missing:
            print(safe_message(f"  missing {number}: {reason}"))
        print(safe_message(f"next: laminator verify --ledger {shlex.quote(args.out)}"))
    return INCOMPLETE_STATUS if export.missing else 0


def _machine_text(machine: MachineRuns) -> Iterator[str]:
    yield f"key {machine.key}" if machine.key else "key unknown (lines of an older version)"
    rows = [(run.number, _state(run), _about(run)) for run in machine.runs]
    rows += [(number, "MISSING", "not in this list") for number in machine.missing]
    width = max(len(str(number)) for number, *_ in rows)
    state_width = max(len(state) for _, state, _ in rows)
    for number, state, about in sorted(rows):
        yield f"  {number:>{width}}  {state:<{state_width}}  {safe(about)}".rstrip()


def _state(run: LoggedRun) -> str:
    return run.entry.outcome if run.state == "failed" else run.state


def _about(run: LoggedRun) -> str:
    where = run.entry.card if run.state == "card" else run.entry.failure
    return run.lack or where


def _machine_json(machine: MachineRuns) -> dict[str, object]:
    return {
        "key": machine.key or None,
        "missing": list(machine.missing),
        "runs": list(map(_run_json, machine.runs)),
    }


def _run_json(run: LoggedRun) -> dict[str, object]:
    entry = run.entry
    return {
        "number": run.number,
        "run": entry.run,
        "state": run.state,
        "outcome": entry.outcome or None,
        "id": entry.id or None,
        "card": entry.card,
        "failure": entry.failure or None,
        "kept": run.evidence is not None,
        "lack": run.lack or None,
    }


def _export_json(machine: MachineRuns, export: Export) -> dict[str, object]:
    return {
        "key": machine.key,
        "from": export.first,
        "to": export.last,
        "cards": export.cards,
        "failures": export.failures,
        "missing": [each._asdict() for each in export.missing],
    }
