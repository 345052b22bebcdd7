"""Interleaved timing: contestants take turns, so that a busy machine slows all of them alike."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class Report(NamedTuple):
    """A benchmark's outcome: medians in `unit`, ratios and differences drawn from them."""

    name: str
    unit: str
    rounds: int
    medians: Mapping[str, float]
    results: Mapping[str, float]
    targets: Mapping[str, float]


def interleave(
    contestants: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Run every contestant once to warm up, then `rounds` times in turn; return seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        call()
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            start = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds: Mapping[str, Sequence[float]], unit: str) -> dict[str, float]:
    """Return each contestant's median in `unit`."""
    return {
        name: statistics.median(values) / SECONDS_PER_UNIT[unit] for name, values in seconds.items()
    }


def paired_ratio(seconds: Mapping[str, Sequence[float]], name: str, against: str) -> float:
    """Return the median of the rounds' own ratios: steadier than the ratio of medians."""
    pairs = zip(seconds[name], seconds[against], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def arguments(description: str, rounds: int) -> argparse.Namespace:
    """Parse `--json` and `--rounds`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    return parser.parse_args()


def show(report: Report, *, as_json: bool) -> None:
    """Print a report as one JSON line or as a few lines of text."""
    if as_json:
        print(json.dumps(report._asdict()))
        return
    print(f"{report.name} (median of {report.rounds}, interleaved)")
    for name, value in report.medians.items():
        print(f"  {name:<44} {value:10.2f} {report.unit}")
    for name, value in report.results.items():
        target = report.targets.get(name)
        note = "" if target is None else f"  target <= {target:g}"
        print(f"  {name:<44} {value:10.3f}{note}")
