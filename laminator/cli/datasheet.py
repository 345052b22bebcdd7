"""`laminator datasheet`: measure the records of data sets and write a card."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from laminator.cli.run_options import (
    Task,
    absolute,
    build_request,
    configure_common,
    pairs,
    prepare,
)
from laminator.errors import UsageError, shown
from laminator.records.json_lines import parse_json
from laminator.records.minhash import make_method
from laminator.records.schema import Schema, read_schema
from laminator.run import record_measurer
from laminator.run.driver import FAILURE_STATUS, drive
from laminator.run.record_orders import Datasheet, check_named, plain_datasheet
from laminator.run.request import RunRequest

__all__ = ["FAILURE_STATUS", "HELP", "configure", "prepare", "request", "run"]

HELP = (
    "Measure the records of data sets and write a card: a digest of each that does not depend on "
    "order, split or format, and what data sets have in common. No program of yours runs. "
    "Example: laminator datasheet --data train=train.csv --data test=test.csv --disjoint "
    "train,test --simulated"
)
MAX_SCHEMA_BYTES = 4 * 1024 * 1024
_MANY: Mapping[str, object] = {"action": "append", "default": []}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add = parser.add_argument
    add(
        "--data",
        metavar="NAME=PATH",
        required=True,
        action="append",
        help="a data set: .csv, .jsonl, .npy, .npz, .safetensors, .tar (webdataset), .parquet, "
        ".arrow, a folder of images by class, or a folder of shards of one format",
    )
    add("--records", metavar="NAME", help="digest these records (default: of all data)", **_MANY)  # type: ignore[arg-type]
    add("--disjoint", metavar="A,B", help="say whether A and B share a record, exactly", **_MANY)  # type: ignore[arg-type]
    add(
        "--near-duplicates",
        metavar="A,B",
        help="estimate by MinHash how many records of B are like one of A",
        **_MANY,  # type: ignore[arg-type]
    )
    add("--threshold", metavar="T", type=float, default=0.8, help="how like (default: 0.8)")
    add("--sum", metavar="A+B=C", help="say whether C has the records of A and B together", **_MANY)  # type: ignore[arg-type]
    add("--schema", metavar="FILE", help="the columns' types, as JSON (default: inferred)")
    configure_common(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; return the exit status, or FAILURE_STATUS for a failure of ours."""
    return drive(request(args), attester=args.attester, simulated=args.simulated)


def request(args: argparse.Namespace) -> RunRequest:
    """Return the request that the arguments make. Raises UsageError, MalformedError."""
    if args.input or args.output:
        message = "datasheet takes --data in place of --input, and has no --output"
        raise UsageError("datasheet.inputs", message)
    inputs = pairs(args.data, "--data", absolute)
    for path in inputs.values():
        if not Path(path).exists():
            raise UsageError("datasheet.missing", f"there is no {shown(path)}")
    sheet = Datasheet(
        records=tuple(args.records or inputs),
        disjoint=tuple(_pair(word, "--disjoint") for word in args.disjoint),
        near=tuple(_pair(word, "--near-duplicates") for word in args.near_duplicates),
        sums=tuple(_sum(word) for word in args.sum),
        threshold=make_method(args.threshold).threshold,
        schema=None if args.schema is None else _schema(Path(args.schema)),
    )
    check_named(sheet, set(inputs))
    task = Task(
        verb="datasheet",
        argv=(absolute(sys.executable), record_measurer.__file__),
        script=1,
        kind="datasheet",
        card=f"{next(iter(inputs))}.datasheet.card",
        options=plain_datasheet(sheet),
    )
    return build_request(args, task)._replace(inputs=inputs)


def _pair(word: str, option: str) -> tuple[str, str]:
    match word.split(","):
        case [one, other] if one and other:
            return one, other
        case _:
            raise UsageError("option.pair", f"{option} {shown(word)}: expected A,B")


def _sum(word: str) -> tuple[str, str, str]:
    parts, _, whole = word.partition("=")
    names: Sequence[str] = [*parts.split("+"), whole]
    match names:
        case [one, other, whole] if one and other and whole:
            return one, other, whole
        case _:
            raise UsageError("option.sum", f"--sum {shown(word)}: expected A+B=C")


def _schema(path: Path) -> Schema:
    try:
        with path.open("rb") as file:
            return read_schema(parse_json(file.read(MAX_SCHEMA_BYTES)))  # type: ignore[arg-type]
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise UsageError("datasheet.schema", f"{shown(str(path))}: {reason}") from error
