"""Code that ran and is not what the verifier knows, and logs that lie about it.

The world's machine signs whatever its attester logs, so everything but the attacked place holds.
"""

from types import MappingProxyType
from typing import Any

import forge
import pytest
from verifying import POLICY, claims, judge, obstacles, verdict_of, world

from enclave_sim.adversary import deviations, forged_code, forged_ledger
from enclave_sim.adversary.deviations import Log
from enclave_sim.adversary.forged_code import (
    BOOTSTRAP,
    LIBRARY,
    NUMPY,
    RECORDS,
    TEXT,
    TORCH,
    approved,
    file,
    ran,
    references,
    summary,
)
from enclave_sim.adversary.forged_ledger import ledger, run_of
from enclave_sim.adversary.forged_world import World
from laminator.appraise.code_policy import CodeRules
from laminator.appraise.policy import Policy, References
from laminator.appraise.result import VerificationResult
from laminator.card import encode_card
from laminator.claims import CODE_EVENTS, Artifact, Code, CodeSummary
from laminator.digest import Digest, sha256
from laminator.eventlog import NOTHING, Record
from laminator.reference import ReferenceValues

Given = dict[str, Any]
MODEL = Artifact("model", claims().inputs["model"].digest, 5, 1)


def code_policy(**rules: Any) -> Policy:
    return POLICY._replace(code=CodeRules(**rules))


def known(judged: World, policy: Policy = POLICY, **given: Any) -> VerificationResult:
    """Judge as the verifier who gave the references and approved the entry script."""
    ours: Given = {"references": [references()], "approved_code": approved()}
    return judge(judged, policy, **{**ours, **given})


def exchanged(before: Record, after: Record) -> tuple[Record, ...]:
    changed = tuple(after if record == before else record for record in RECORDS)
    assert changed != RECORDS
    return changed


@pytest.mark.parametrize("unknown", ["refuse", "refuse-measured", "allow"])
def test_all_code_is_known(unknown: str) -> None:
    result = known(ran(*RECORDS), code_policy(unknown=unknown))
    assert result.accepted
    assert result.code is not None
    assert {file.status for file in result.code.files} == {"known-good", "approved"}


# Other code than the verifier knows.


@pytest.mark.parametrize("unknown", ["refuse", "refuse-measured", "allow"])
@pytest.mark.parametrize("record", [TORCH, LIBRARY, NUMPY], ids=lambda record: record.name)
def test_one_byte_of_a_module_is_changed(record: Record, unknown: str) -> None:
    changed = bytes([record.digest[0] ^ 1]) + record.digest[1:]
    made = ran(*exchanged(record, record._replace(digest=changed)))
    result = known(made, code_policy(unknown=unknown))
    assert obstacles(result) == {"policy.code.modified"}
    assert result.code is not None
    (found,) = result.code.of("modified")
    assert (found.name, found.expected, found.digest) == (record.name, record.digest, changed)
    assert found.package is not None
    assert found.package.name in record.name


@pytest.mark.parametrize("unknown", ["refuse", "refuse-measured"])
def test_a_module_that_nobody_published(unknown: str) -> None:
    added = file("site/torch/evil.py", b"evil")
    result = known(ran(*RECORDS, added), code_policy(unknown=unknown))
    assert obstacles(result) == {"policy.unknown-code"}
    assert result.code is not None
    assert [file.name for file in result.code.of("unknown")] == [added.name]


def test_the_bytes_of_one_module_as_another() -> None:
    """Published bytes: numpy's, loaded as torch."""
    as_torch = TORCH._replace(digest=NUMPY.digest)
    assert obstacles(known(ran(*exchanged(TORCH, as_torch)))) == {"policy.code.modified"}
    as_new = NUMPY._replace(name="site/torch/new.py")
    assert obstacles(known(ran(*RECORDS, as_new))) == {"policy.unknown-code"}


def test_a_second_file_under_a_known_name() -> None:
    """The right bytes are loaded first, others later."""
    again = TORCH._replace(digest=sha256(b"changed meanwhile").value)
    assert obstacles(known(ran(*RECORDS, again))) == {"policy.code.modified"}


def test_an_entry_script_that_nobody_approved() -> None:
    for digests in (frozenset(), frozenset({sha256(b"another script")})):
        result = known(ran(*RECORDS), approved_code=digests)
        assert obstacles(result) == {"policy.unknown-code"}


def test_an_entry_script_that_is_not_in_the_log() -> None:
    """What the claims call the entry script is code, whether or not the log has its file."""
    records = [record for record in RECORDS if not record.name.startswith("script/")]
    assert known(ran(*records)).accepted
    assert obstacles(known(ran(*records), approved_code=())) == {"policy.unknown-code"}


def test_another_interpreter() -> None:
    workload = claims().workload._replace(interpreter=Code("3.11.7", sha256(b"my own python")))
    made = ran(*RECORDS, code=summary(RECORDS), changes={"workload": workload})
    assert obstacles(known(made)) == {"policy.unknown-code"}
    assert known(made, approved_code={*approved(), sha256(b"my own python")}).accepted


def test_a_bootstrap_of_another_attester() -> None:
    """Without a launch that is a reference value, the attester's own file is a file like others."""
    policy = POLICY._replace(coverage="none", references=References())
    assert known(ran(*RECORDS)).accepted
    assert obstacles(known(ran(*RECORDS), policy)) == {"policy.unknown-code"}
    named = frozenset({Digest("sha-256", BOOTSTRAP.digest)})
    assert known(ran(*RECORDS), policy, approved_code=approved() | named).accepted


def test_a_module_that_calls_itself_the_bootstrap() -> None:
    """Whoever logs records decides their event: the attester does, and its launch is known."""
    evil = Record("source", BOOTSTRAP.name, BOOTSTRAP.digest)
    assert obstacles(known(ran(evil, *RECORDS[1:]))) == {"policy.unknown-code"}


@pytest.mark.parametrize("allow", [True, False])
def test_a_digest_that_the_policy_forbids(allow: bool) -> None:
    """Known-good and approved, and forbidden all the same."""
    digest = Digest("sha-256", LIBRARY.digest)
    policy = code_policy(forbid=frozenset({digest}), unknown="allow" if allow else "refuse")
    given = {*approved(), digest}
    result = known(ran(*RECORDS), policy, approved_code=given)
    assert obstacles(result) == {"policy.code.forbidden"}
    assert result.failures()[0].detail.count(digest.value.hex()) == 1
    rest = [record for record in RECORDS if record != LIBRARY]
    assert known(ran(*rest), policy).accepted


@pytest.mark.parametrize("which", ["entry", "interpreter"])
def test_a_forbidden_entry_script_or_interpreter(which: str) -> None:
    digest = getattr(claims().workload, which).digest
    result = known(ran(*RECORDS), code_policy(forbid=frozenset({digest})))
    assert obstacles(result) == {"policy.code.forbidden"}


def test_a_forbidden_text() -> None:
    policy = code_policy(forbid=frozenset({Digest("sha-256", TEXT.digest)}))
    assert obstacles(known(ran(*RECORDS), policy)) == {"policy.code.forbidden"}
    nothing = code_policy(forbid=frozenset({Digest("sha-256", NOTHING)}))
    assert known(ran(*RECORDS), nothing).accepted


@pytest.mark.parametrize("event", CODE_EVENTS[4:])
def test_code_without_a_file_where_the_policy_forbids_it(event: str) -> None:
    policy = code_policy(forbid_events=frozenset({event}))
    files = [record for record in RECORDS if record.event not in CODE_EVENTS[4:]]
    assert known(ran(*files), policy).accepted
    odd = Record(event, "site/torch/__init__.py", TORCH.digest)
    assert obstacles(known(ran(*files, odd), policy)) == {"policy.code.events"}


# Attesters that measure less than is asked.


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"unknown": "refuse"}, "policy.unknown-code"),
        ({"forbid": frozenset({sha256(b"x")})}, "policy.code.forbidden"),
        ({"forbid_events": frozenset({"pickle"})}, "policy.code.events"),
    ],
)
def test_a_card_that_says_nothing_of_code(rules: Given, expected: str) -> None:
    assert judge(world()).accepted
    assert verdict_of(judge(world()), "policy.unknown-code") == "not-applicable"
    assert obstacles(judge(world(), code_policy(**rules))) == {expected}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"unknown": "refuse"}, "policy.unknown-code"),
        ({}, "policy.unknown-code"),
        ({"unknown": "allow", "forbid": frozenset({sha256(b"x")})}, "policy.code.forbidden"),
        ({"unknown": "allow", "forbid_events": frozenset({"pickle"})}, "policy.code.events"),
    ],
)
def test_a_card_without_measured_modules(rules: Given, expected: str) -> None:
    code = CodeSummary("none", "listed", MappingProxyType({}))
    assert known(ran(code=code), code_policy(unknown="allow")).accepted
    assert obstacles(known(ran(code=code), code_policy(**rules))) == {expected}


def test_references_alone_approve_nothing_else() -> None:
    empty = ReferenceValues("empty", ())
    result = known(ran(*RECORDS), references=[empty])
    assert obstacles(result) == {"policy.unknown-code"}


def test_a_parent_is_held_to_the_same_code() -> None:
    parent = {
        "kind": "training",
        "inputs": MappingProxyType({}),
        "outputs": MappingProxyType({"weights": MODEL}),
        "properties": (),
    }
    good = forge.card(ran(*RECORDS, changes=parent))
    bad = forge.card(ran(*RECORDS, file("site/evil.py", b"evil"), changes=parent))
    for card, expected in ((good, set()), (bad, {"lineage.model"})):
        child = ran(*RECORDS, changes={"cards": MappingProxyType({"model": card.id})})
        others = [encode_card(card)]
        assert obstacles(known(child, other_cards=others)) == expected


def test_a_ledger_counts_runs_whatever_code_they_ran() -> None:
    entry = forge.card_bytes(ran(file("site/evil.py", b"evil"), changes={"run": run_of(5)}))
    rules = {"unknown": "refuse", "forbid_events": frozenset({"exec"})}
    assert obstacles(judge(entry, code_policy(**rules))) == {"policy.unknown-code"}
    assert forged_ledger.judge(ledger(5, 5, entry), code_policy(**rules)).accepted


# Logs that lie.


@pytest.mark.parametrize("more", [1, -1])
@pytest.mark.parametrize("event", ["source", "native", "exec"])
def test_a_count_in_the_claims_that_is_not_the_logs(event: str, more: int) -> None:
    true = summary(RECORDS)
    counts = {**true.counts, event: true.counts[event] + more}
    lie = ran(*RECORDS, code=true._replace(counts=MappingProxyType(counts)))
    assert obstacles(known(lie)) == {"log.code"}


def test_an_event_that_the_claims_do_not_count() -> None:
    counts = {event: n for event, n in summary(RECORDS).counts.items() if event != "ctypes"}
    lie = ran(*RECORDS, code=summary(RECORDS)._replace(counts=MappingProxyType(counts)))
    assert obstacles(known(lie)) == {"log.code"}


def test_records_that_the_claims_do_not_speak_of() -> None:
    lie = deviations.other_log(world(), lambda log: (*log[:-2], TORCH, *log[-2:]))
    assert obstacles(judge(lie, code_policy(unknown="allow"))) == {"log.code"}


def test_claims_of_records_that_are_not_there() -> None:
    assert obstacles(known(ran(code=summary(RECORDS)))) == {"log.code"}


def test_a_record_of_code_is_dropped() -> None:
    """By whoever signs, and by whoever only has the card."""
    made = ran(*RECORDS, file("site/evil.py", b"evil"))

    def without_evil(log: Log) -> Log:
        return tuple(record for record in log if record.name != "site/evil.py")

    assert obstacles(known(made)) == {"policy.unknown-code"}
    assert obstacles(known(deviations.other_log(made, without_evil))) == {"log.code"}
    dropped = obstacles(known(deviations.carried_log(made, without_evil)))
    assert {"tpm.pcr-digest", "log.head", "log.count", "log.code"} <= dropped


def test_a_record_of_code_before_the_start() -> None:
    made = ran(*RECORDS)

    def moved(log: Log) -> Log:
        place = log.index(TORCH)
        return (log[0], TORCH, *log[1:place], *log[place + 1 :])

    assert obstacles(known(deviations.other_log(made, moved))) == {"log.code"}


def test_a_record_of_code_after_the_end() -> None:
    made = ran(*RECORDS)

    def moved(log: Log) -> Log:
        place = log.index(TORCH)
        return (*log[:place], *log[place + 1 :], TORCH)

    assert obstacles(known(deviations.other_log(made, moved))) == {"log.code"}


def test_other_records_among_those_of_code_are_still_the_claims() -> None:
    made = ran(*RECORDS)
    odd = Record("remark", "", NOTHING)
    lie = deviations.other_log(made, lambda log: (*log[:-2], odd, *log[-2:]))
    assert obstacles(known(lie)) == {"log.claims"}


def test_nothing_is_said_of_code_whose_evidence_does_not_hold() -> None:
    made = ran(*RECORDS)
    lie = deviations.carried_log(made, lambda log: (*log[:-1], log[-1]._replace(name="other")))
    result = known(lie)
    assert not result.accepted
    assert result.code is None
    assert known(made).code is not None


def test_honest_records_of_many_places_are_in_place() -> None:
    """Between start and end is enough: the interpreter's files are measured before `begin`."""
    made = ran(*RECORDS)

    def early(log: Log) -> Log:
        place = log.index(BOOTSTRAP)
        return (*log[:2], BOOTSTRAP, *log[2:place], *log[place + 1 :])

    assert known(deviations.other_log(made, early)).accepted
    assert forged_code.NUMPY in made.log
