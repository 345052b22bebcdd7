"""One instrumented fuzzing run, in a process of its own: HARNESS, a folder, libFuzzer's arguments.

`scripts/fuzz` starts it. An exception that a harness lets through does not end the run: its first
input is kept under the folder's `findings`, by the place where it was raised.
"""

import hashlib
import sys
import traceback
from pathlib import Path
from random import Random

import atheris

MAX_FINDINGS = 20


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    name, folder, *flags = sys.argv[1:]
    with atheris.instrument_imports(include=["laminator", "enclave_sim", "tomllib"]):
        from harnesses import load

        harness = load(name)
        for seed in harness.seeds():
            harness.check(seed)
    findings, seen = Path(folder, "findings"), set[str]()

    def run(data: bytes) -> None:
        try:
            harness.check(data)
        except Exception as error:  # noqa: BLE001 - whatever a harness lets through is a finding
            _keep(findings, data, error, seen)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        changed = harness.mutate(data, Random(seed), lambda part: _mutate(part, max_size))
        return changed[:max_size]

    atheris.Setup([sys.argv[0], *flags], run, custom_mutator=mutate)
    atheris.Fuzz()


def _mutate(data: bytes, max_size: int) -> bytes:
    mutated: bytes = atheris.Mutate(data, max(max_size, len(data)))
    return mutated


def _keep(folder: Path, data: bytes, error: Exception, seen: set[str]) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} {frame.filename}:{frame.lineno}"
    if place in seen or len(seen) == MAX_FINDINGS:
        return
    seen.add(place)
    folder.mkdir(exist_ok=True)
    (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    traceback.print_exception(error, file=sys.stderr)


if __name__ == "__main__":
    main()
