"""What a prover tries with a plan: to measure something else, or as often as it takes."""

import datetime as dt

import pytest
import tsa_pki
from planning import (
    CHECKS,
    KEPT,
    NONCE,
    PLAN,
    carried,
    judge_planned,
    plan_text,
    planned,
    token,
    trust,
)
from verifying import POLICY, claims, judge, obstacles, verdict_of, world

from enclave_sim.adversary import forged_world
from enclave_sim.adversary.forged_tpm import machine
from enclave_sim.adversary.forged_world import NOW, World, card_bytes
from laminator.appraise.nonce_rules import IssuedNonce
from laminator.appraise.result import VerificationResult
from laminator.appraise.verify import verify_all
from laminator.card import ConceptualMessage
from laminator.claims import Artifact, Property
from laminator.digest import sha256
from laminator.endorsements import PLAN_MEDIA_TYPE
from laminator.errors import UsageError

OTHER = sha256(b"another")


def required(*ids: str) -> set[str]:
    """Return the obstacles that checks which are not made are, under the policy that asks."""
    return {*ids, *(f"policy.require.{id_}" for id_ in ids)}


def stopped(id_: str, bad: World, **given: object) -> bool:
    """Tell whether that check alone fails, and with it what the policy says of it."""
    result = judge_planned(bad, **given)  # type: ignore[arg-type]
    unasked = judge_planned(bad, POLICY, **given)  # type: ignore[arg-type]
    assert obstacles(unasked) == {id_}
    return obstacles(result) == required(id_)


def measured() -> Property:
    (found,) = (item for item in claims().properties if item.source == "measured")
    return found


def inputs(**changes: Artifact) -> dict[str, Artifact]:
    return {**claims().inputs, **changes}


def codes(result: VerificationResult) -> set[str]:
    return {caveat.code for caveat in result.caveats}


def test_a_plan_that_was_kept() -> None:
    result = judge_planned(planned())
    assert result.accepted, result.failures()
    assert all(verdict_of(result, id_) == "pass" for id_ in CHECKS)
    assert "plan.declared" not in codes(result)
    assert {"plan.other-work", "plan.after-the-data"} <= codes(result)


def test_what_a_plan_leaves_open_is_not_applicable() -> None:
    inputs_ = claims().inputs
    model = f'model = "{inputs_["model"].digest}"\n'.encode()
    entry = f'entry = "{claims().workload.entry.digest}"\n'.encode()
    parameters = b'[parameters]\nrule = "argmax"\n'
    plan = PLAN
    for part in (model, entry, parameters):
        assert plan.count(part) == 1
        plan = plan.replace(part, b"")
    result = judge_planned(planned(plan), POLICY)
    assert result.accepted
    assert verdict_of(result, "plan.model") == "not-applicable"
    assert verdict_of(result, "plan.entry") == "not-applicable"
    assert verdict_of(result, "plan.parameters") == "not-applicable"


@pytest.mark.parametrize(("rule", "seed"), [("13", 13), ("0", 0), ('"none"', None)])
def test_a_planned_number_or_none(rule: str, seed: int | None) -> None:
    result = judge_planned(planned(plan_text(seed=rule), seed=seed))
    assert result.accepted, result.failures()


def test_a_card_without_a_plan_beside_one_that_keeps_its_own() -> None:
    unplanned = world(run=claims().run._replace(plan=None))
    cards = [card_bytes(planned()), card_bytes(unplanned)]
    given = {"trust": trust(planned()), "now": NOW, "nonce": NONCE}
    kept, plain = verify_all(cards, POLICY, **given)  # type: ignore[arg-type]
    assert kept.accepted
    assert plain.accepted
    assert not any(check.id.startswith("plan.") for check in plain.checks)


# --- something else is measured


def test_another_metric() -> None:
    other = planned(properties=(measured()._replace(name="f1"),))
    assert {item.name for item in other.claims.properties} == {"f1"}
    assert stopped("plan.metric", other)


@pytest.mark.parametrize("source", ["measured", "reported", "external"])
def test_an_additional_metric(source: str) -> None:
    second = measured()._replace(name="f1", source=source)
    more = planned(properties=(measured(), second))
    assert len(more.claims.properties) == 2
    assert stopped("plan.metric", more)


def test_a_planned_metric_that_is_left_out() -> None:
    plan = PLAN.replace(b'["accuracy"]', b'["accuracy", "f1"]')
    assert plan != PLAN
    assert stopped("plan.metric", planned(plan))


def test_a_planned_metric_in_somebodys_own_word_only() -> None:
    typed = Property("accuracy", "0.99", "declared", "provider")
    assert stopped("plan.metric", planned(properties=(typed,)))


def test_another_data_set() -> None:
    other = planned(inputs=inputs(test=claims().inputs["test"]._replace(digest=OTHER)))
    assert other.claims.inputs["test"].digest == OTHER
    assert stopped("plan.data", other)


def test_a_planned_data_set_under_another_name() -> None:
    own = claims().inputs
    renamed = planned(
        inputs={"model": own["model"], "holdout": own["test"]},
        properties=(measured()._replace(on=("model", "holdout")),),
    )
    assert stopped("plan.data", renamed)


@pytest.mark.parametrize("kind", ["dataset", "file", "model"])
def test_more_data_whatever_it_is_called(kind: str) -> None:
    more = planned(inputs=inputs(extra=Artifact(kind, OTHER, 1, 1)))
    assert more.claims.inputs["extra"].type == kind
    assert stopped("plan.data", more)


@pytest.mark.parametrize("kind", ["file", "model"])
def test_the_planned_data_as_something_else(kind: str) -> None:
    other = planned(inputs=inputs(test=claims().inputs["test"]._replace(type=kind)))
    assert other.claims.inputs["test"].digest == claims().inputs["test"].digest
    assert stopped("plan.data", other)


def test_another_model() -> None:
    other = planned(inputs=inputs(model=claims().inputs["model"]._replace(digest=OTHER)))
    assert stopped("plan.model", other)


def test_other_code_for_the_planned_model() -> None:
    """Model code that was written when the nonce, and so the sample, was known."""
    workload = claims().workload
    tuned = workload._replace(entry=workload.entry._replace(digest=OTHER))
    assert stopped("plan.entry", planned(workload=tuned))


def test_no_model() -> None:
    data = {"test": claims().inputs["test"]}
    without = planned(inputs=data, properties=(measured()._replace(on=("test",)),))
    assert stopped("plan.model", without)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n": 4, "rule": "threshold"},
        {"n": 4},
        {"n": 4, "rule": "argmax", "held-back": ("id",)},
        {"n": 4, "rule": "argmax", "held-back": None},
        {"n": 4, "rule": "argmax", "labels": "column:other"},
    ],
)
def test_other_parameters(parameters: dict[str, object]) -> None:
    other = planned(properties=(measured()._replace(parameters=parameters),))  # type: ignore[arg-type]
    assert stopped("plan.parameters", other)


def test_a_truth_value_in_place_of_a_number() -> None:
    plan = PLAN.replace(b'rule = "argmax"', b"rule = 1")
    other = planned(plan, properties=(measured()._replace(parameters={"rule": True}),))
    assert plan != PLAN
    assert stopped("plan.parameters", other)


# --- as often as it takes


@pytest.mark.parametrize("number", [5, 9])
def test_a_run_outside_the_planned_numbers(number: int) -> None:
    assert judge_planned(planned(number=8)).accepted
    assert stopped("plan.runs", planned(number=number))


def test_a_run_on_another_machine() -> None:
    table = f'[machine]\nkey = "{OTHER}"\nfirst-run = 6\n'
    assert stopped("plan.runs", planned(plan_text(machine_table=table)))


def test_more_runs_than_planned() -> None:
    plan = plan_text(runs=2, machine_table="")
    cards = [card_bytes(planned(plan, number=number)) for number in (7, 8, 9)]
    given = {"trust": trust(planned()), "now": NOW, "nonce": NONCE}
    results = verify_all(cards, POLICY, **given)  # type: ignore[arg-type]
    assert [obstacles(result) for result in results] == [{"plan.runs"}] * 3
    two = verify_all(cards[:2], POLICY, **given)  # type: ignore[arg-type]
    assert [verdict_of(result, "plan.runs") for result in two] == ["not-checked"] * 2


@pytest.mark.parametrize("table", [None, ""], ids=["a planned machine", "any machine"])
def test_several_runs_under_one_planned_number(table: str | None) -> None:
    """The TPM's owner has one number certified for two run ids, and shows both cards."""
    plan = plan_text(machine_table=table)
    first = planned(plan)
    again = first.claims.run._replace(id=b"another" + bytes(9))
    second = world(run=again)._replace(endorsements=first.endorsements)
    cards = [card_bytes(first), card_bytes(second)]
    both = verify_all(cards, POLICY, trust=trust(first), now=NOW, nonce=NONCE)
    assert [obstacles(result) for result in both] == [{"plan.runs"}] * 2
    for alone in (first, second):
        assert judge_planned(alone, POLICY).accepted


def test_the_same_number_of_two_machines_is_two_numbers() -> None:
    plan = plan_text(machine_table="")
    first = planned(plan)
    run = first.claims.run._replace(id=b"elsewhere" + bytes(7))
    other = forged_world.world(machine(label="another machine"), claims(run=run))
    elsewhere = other._replace(endorsements=first.endorsements)
    assert elsewhere.claims.run.number == first.claims.run.number
    cards = [card_bytes(first), card_bytes(elsewhere)]
    results = verify_all(cards, POLICY, trust=trust(first), now=NOW, nonce=NONCE)
    assert [verdict_of(result, "plan.runs") for result in results] == ["not-checked"] * 2


def test_the_same_card_twice_is_one_run() -> None:
    plan = plan_text(runs=1, machine_table="")
    card = card_bytes(planned(plan))
    given = {"trust": trust(planned()), "now": NOW, "nonce": NONCE}
    results = verify_all([card, card], POLICY, **given)  # type: ignore[arg-type]
    assert all(result.accepted for result in results)


def test_a_further_run_among_the_cards_that_the_judged_one_builds_on() -> None:
    plan = plan_text(runs=1, machine_table="")
    further = card_bytes(planned(plan, number=8))
    result = judge_planned(planned(plan), POLICY, other_cards=[further])
    assert verdict_of(result, "plan.runs") == "fail"


def test_that_there_were_no_more_runs_is_not_taken_on_trust() -> None:
    single = planned(plan_text(machine_table=""))
    assert judge_planned(single, POLICY).accepted
    assert obstacles(judge_planned(single)) == required("plan.runs")


# --- seeds


@pytest.mark.parametrize("seed", [None, 1])
def test_another_seed_rule_than_the_planned_nonce(seed: int | None) -> None:
    assert stopped("plan.seed", planned(seed=seed))


@pytest.mark.parametrize(("rule", "seed"), [("1", 2), ("1", "nonce"), ("1", None), ('"none"', 1)])
def test_another_seed_than_the_planned_one(rule: str, seed: int | str | None) -> None:
    assert stopped("plan.seed", planned(plan_text(seed=rule), seed=seed))


def test_a_value_under_another_seed_than_the_run_s() -> None:
    shopped = measured()._replace(parameters={"rule": "argmax", "seed": 13})
    assert stopped("plan.seed", planned(properties=(shopped,)))


def test_a_seed_from_no_nonce() -> None:
    assert stopped("plan.seed", planned(nonce=None), nonce=None)


def test_a_seed_from_a_nonce_that_the_verifier_did_not_give() -> None:
    own = planned(nonce=b"chosen to please")
    assert judge_planned(own, POLICY, nonce=None).accepted
    assert obstacles(judge_planned(own, nonce=None)) == required("plan.seed")
    both = required("plan.seed") | {"claims.nonce"}
    assert obstacles(judge_planned(own)) == both


@pytest.mark.parametrize("late", [dt.timedelta(0), dt.timedelta(minutes=1)])
def test_a_plan_made_for_a_nonce_that_is_known(late: dt.timedelta) -> None:
    """The provider puts the data's rows in an order of which the nonce draws the easy ones."""
    issued = IssuedNonce(expires=NOW + dt.timedelta(days=1), clock=NOW, issued=tsa_pki.TIME - late)
    shopped = planned()
    assert judge_planned(shopped).accepted
    result = judge_planned(shopped, issued=issued)
    assert verdict_of(result, "plan.token") == "pass"
    assert obstacles(result) == required("plan.seed")
    before = issued._replace(issued=tsa_pki.TIME + dt.timedelta(seconds=1))
    assert judge_planned(shopped, issued=before).accepted


def test_when_the_nonce_was_made_says_nothing_of_a_plan_without_a_time() -> None:
    """What lacks is the time-stamp, and is said so."""
    issued = IssuedNonce(expires=NOW + dt.timedelta(days=1), clock=NOW, issued=NOW)
    unstamped = planned()._replace(endorsements=carried(PLAN))
    assert obstacles(judge_planned(unstamped, issued=issued)) == required("plan.token")


def test_a_time_without_a_zone_for_when_the_nonce_was_made() -> None:
    naive = IssuedNonce(expires=NOW, clock=NOW, issued=NOW.replace(tzinfo=None))
    with pytest.raises(UsageError, match="time zone"):
        judge_planned(planned(), issued=naive)


# --- the plan itself


def test_a_plan_made_after_the_run() -> None:
    """A token that is newer than the run: the claims name none, or another."""
    late = token(PLAN, time=NOW - dt.timedelta(minutes=1))
    honest = planned()
    run = honest.claims.run._replace(plan_token=None)
    without = world(run=run)._replace(endorsements=carried(PLAN, late))
    assert without.claims.run.plan_token is None
    assert obstacles(judge_planned(without)) == required("plan.token")
    other = honest._replace(endorsements=carried(PLAN, late))
    assert obstacles(judge_planned(other)) == required("plan.token")
    assert "plan.declared" in codes(judge_planned(other, POLICY))


def test_a_plan_swapped_after_the_run() -> None:
    swapped = PLAN.replace(b'["accuracy"]', b'["f1"]')
    shown = planned()._replace(endorsements=carried(swapped, token(swapped)))
    result = judge_planned(shown)
    assert verdict_of(judge_planned(shown, POLICY), "plan.digest") == "not-checked"
    assert obstacles(result) == {
        *(f"policy.require.{id_}" for id_ in CHECKS),
        *CHECKS,
    }


def test_a_card_shown_with_another_plan_than_the_verifiers() -> None:
    mine = plan_text(runs=1)
    assert mine != PLAN
    result = judge_planned(planned(), POLICY, plan=mine)
    assert obstacles(result) == {"plan.digest"}
    assert judge_planned(planned(), plan=PLAN).accepted


def test_a_run_without_a_plan_where_the_verifier_has_one() -> None:
    unplanned = world(run=claims().run._replace(plan=None))
    assert unplanned.claims.run.plan is None
    assert obstacles(judge_planned(unplanned, POLICY, plan=PLAN)) == {"plan.digest"}


def test_a_token_of_another_plan() -> None:
    reply = token(b"another plan")
    foreign = planned(reply=reply)
    assert foreign.claims.run.plan_token == sha256(reply)
    assert obstacles(judge_planned(foreign)) == required("plan.token")


@pytest.mark.parametrize("kind", ["tsa-simulated", "tsa"])
def test_a_token_by_an_authority_that_nobody_pinned(kind: str) -> None:
    own = tsa_pki.authority("prover's own")
    forged = planned(reply=tsa_pki.reply(own, PLAN))
    assert obstacles(judge_planned(forged)) == required("plan.token")
    store = trust(forged)._replace(anchors=own.trust(kind=kind).anchors + trust(forged).anchors)
    store = store._replace(crls=own.trust().crls + store.crls)
    assert judge_planned(forged, trust=store).accepted


def test_a_simulated_authority_where_hardware_is_asked_for() -> None:
    tsa = tsa_pki.authority().trust(kind="tsa-simulated")
    own = planned().machine.trust
    store = own._replace(anchors=own.anchors + tsa.anchors, crls=own.crls + tsa.crls)
    assert verdict_of(judge_planned(planned(), trust=store), "plan.token") == "pass"
    hardware = POLICY._replace(roots=("tpm",))
    result = judge_planned(planned(), hardware, trust=store)
    assert verdict_of(result, "plan.token") == "not-checked"
    assert verdict_of(judge_planned(planned(), hardware), "plan.token") == "pass"


def test_a_plan_with_a_misspelt_key() -> None:
    plan = PLAN.replace(b"runs = 3", b"run = 3")
    assert plan != PLAN
    misspelt = planned(plan)
    assert obstacles(judge_planned(misspelt, POLICY)) == {"plan.parse"}


@pytest.mark.parametrize(
    "bomb",
    [
        b"a" + b".a" * 100_000 + b" = 1",
        b"a = " + b"[" * 100_000,
        b"#" * (256 * 1024 + 1),
        b"\xff\xfe",
        b"version = 1" + b"0" * 5000,
    ],
    ids=lambda bomb: bomb[:8],
)
def test_a_plan_that_is_a_bomb(bomb: bytes) -> None:
    assert obstacles(judge_planned(planned(bomb), POLICY)) == {"plan.parse"}


# --- what is added to a card can only be taken away


@pytest.mark.parametrize("hidden", ["\x85", "\u2028", "\u2029", "\u202e", "\u2066", "\u200f"])
def test_a_plan_that_an_editor_shows_otherwise(hidden: str) -> None:
    """A comment whose end is shown as a line of its own: the reader sees one run, not three."""
    shown = plan_text(more=f"# as agreed{hidden}runs = 1")
    result = judge_planned(planned(shown), POLICY)
    assert obstacles(result) == {"plan.parse"}
    assert judge_planned(planned(plan_text(more="# as agreed: été, 中文"))).accepted


def test_foreign_plans_beside_the_right_one_count_for_nothing() -> None:
    junk = (ConceptualMessage(PLAN_MEDIA_TYPE, b"\xff"), *carried(b"version = 2", b"\x30\x00"))
    honest = planned()
    crowded = honest._replace(endorsements=(*junk, *honest.endorsements))
    assert judge_planned(crowded).accepted


def test_a_plan_that_is_not_shown_fails_no_card() -> None:
    hidden = planned()._replace(endorsements=())
    assert judge_planned(hidden, POLICY).accepted
    assert verdict_of(judge_planned(hidden, POLICY), "plan.digest") == "not-checked"
    assert judge_planned(hidden, POLICY, plan=PLAN).accepted
    assert not judge_planned(hidden).accepted


def test_plans_in_a_card_that_names_none_count_for_nothing() -> None:
    unplanned = world(run=claims().run._replace(plan=None))
    unplanned = unplanned._replace(endorsements=carried(PLAN, token()))
    result = judge(unplanned, POLICY)
    assert result.accepted
    assert not any(check.id.startswith("plan.") for check in result.checks)


def test_a_parent_s_plan_is_not_what_the_policy_asks_of_its_child() -> None:
    assert KEPT.require == CHECKS
    assert KEPT.for_lineage().require == ()
