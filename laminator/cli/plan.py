"""`laminator plan`: explain a plan, or write one for data that lies here."""

import argparse
import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from laminator.appraise.artifacts import measure_artifact
from laminator.cli.outcome import Outcome, conclude
from laminator.cli.run_options import pairs
from laminator.digest import sha256
from laminator.errors import MalformedError, UsageError
from laminator.plan import MAX_PLAN_BYTES, explain_plan, parse_plan
from laminator.reading import read_bounded

HELP = (
    "Say what a plan fixes and what it leaves open, or write one. A plan says beforehand what will "
    "be measured; docs/plan.md describes the file. Exit status 1: the file is no plan."
)
_MANY: Mapping[str, Any] = {"action": "append", "default": []}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|new")
    check = actions.add_parser("check", help="explain a plan in sentences")
    check.add_argument("file", metavar="PLAN.toml")
    new = actions.add_parser("new", help="print a plan with the digests of these files")
    add = new.add_argument
    add("--runs", metavar="N", type=int, default=1, help="how many runs follow it (default: 1)")
    add("--seed", metavar="nonce|N|none", default="nonce", help="the seed's rule (default: nonce)")
    add("--metric", metavar="NAME", required=True, help="a property to state", **_MANY)
    add("--data", metavar="NAME=PATH", required=True, help="a data set, to be measured", **_MANY)
    add("--model", metavar="PATH", help="the model, to be measured (default: left open)")
    add("--entry", metavar="PATH", help="the script, such as a model's code (default: left open)")
    add("--parameter", metavar="KEY=VALUE", help="a parameter, such as sample=500", **_MANY)
    add("--key", metavar="DIGEST", help="the machine: SHA-256 of its attestation key, as cards say")
    add("--first-run", metavar="N", type=int, help="the machine's next run number")
    for action in (check, new):
        action.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(args: argparse.Namespace) -> int:
    """Do what the action says; return the exit status."""
    work = _check if args.action == "check" else _new
    return conclude(args, f"plan {args.action}", lambda: work(args))


def _check(args: argparse.Namespace) -> Outcome:
    content = read_bounded(args.file, MAX_PLAN_BYTES, "a plan")
    sentences = tuple(explain_plan(parse_plan(content)))
    facts = {"plan": str(sha256(content)), "says": list(sentences)}
    following = f"laminator timestamp {args.file} --tsa URL"
    return Outcome((*sentences, f"Its digest is {sha256(content)}."), facts, following)


def _new(args: argparse.Namespace) -> Outcome:
    text = "\n".join(_lines(args))
    try:
        parse_plan(text.encode())
    except MalformedError as error:
        raise UsageError("plan.new", f"these make no plan: {error.message}") from error
    return Outcome((text,), {"plan": str(sha256(f"{text}\n".encode())), "toml": f"{text}\n"})


def _lines(args: argparse.Namespace) -> Iterator[str]:
    yield "version = 1"
    yield f"runs = {args.runs}"
    yield f"seed = {args.seed if args.seed.isdecimal() else _text(args.seed)}"
    yield f"metric = [{', '.join(map(_text, args.metric))}]"
    if args.model is not None:
        yield f"model = {_text(str(measure_artifact(args.model)))}"
    if args.entry is not None:
        yield f"entry = {_text(str(measure_artifact(args.entry)))}"
    yield "\n[data]"
    for name, path in pairs(args.data, "--data", str).items():
        yield f"{_key(name)} = {_text(str(measure_artifact(path)))}"
    if args.parameter:
        yield "\n[parameters]"
        for name, value in pairs(args.parameter, "--parameter", _value).items():
            yield f"{_key(name)} = {value}"
    if args.key is not None or args.first_run is not None:
        yield "\n[machine]"
        yield f"key = {_text(args.key or '')}"
        yield f"first-run = {args.first_run or 0}"


def _key(name: str) -> str:
    """Return a name as a TOML key, bare where it may be."""
    return _text(name) if {".", "/"} & set(name) else name


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _value(word: str) -> str:
    """Return the word as TOML: itself where it is a number, a truth value or an array."""
    try:
        found = tomllib.loads(f"value = {word}")
    except ValueError:
        return _text(word)
    return word if set(found) == {"value"} and "\n" not in word else _text(word)
