"""A key that quotes by itself: the owner of the host resets PCR 23 and has claims quoted.

No check can tell these cards from honest ones, so none is asked to: a result says what they rest
on, in words that these tests pin, and no policy accepts them for more than that.
"""

from collections.abc import Iterator

import pytest
from raw_swtpm import running_swtpm

from enclave_sim.adversary import lying_attester
from enclave_sim.adversary.forged_world import POLICY, World, claims, judge, obstacles, world
from enclave_sim.adversary.lying_attester import Run
from laminator.appraise.policy import BUILT_IN, Policy, PropertyRule, References
from laminator.appraise.result import VerificationResult
from laminator.attest.tpm import AttestationTpm
from laminator.claims import Interval, Launch, Property

PERFECT = Property(
    "accuracy",
    1.0,
    "measured",
    "laminator.accuracy/1",
    on=("model", "test"),
    unit="1",
    interval=Interval(0.99, 1.0, 0.95, "wilson"),
)
RULE = PropertyRule("policy.accuracy", "accuracy", ("measured",), least=0.99)
NAMED = POLICY._replace(properties=(RULE,))
UNNAMED = NAMED._replace(coverage_named=False)


def invented(launch: Launch | None = None) -> World:
    made = claims(properties=(PERFECT,))
    if launch is not None:
        made = made._replace(run=made.run._replace(launch=launch))
    return world(claims=made)


@pytest.fixture(scope="module")
def by_hand() -> Iterator[Run]:
    """A run on a real TPM with nothing but commands to it: no workload, no attester."""
    with running_swtpm() as swtpm, AttestationTpm(swtpm.connect()) as machine:
        yield lying_attester.run(machine)


def rests_on(result: VerificationResult) -> set[str]:
    return {item.rests_on for item in result.statements if item.source == "measured"}


def said(result: VerificationResult, code: str) -> str:
    (text,) = (caveat.text for caveat in result.caveats if caveat.code == code)
    return text


def policy_of(coverage: str, policy: Policy = NAMED) -> Policy:
    return policy._replace(coverage=coverage)


def test_invented_claims_with_a_known_launch_are_those_of_an_unproven_attester() -> None:
    result = judge(invented(), policy_of("launch"))
    assert result.accepted, result.failures()
    assert (result.trust.root, result.trust.coverage) == ("simulated", "launch")
    assert rests_on(result) == {"an attester whose code is not proven (coverage launch)"}
    assert said(result, "coverage.launch") == (
        "Measured by an attester whose code is not proven: its launch matches a reference value, "
        "but not what runs beneath and beside it, so whoever owns the host can run another program "
        "that quotes invented claims."
    )
    assert said(result, "root.simulated") == (
        "The root is a simulated machine, no hardware: whoever owns it can make any card."
    )


@pytest.mark.parametrize("launch", [None, Launch("none")], ids=["unknown launch", "no launch"])
def test_invented_claims_without_a_known_launch_prove_nothing(launch: Launch | None) -> None:
    unknown = policy_of("none", NAMED._replace(references=References()))
    result = judge(invented(launch), unknown)
    assert result.accepted, result.failures()
    assert result.trust.coverage == "none"
    assert rests_on(result) == {"an attester whose code is not proven (coverage none)"}
    assert said(result, "coverage.none") == (
        "The attester's code is not proven: it matches no reference value, and whoever owns the "
        "host can have invented what it calls measured."
    )


def test_a_real_tpm_quotes_invented_claims_too(by_hand: Run) -> None:
    result = by_hand.judge()
    assert result.accepted, obstacles(result)
    assert rests_on(result) == {"an attester whose code is not proven (coverage none)"}
    assert "coverage.none" in {caveat.code for caveat in result.caveats}


def test_a_rule_for_measured_values_is_not_met_where_no_coverage_is_named() -> None:
    assert judge(invented(), NAMED).accepted
    assert obstacles(judge(invented(), UNNAMED)) == {"policy.accuracy"}


@pytest.mark.parametrize("coverage", ["boot", "attester"])
def test_no_policy_gets_more_coverage_than_there_is(coverage: str) -> None:
    found = obstacles(judge(invented(), policy_of(coverage)))
    assert "policy.coverage" in found
    assert all(id_.startswith("policy.") for id_ in found)


def test_the_built_in_policy_refuses_invented_claims(by_hand: Run) -> None:
    made = invented(Launch("none"))
    assert judge(made, policy_of("none", NAMED._replace(references=References()))).accepted
    for result in (judge(invented(), BUILT_IN), judge(made, BUILT_IN), by_hand.judge(BUILT_IN)):
        assert {"policy.root", "policy.coverage"} <= obstacles(result)
        assert all(id_.startswith("policy.") for id_ in obstacles(result))
        assert result.statements == ()


def test_hardware_alone_does_not_satisfy_the_built_in_policy() -> None:
    hardware = BUILT_IN._replace(roots=("simulated",), data_chosen_by="provider")
    assert obstacles(judge(invented(), hardware)) == {"policy.coverage"}
