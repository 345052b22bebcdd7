"""What a result says of the code that ran: which file is which, grouped, and in JSON."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import forge
import jsonschema
import pytest
from verifying import POLICY, judge, world

from enclave_sim.adversary import forged_code
from enclave_sim.adversary.forged_code import (
    RECORDS,
    TORCH,
    approved,
    file,
    package,
    ran,
    references,
)
from laminator.appraise.code_index import Known, classify
from laminator.appraise.code_policy import CodeRules
from laminator.appraise.code_rules import KnownCode, report_code
from laminator.appraise.result import VerificationResult
from laminator.claims import CodeSummary
from laminator.digest import Digest, sha256
from laminator.eventlog import Record
from laminator.reference import ReferenceValues
from laminator.report.card_text import card_text
from laminator.report.code_text import MAX_FILES, MAX_PACKAGES, code_lines
from laminator.report.result_text import result_text

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/verification-result.schema.json").read_bytes()
)
ALLOWING = POLICY._replace(code=CodeRules(unknown="allow"))


def known(*records: Record, **given: Any) -> VerificationResult:
    ours = {"references": [references()], "approved_code": approved(), **given}
    return judge(ran(*records), ALLOWING, **ours)


def lines_of(result: VerificationResult) -> list[str]:
    assert result.code is not None
    return list(code_lines(result.code))


def codes(result: VerificationResult) -> set[str]:
    return {each.code for each in result.caveats if each.code.startswith("code.")}


def test_the_text_groups_by_package() -> None:
    changed = TORCH._replace(digest=bytes(32))
    evil = file("site/evil.py", b"evil")
    result = known(*RECORDS, changed, evil)
    lines = lines_of(result)
    assert lines[:4] == [
        "7 of 10 files are byte for byte known",
        "torch 2.13.0 (wheel): 2 of 3 files",
        "CPython 3.11.7 (interpreter): 2 of 2 files",
        "numpy 2.3.1 (wheel): 2 of 2 files",
    ]
    torch = sha256(b"torch")
    assert lines[4:] == [
        "bootstrap run/bootstrap.py: by the attester's launch reference",
        f"modified: source site/torch/__init__.py sha-256:{'0' * 64}, torch 2.13.0 has {torch}",
        f"unknown: source site/evil.py {sha256(b'evil')}",
        f"approved: entry script/evaluate.py {forged_code.ENTRY.digest}",
        "code without a file: 1 exec, 1 ctypes",
        "native libraries: enforced",
    ]
    text = result_text(result, "x.card")
    assert text.index("the code that ran") < text.index("what this result does not prove")
    assert all(f"  - {line}" in text for line in lines)


def test_many_bad_files_and_packages_stay_readable() -> None:
    records = [file(f"site/p{n:03}/a.py", b"%d" % n) for n in range(300)]
    packages = [package(f"p{n:03}", "1", [records[n]]) for n in range(200)]
    result = known(*records, references=[ReferenceValues("x", tuple(packages))])
    lines = lines_of(result)
    assert len(lines) < MAX_FILES + MAX_PACKAGES + 10
    assert "and 160 more packages; --json lists all" in lines
    assert f"unknown: and {101 - MAX_FILES} more; --json lists all" in lines
    plain = result.to_json()["code"]
    assert isinstance(plain, dict)
    assert (len(plain["files"]), len(plain["packages"])) == (302, 200)


def test_hostile_names_do_not_reach_the_terminal() -> None:
    evil = Record("source", "site/\x1b[2J\u202e.py\nACCEPTED", bytes(32))
    hostile = package("\u202egro", "1", [file("site/a.py", b"a")])
    records = (*RECORDS, evil, file("site/a.py", b"a"))
    result = known(*records, references=[ReferenceValues("", (hostile,))])
    assert all(line.isprintable() for line in result_text(result, "x").splitlines())
    detail = judge(ran(*records)).failures()[0].detail
    assert detail.isprintable()


@pytest.mark.parametrize(
    "result",
    [
        known(*RECORDS),
        known(*RECORDS, TORCH._replace(digest=bytes(32)), file("site/evil.py", b"evil")),
        judge(world()),
        judge(ran(code=CodeSummary("none", "listed", MappingProxyType({}))), ALLOWING),
        judge(b"", ALLOWING),
    ],
    ids=["known", "changed", "unmeasured", "no hook", "no card"],
)
def test_json_follows_its_schema(result: VerificationResult) -> None:
    document = json.loads(json.dumps({"results": [result.to_json()]}))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    (plain,) = document["results"]
    assert (plain["code"] is None) == (result.code is None)
    if result.code is not None:
        assert sum(plain["code"]["counts"].values()) == len(plain["code"]["files"])


def test_json_says_of_each_file_what_it_is() -> None:
    changed = TORCH._replace(digest=bytes(32))
    plain = known(*[record for record in RECORDS if record != TORCH], changed).to_json()["code"]
    assert isinstance(plain, dict)
    (found,) = (each for each in plain["files"] if each["name"] == TORCH.name)
    origin = str(sha256(b"torch-2.13.0"))
    torch = {"name": "torch", "version": "2.13.0", "kind": "wheel", "origin": origin}
    assert found == {
        "event": "source",
        "name": TORCH.name,
        "digest": f"sha-256:{'0' * 64}",
        "status": "modified",
        "package": torch,
        "expected": str(Digest("sha-256", TORCH.digest)),
        "why": None,
    }
    assert {**torch, "known-good": 1, "modified": 1} in plain["packages"]
    assert plain["events"] == {"exec": 1, "ctypes": 1}


def test_of_several_versions_the_one_is_named_that_ran() -> None:
    """A file that two versions share is of the one with the other files."""
    shared, old, new = (file(f"site/t/{name}.py", name.encode()) for name in "abc")
    changed = Record("source", "site/t/d.py", bytes(32))
    versions = (
        package("t", "1", (shared, old, file("site/t/d.py", b"1"))),
        package("t", "2", (shared, new, file("site/t/d.py", b"2"))),
    )
    for records, expected in (((shared, old, changed), "1"), ((shared, new, changed), "2")):
        result = known(*records, references=[ReferenceValues("", versions)])
        assert result.code is not None
        named = {each.package.version for each in result.code.files if each.package is not None}
        assert named == {expected}


def test_a_name_with_two_published_digests() -> None:
    """As two versions have it, one after the other."""
    old, new = (file("site/t/a.py", content) for content in (b"1", b"2"))
    other = Record("source", "site/t/a.py", bytes(32))
    versions = (package("t", "1", (old,)), package("t", "2", (new,)))
    for records in ((old, new, other), (new, old, other), (other, old, new)):
        result = known(*records, *records, references=[ReferenceValues("", versions)])
        assert result.code is not None
        files = result.code.files[2:]
        assert {each.digest: each.status for each in files} == {
            old.digest: "known-good",
            new.digest: "known-good",
            other.digest: "modified",
        }
        assert len(files) == 3


def test_a_file_loaded_in_two_ways_is_one_file() -> None:
    workload = ran(*RECORDS).claims.workload
    twice = (TORCH, TORCH._replace(event="data"), TORCH)
    known_code = Known(references().packages, (), (), launched=True)
    files = classify(workload, twice, known_code)
    assert [each.event for each in files] == ["entry", "interpreter", "source"]


def test_files_of_one_digest_are_each_looked_up_by_name() -> None:
    empty = [file(f"site/{name}/__init__.py", b"") for name in ("a", "b", "c")]
    result = known(*empty, references=[ReferenceValues("", (package("a", "1", empty[:2]),))])
    assert result.code is not None
    assert [each.name for each in result.code.of("unknown")][-1:] == ["site/c/__init__.py"]
    assert len(result.code.of("known-good")) == 2


@pytest.mark.parametrize(
    ("code", "records", "expected"),
    [
        (None, RECORDS[:1], set()),
        (None, (), set()),
        (CodeSummary("none", "listed", {}), (), {"code.modules-none", "code.natives-listed"}),
        (CodeSummary("import-hook", "listed", {}), (), {"code.natives-listed"}),
        (None, (Record("pickle", "", bytes(32)),), {"code.fileless"}),
        (None, (Record("process", "ls", bytes(32)),), {"code.processes"}),
        (None, (file("site/evil.py", b""),), {"code.unknown"}),
    ],
)
def test_caveats(code: CodeSummary | None, records: tuple[Record, ...], expected: set[str]) -> None:
    given = {"references": [references()], "approved_code": approved()}
    made = ran(*records, code=code and code._replace(counts=MappingProxyType(dict(code.counts))))
    result = judge(made, ALLOWING, **given)
    assert result.accepted
    assert codes(result) == expected
    unmeasured = code is not None and code.modules == "none"
    assert ("modules: not measured" in lines_of(result)) == unmeasured


def test_caveats_name_the_numbers() -> None:
    records = [Record("exec", str(n), bytes(32)) for n in range(412)]
    result = judge(ran(*records, Record("memory", "", bytes(32))), ALLOWING)
    said = {each.code: each.text for each in result.caveats}
    assert "412 exec, 1 memory" in said["code.fileless"]
    assert "2 of 2 files" in said["code.unknown"]
    assert codes(judge(world())) == {"code.imports-not-measured"}


def test_a_card_that_does_not_measure_code_has_no_report() -> None:
    card = forge.card(world())
    assert report_code(card, POLICY, KnownCode(), launched=True) is None
    result = judge(world(), POLICY, references=[references()])
    assert result.accepted
    (check,) = (each for each in result.checks if each.id == "policy.code.modified")
    assert check.verdict == "not-applicable"


@pytest.mark.parametrize("kind", ["entry", "interpreter"])
def test_reference_digests_of_a_policy_approve_code(kind: str) -> None:
    digest = getattr(ran().claims.workload, kind).digest
    policy = ALLOWING._replace(
        references=ALLOWING.references._replace(**{kind: frozenset({digest})})
    )
    result = judge(ran(), policy)
    assert result.accepted
    assert result.code is not None
    assert [each.event for each in result.code.of("approved")] == [kind]


def test_a_list_of_failures_is_cut() -> None:
    records = [file(f"site/{n}.py", b"") for n in range(9)]
    detail = judge(ran(*records)).failures()[0].detail
    assert detail.startswith("11 of 11 files unknown: ")
    assert detail.endswith("; and 8 more")


def test_an_unverified_card_shows_its_code_apart_from_its_log() -> None:
    records = [file(f"site/{n:04}.py", b"") for n in range(300)]
    text = card_text(forge.card(ran(*records)))
    assert "modules: import-hook, natives: enforced, records: 300 source" in text
    log, code = text.split("\nlog\n")[1].split("\ncode that ran\n")
    assert "site/" not in log
    assert "output" in log
    assert code.endswith("and 100 more; --json shows all")
    assert "code that ran" not in card_text(forge.card(world()))
