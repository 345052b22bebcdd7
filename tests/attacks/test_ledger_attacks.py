"""What a prover tries with a ledger of runs: hide a number, invent a failure, count one twice.

Each attack is stopped by one check of the ledger, or of the one entry that it is in.
"""

from collections.abc import Iterator

import pytest
from raw_swtpm import RawSwtpm, running_swtpm

from enclave_sim.adversary import forged_ledger as forged
from enclave_sim.adversary import forged_world, lying_attester
from enclave_sim.adversary.forged_ledger import (
    card_of,
    entry_failures,
    failed_run,
    failure,
    failure_bytes,
    failure_evidence,
    judge,
    ledger,
    run_of,
    stopped_by,
)
from enclave_sim.adversary.forged_tpm import certified, machine, signed
from laminator import cbor
from laminator.appraise.ledger import verify_ledger
from laminator.appraise.ledger_result import LedgerResult
from laminator.attest.tpm import AttestationTpm, CounterCertification
from laminator.card import ConceptualMessage, parse_card
from laminator.claims import Launch
from laminator.digest import sha256
from laminator.endorsements import PLAN_MEDIA_TYPE
from laminator.errors import MalformedError
from laminator.evidence import tpm
from laminator.evidence import tpm_structures as structures
from laminator.failure import FAILURE_PROFILE, encode_failure, parse_failure
from laminator.ledger import LEDGER_PROFILE, MAX_NUMBERS, parse_entry, parse_ledger

OTHER = "another machine"


def failed(number: int, outcome: str = "interrupted") -> bytes:
    return failure_bytes(failed_run(number, outcome))


def test_an_honest_ledger_is_accepted() -> None:
    result = judge(ledger(7, 10, card_of(7), failed(8), card_of(9), failed(10, "refused")))
    assert result.accepted, result.failures()
    found = [(each.number, each.entry, each.kind, each.verdict) for each in result.numbers]
    assert found == [
        (7, "card", "evaluation", "accepted"),
        (8, "failure", "interrupted", "accepted"),
        (9, "card", "evaluation", "accepted"),
        (10, "failure", "refused", "accepted"),
    ]
    assert result.key is not None
    assert (result.trust.root, result.trust.coverage) == ("simulated", "launch")


# --- gaps


def test_a_run_left_out() -> None:
    result = judge(ledger(7, 9, card_of(7), card_of(9)))
    assert stopped_by(result) == {"ledger.gaps"}
    assert [(each.number, each.entry) for each in result.numbers][1] == (8, "gap")
    assert "8" in next(check.detail for check in result.checks if check.id == "ledger.gaps")


@pytest.mark.parametrize(
    ("first", "last", "numbers"),
    [(7, 7, (7, 9)), (9, 9, (7, 9)), (7, 8, (8, 7))],
    ids=["end early", "start late", "disorder"],
)
def test_an_interval_that_hides_a_gap(first: int, last: int, numbers: tuple[int, ...]) -> None:
    result = judge(ledger(first, last, *(card_of(number) for number in numbers)))
    assert stopped_by(result) == {"ledger.interval"}


@pytest.mark.parametrize(
    ("first", "last", "numbers"),
    [(0, 1, (1,)), (9, 7, (7, 8, 9)), (9, 8, (8,))],
    ids=["from zero", "backwards", "backwards by one"],
)
def test_what_is_no_interval_has_no_gaps(first: int, last: int, numbers: tuple[int, ...]) -> None:
    result = judge(ledger(first, last, *(card_of(number) for number in numbers)))
    assert stopped_by(result) == {"ledger.interval", "ledger.gaps"}


def test_an_interval_cut_short_says_what_it_leaves_out() -> None:
    """The sender may choose the interval; the verdict says that nothing is shown beyond it."""
    result = judge(ledger(7, 7, card_of(7)))
    assert result.accepted
    (caveat,) = (each for each in result.caveats if each.code == "ledger.interval")
    assert "Only the numbers 7 to 7" in caveat.text


@pytest.mark.parametrize("last", [7 + MAX_NUMBERS, 2**64 - 1])
def test_an_interval_without_end(last: int) -> None:
    result = judge(ledger(7, last, card_of(7)))
    assert stopped_by(result) == {"ledger.interval", "ledger.gaps"}
    assert len(result.numbers) == 1


# --- a missing number filled from elsewhere


def test_a_card_of_another_machine() -> None:
    other = machine(label=OTHER)
    both = (machine().trust, other.trust)
    trust = both[0]._replace(
        anchors=(*both[0].anchors, *both[1].anchors), crls=(*both[0].crls, *both[1].crls)
    )
    foreign = card_of(8, other)
    data = ledger(7, 8, card_of(7), foreign)
    result = verify_ledger(data, forged_world.POLICY, trust=trust, now=forged_world.NOW)
    assert stopped_by(result) == {"ledger.machine"}
    assert result.key is None


def test_a_card_of_another_key_of_the_machine() -> None:
    """The authority vouches for both keys, and the counter is the same one."""
    own = machine()
    key = machine("rsassa")
    second = key._replace(root=own.root, authority=own.authority, trust=own.trust)
    data = ledger(7, 8, card_of(7), card_of(8, certified(second)))
    assert stopped_by(judge(data)) == {"ledger.machine"}


def test_a_failure_record_of_another_key() -> None:
    own = machine()
    second = machine("rsassa")._replace(root=own.root, authority=own.authority, trust=own.trust)
    foreign = failure_bytes(failed_run(8, machine_=certified(second)))
    assert stopped_by(judge(ledger(7, 8, card_of(7), foreign))) == {"ledger.machine"}


def test_a_number_of_another_counter() -> None:
    own = machine()
    index = own.counter._replace(nv_index=own.counter.nv_index + 1)
    other = own._replace(counter=index)
    result = judge(ledger(7, 8, card_of(7), failure_bytes(failed_run(8, machine_=other))))
    assert stopped_by(result) == {"ledger.entries"}
    assert entry_failures(result) == {8: {"run.counter.index", "run.counter.endorsed"}}


# --- failure records that are not what they say


def test_a_failure_without_the_tpm() -> None:
    """Somebody without the key signs what an attester would have signed."""
    honest = failed_run(8)
    stranger = machine(label=OTHER).key
    evidence = failure_evidence(honest)._replace(
        start=signed(honest.machine, honest.start, stranger),
        end=signed(honest.machine, honest.end, stranger),
        counter=signed(honest.machine, honest.counter, stranger),
    )
    result = judge(ledger(7, 8, card_of(7), failure_bytes(honest, evidence)))
    assert stopped_by(result) == {"ledger.entries"}
    assert entry_failures(result) == {8: {"tpm.signature"}}


def test_a_failure_with_another_outcome() -> None:
    honest, other = failed_run(8, "workload-failed"), failed_run(8, "interrupted")
    lie = failure_bytes(other, failure_evidence(honest))
    result = judge(ledger(7, 8, card_of(7), lie))
    assert stopped_by(result) == {"ledger.entries"}
    assert entry_failures(result) == {8: {"tpm.binding", "tpm.pcr-digest"}}


def test_an_outcome_that_was_never_logged() -> None:
    """The quote is over the record's claims, but PCR 23 says another ending."""
    honest, other = failed_run(8, "workload-failed"), failed_run(8, "interrupted")
    quoted = honest.end._replace(attested=other.end.attested)
    result = judge(ledger(8, 8, failure_bytes(honest._replace(end=quoted))))
    assert entry_failures(result) == {8: {"tpm.pcr-digest"}}


def test_the_record_of_another_run_under_this_number() -> None:
    """A record replayed: its claims with another number, its evidence as it was."""
    honest = failed_run(8)
    moved = honest.claims._replace(run=honest.claims.run._replace(number=9))
    lie = failure_bytes(honest._replace(claims=moved))
    result = judge(ledger(9, 9, lie))
    wrong = {"tpm.start-binding", "tpm.binding", "tpm.start-pcr-digest", "tpm.pcr-digest"}
    assert entry_failures(result) == {9: wrong | {"run.counter.value"}}


def test_a_counter_certification_of_another_run() -> None:
    """Everything is quoted anew over another run's certification of the number."""
    honest, other = failed_run(8), failed_run(8, run=run_of(8, b"another run's id"))
    evidence = failure_evidence(honest)._replace(counter=signed(honest.machine, other.counter))
    result = judge(ledger(8, 8, failure_bytes(honest, evidence)))
    assert "run.counter.binding" in entry_failures(result)[8]


def test_a_certification_that_shows_another_number() -> None:
    honest = failed_run(8)
    shown = forged.failed_run(7, run=honest.claims.run._replace(number=7))
    evidence = failure_evidence(honest)._replace(counter=signed(honest.machine, shown.counter))
    result = judge(ledger(8, 8, failure_bytes(honest, evidence)))
    assert "run.counter.value" in entry_failures(result)[8]


def test_a_failure_after_a_restart_of_the_tpm() -> None:
    honest = failed_run(8)
    later = honest.end._replace(clock_info=honest.end.clock_info._replace(reset_count=4))
    result = judge(ledger(8, 8, failure_bytes(honest._replace(end=later))))
    assert entry_failures(result) == {8: {"tpm.clock"}}


def test_a_failure_declared_in_the_future() -> None:
    soon = int(forged_world.NOW.timestamp()) + 3600
    result = judge(ledger(8, 8, failure_bytes(failed_run(8, iat=soon))))
    assert entry_failures(result) == {8: {"claims.future"}}


def test_a_failure_of_another_launch() -> None:
    """The attester's code is one that no reference value names."""
    other = Launch("drtm-simulated", sha256(b"code that calls everything a failure"))
    foreign = run_of(8)._replace(launch=other)
    result = judge(ledger(8, 8, failure_bytes(failed_run(8, run=foreign))))
    assert stopped_by(result) == {"ledger.entries"}
    assert set(result.numbers[0].failures) == {"policy.coverage", "policy.reference.launch"}


def test_a_key_that_quotes_by_itself_proves_no_more_than_coverage_says() -> None:
    """Who owns a host without proven code can have any failure signed; the verdict says so."""
    unlaunched = run_of(8)._replace(launch=Launch("none"))
    policy = forged_world.POLICY._replace(
        coverage="none", references=forged_world.POLICY.references._replace(launch=frozenset())
    )
    result = judge(ledger(8, 8, failure_bytes(failed_run(8, run=unlaunched))), policy)
    assert result.accepted, result.failures()
    codes = {caveat.code for caveat in result.caveats}
    assert {"coverage.none", "ledger.outcomes", "ledger.same-number"} <= codes


def test_evidence_of_an_unknown_kind() -> None:
    record = failure(failed_run(8))
    odd = record._replace(evidence=ConceptualMessage("application/x-tpm", record.evidence.value))
    result = judge(ledger(8, 8, encode_failure(odd)))
    assert "evidence.set" in entry_failures(result)[8]


def test_evidence_that_is_no_tpm_s() -> None:
    record = failure(failed_run(8))
    odd = record._replace(evidence=ConceptualMessage(tpm.TPM_MEDIA_TYPE, b"\xa0"))
    result = judge(ledger(8, 8, encode_failure(odd)))
    assert "tpm.parse" in entry_failures(result)[8]


# --- a card is no failure record, and no failure record a card


def test_a_failure_record_is_no_card_and_a_card_no_failure_record() -> None:
    with pytest.raises(MalformedError, match="profile"):
        parse_card(failed(8))
    with pytest.raises(MalformedError, match="profile"):
        parse_failure(card_of(8))


def test_a_failure_s_evidence_in_a_card() -> None:
    """The same run, its claims those of a card: the binding is another, and so is the log."""
    run = run_of(8)
    world = forged_world.world(claims=forged_world.claims(run=run))
    evidence = failure_evidence(failed_run(8, run=run))
    result = judge(ledger(8, 8, forged_world.card_bytes(world, evidence)))
    assert entry_failures(result) == {8: {"tpm.binding", "tpm.pcr-digest"}}


def test_a_card_s_evidence_in_a_failure_record() -> None:
    """A run that has a card is to pass for one that failed."""
    run = run_of(8)
    world = forged_world.world(claims=forged_world.claims(run=run))
    lie = failure_bytes(failed_run(8, run=run), forged_world.evidence(world))
    result = judge(ledger(8, 8, lie))
    assert entry_failures(result) == {8: {"tpm.binding", "tpm.pcr-digest"}}


def test_the_claims_of_a_card_in_a_failure_record() -> None:
    card = parse_card(card_of(8))
    lie = cbor.encode(
        {"profile": FAILURE_PROFILE, "claims": card.claims_bytes, "evidence": card.evidence[0]}
    )
    with pytest.raises(MalformedError):
        parse_failure(lie)
    assert stopped_by(judge(ledger(8, 8, lie))) >= {"ledger.entries"}


# --- one number for two runs


@pytest.mark.parametrize(
    "second",
    [
        failed_run(7),
        failed_run(7, run=run_of(7, b"another run's id")),
    ],
    ids=["a failure of the run that has the card", "another run"],
)
def test_a_number_twice(second: forged.FailedRun) -> None:
    result = judge(ledger(7, 8, card_of(7), failure_bytes(second), card_of(8)))
    assert stopped_by(result) == {"ledger.numbers"}


def test_the_same_card_twice_hides_no_gap() -> None:
    assert stopped_by(judge(ledger(7, 8, card_of(7), card_of(7), card_of(8)))) == {"ledger.numbers"}


@pytest.fixture(scope="module")
def swtpm() -> Iterator[RawSwtpm]:
    with running_swtpm() as running:
        yield running


def test_a_number_certified_for_two_runs(swtpm: RawSwtpm) -> None:
    """NV_Certify repeats for as many run ids as it is asked: a TPM's owner needs no number more."""
    with AttestationTpm(swtpm.connect()) as tpm_:

        def again(machine_: AttestationTpm, qualifying_data: bytes) -> CounterCertification:
            index = structures.RUN_COUNTER_INDEX
            certification = machine_.certify_counter(index, qualifying_data)
            return CounterCertification(*certification, machine_.counter_public(index))

        one = lying_attester.run(tpm_, "one")
        two = lying_attester.run(tpm_, "two", counting=again)
    number = one.claims.run.number
    assert two.claims.run.number == number
    for run in (one, two):
        assert run.judge(lying_attester.POLICY).accepted
        alone = verify_ledger(
            ledger(number, number, run.card()),
            lying_attester.POLICY,
            trust=run.trust,
            now=forged_world.NOW,
        )
        assert alone.accepted
        assert "ledger.same-number" in {caveat.code for caveat in alone.caveats}
    both = verify_ledger(
        ledger(number, number, one.card(), two.card()),
        lying_attester.POLICY,
        trust=one.trust,
        now=forged_world.NOW,
    )
    assert stopped_by(both) == {"ledger.numbers"}


# --- more runs than planned

PLAN = f"""\
version = 1
runs = 2
seed = "none"
metric = ["accuracy"]
[data]
test = "{sha256(b"data")}"
""".encode()


def planned(number: int, plan: bytes | None = PLAN, carried: bytes | None = None) -> bytes:
    """Return a card of a run that names `plan`, and carries the plan `carried`."""
    run = run_of(number)._replace(plan=None if plan is None else sha256(plan))
    world = forged_world.world(claims=forged_world.claims(run=run))
    if carried is not None:
        world = world._replace(endorsements=(ConceptualMessage(PLAN_MEDIA_TYPE, carried),))
    return forged_world.card_bytes(world)


def failed_plan(number: int) -> bytes:
    return failure_bytes(failed_run(number, run=run_of(number)._replace(plan=sha256(PLAN))))


def plans_verdict(data: bytes) -> str:
    (check,) = (each for each in judge(data).checks if each.id == "ledger.plans")
    return check.verdict


def judged_with(plan: bytes, data: bytes) -> LedgerResult:
    """Return what a verifier says who holds the plan."""
    return verify_ledger(
        data, forged_world.POLICY, trust=machine().trust, now=forged_world.NOW, plan=plan
    )


def test_more_runs_than_planned() -> None:
    """One run beyond the plan, which failed: a failure is a run as well."""
    data = ledger(7, 9, planned(7, carried=PLAN), planned(8), failed_plan(9))
    assert stopped_by(judge(data)) == {"ledger.plans"}


def test_as_many_runs_as_planned() -> None:
    data = ledger(7, 9, planned(7, carried=PLAN), failed_plan(8), planned(9, plan=None))
    assert judge(data).accepted
    assert plans_verdict(data) == "pass"


@pytest.mark.parametrize("carried", [None, PLAN + b"#", b"runs"], ids=["none", "other", "no plan"])
def test_a_plan_that_no_card_carries_is_not_checked(carried: bytes | None) -> None:
    data = ledger(7, 7, planned(7, carried=carried))
    assert judge(data).accepted
    assert plans_verdict(data) == "not-checked"


def test_more_runs_than_a_plan_allows_that_no_card_carries() -> None:
    """The provider takes the plan out of its cards; a verifier who holds it counts all the same."""
    data = ledger(7, 9, planned(7), planned(8), failed_plan(9))
    assert judge(data).accepted
    assert stopped_by(judged_with(PLAN, data)) == {"ledger.plans"}
    assert judged_with(PLAN, ledger(7, 8, planned(7), planned(8))).accepted


def test_a_ledger_without_a_run_of_the_verifiers_plan() -> None:
    data = ledger(7, 8, planned(7, plan=None), planned(8, plan=PLAN + b"#"))
    assert judge(data).accepted
    assert stopped_by(judged_with(PLAN, data)) == {"ledger.plans"}


def test_a_plan_that_cannot_be_read_is_not_checked() -> None:
    data = ledger(7, 7, planned(7, plan=b"runs", carried=b"runs"))
    assert plans_verdict(data) == "not-checked"


# --- bytes


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x81" * 40,
        card_of(7),
        cbor.encode({"profile": LEDGER_PROFILE, "from": 1, "to": 1}),
        cbor.encode({"profile": LEDGER_PROFILE, "from": 1, "to": 1, "entries": (), "more": 1}),
        cbor.encode({"profile": LEDGER_PROFILE, "from": -1, "to": 1, "entries": ()}),
        cbor.encode({"profile": LEDGER_PROFILE, "from": 1, "to": 1, "entries": (1,)}),
        cbor.encode({"profile": "tag:else", "from": 1, "to": 1, "entries": ()}),
        cbor.encode(
            {"profile": LEDGER_PROFILE, "from": 1, "to": 1, "entries": (b"x",) * 1_000_000}
        ),
        ledger(7, 7, card_of(7)) + b"\x00",
    ],
    ids=[
        *("nothing", "a break", "nested", "a card", "no entries", "more fields", "negative"),
        *("an entry that is no bytes", "another profile", "a million entries", "trailing"),
    ],
)
def test_bytes_that_are_no_ledger(data: bytes) -> None:
    result = judge(data)
    assert (result.verdict, stopped_by(result)) == ("rejected", {"ledger.parse"})
    assert (result.numbers, result.first, result.key) == ((), None, None)


def test_a_ledger_of_nothing() -> None:
    result = judge(ledger(7, 7))
    assert stopped_by(result) == {"ledger.machine", "ledger.gaps"}


@pytest.mark.parametrize(
    "entry",
    [b"\xff", ledger(7, 7), b"\x81" * 40, cbor.encode({"profile": FAILURE_PROFILE})],
    ids=["a break", "a ledger in a ledger", "nested", "a failure of nothing"],
)
def test_an_entry_that_is_none(entry: bytes) -> None:
    result = judge(ledger(7, 8, card_of(7), entry))
    kind = "failure" if FAILURE_PROFILE.encode() in entry else "card"
    assert result.numbers[-1].failures == (f"{kind}.parse",)
    assert stopped_by(result) == {"ledger.entries", "ledger.gaps"}
    assert (result.numbers[-1].entry, result.numbers[-1].number) == ("unreadable", None)


def test_an_oversized_entry() -> None:
    record = failure(failed_run(8))
    huge = cbor.encode(
        {
            "profile": FAILURE_PROFILE,
            "claims": record.claims_bytes,
            "evidence": (record.evidence.media_type, bytes(300_000)),
        }
    )
    result = judge(ledger(8, 8, huge))
    assert stopped_by(result) >= {"ledger.entries"}
    with pytest.raises(MalformedError, match="limit"):
        parse_failure(huge)


def test_the_parsers_say_what_they_found() -> None:
    data = ledger(7, 8, card_of(7), failed(8))
    parsed = parse_ledger(data)
    assert (parsed.first, parsed.last, len(parsed.entries)) == (7, 8, 2)
    assert [type(parse_entry(entry)).__name__ for entry in parsed.entries] == [
        "Card",
        "FailureRecord",
    ]
