"""20,000 records of code against 200,000 reference values, from a file's bytes to each answer.

The peer is an allow-list as one would write it by hand: a JSON object from each name to the hex of
its SHA-256, loaded into one dict, and a look-up for every record. It bounds and checks nothing of
its file, has one version of each file, and names no package.
"""

import hashlib
import json
import tempfile
from pathlib import Path

from benchmarks.timing import Report, arguments, interleave, medians, paired_ratio, show
from enclave_sim.adversary.forged_world import claims
from laminator.appraise.code_index import Known, classify, packages_of
from laminator.eventlog import Record
from laminator.reference import (
    ReferencePackage,
    ReferenceValues,
    encode_reference,
    parse_reference,
)

PACKAGES, FILES, RECORDS = 200, 1000, 20_000
LIMIT_MS = 100
OURS = "a file of reference values, and a match"
PEER = "an allow-list in JSON, and a dict"


def made_up(number: int) -> ReferencePackage:
    """Return one package's values."""
    name = f"package_{number:03}"
    paths = tuple(sorted(f"site/{name}/part_{n % 20:02}/module_{n:04}.py" for n in range(FILES)))
    digests = b"".join(hashlib.sha256(path.encode()).digest() for path in paths)
    return ReferencePackage(name, "1.0", "wheel", None, paths, digests)


def measure(rounds: int) -> Report:
    """Time both `rounds` times."""
    values = ReferenceValues("benchmark", tuple(map(made_up, range(PACKAGES))))
    step = PACKAGES * FILES // RECORDS
    files = [
        (path, package.digest(place))
        for package in values.packages
        for place, path in enumerate(package.paths)
    ]
    records = [Record("source", path, digest) for path, digest in files[::step]]
    workload = claims().workload
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = Path(folder, "values.ref"), Path(folder, "values.json")
        ours.write_bytes(encode_reference(values))
        peer.write_text(json.dumps({path: digest.hex() for path, digest in files}))

        def match() -> None:
            packages = packages_of([parse_reference(ours.read_bytes())])
            answers = classify(workload, records, Known(packages, (), (), launched=True))
            if sum(answer.status == "known-good" for answer in answers) != RECORDS:
                raise ValueError("a record is not known")

        def match_dict() -> None:
            allowed = json.loads(peer.read_bytes())
            if not all(allowed.get(name) == digest.hex() for _, name, digest in records):
                raise ValueError("a record is not known")

        seconds = interleave({OURS: match, PEER: match_dict}, rounds)
    middle = medians(seconds, "ms")
    return Report(
        name="match_references",
        unit="ms",
        rounds=rounds,
        medians=middle,
        results={
            "milliseconds": middle[OURS],
            "ratio to the dict": paired_ratio(seconds, OURS, PEER),
        },
        targets={"milliseconds": LIMIT_MS},
    )


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=15)
    show(measure(options.rounds), as_json=options.json)
