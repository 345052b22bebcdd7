"""Reference values of code: read back as written, and asked what a card's files are."""

from enclave_sim.adversary import forged_code
from enclave_sim.adversary.forged_world import judge
from harnesses.harness import Harness, check_json, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.appraise.check import FAIL
from laminator.reference import (
    CODE_LABELS,
    REFERENCE_KINDS,
    REFERENCE_PROFILE,
    ReferenceValues,
    encode_reference,
    parse_reference,
)
from laminator.report.result_text import result_text

WORDS = (REFERENCE_PROFILE, *REFERENCE_KINDS, *(f"{label}/" for label in CODE_LABELS), "\n")
JUDGED = forged_code.ran(*forged_code.RECORDS)


def check(data: bytes) -> bool:
    """What parses encodes to the same bytes; a file is known by its own name and digest alone."""
    values = parsed(parse_reference, data)
    if values is None:
        return False
    assert encode_reference(values) == data
    pairs = {
        (path, package.digest(place))
        for package in values.packages
        for place, path in enumerate(package.paths)
    }
    result = judge(JUDGED, references=[values])
    check_json({"results": [result.to_json()]}, "verification-result.schema.json")
    assert all(line.isprintable() for line in result_text(result, "x").splitlines())
    assert result.code is not None
    for file in result.code.files:
        by_reference = file.status == "known-good" and file.package is not None
        assert by_reference == ((file.name, file.digest) in pairs or _is_binary(file.digest, pairs))
    # The entry script is in none of the seeds, and nothing approves it.
    assert result.accepted == (not {file.status for file in result.code.files} - {"known-good"})
    assert result.accepted or any(check.verdict == FAIL for check in result.checks)
    return True


def seeds() -> list[bytes]:
    """Return no values, those of all files but the entry script, and one of odd names."""
    odd = forged_code.package("ö\u202e", "", [forged_code.file("other/\u202e  x", b"")], "card")
    known = forged_code.references()
    values = (ReferenceValues("", ()), known, ReferenceValues("odd", (*known.packages, odd)))
    return [encode_reference(each) for each in values]


def _is_binary(digest: bytes, pairs: set[tuple[str, bytes]]) -> bool:
    interpreters = {found for path, found in pairs if path.startswith("interpreter/")}
    return digest == forged_code.INTERPRETER.digest.value and digest in interpreters


HARNESS = Harness(check, seeds, mutate_as_cbor, WORDS)
