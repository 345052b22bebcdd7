"""Keys that no pinned anchor vouches for: nothing that rests on their certificate is believed."""

import forge
import pytest
from verifying import claims, judge, obstacles, verdict_of

from laminator.appraise.result import VerificationResult


@pytest.fixture(scope="module")
def result() -> VerificationResult:
    """A consistent card of a machine that certified itself, judged by somebody else's trust."""
    own, known = forge.machine(label="self-made"), forge.machine()
    assert not set(own.trust.anchors) & set(known.trust.anchors)
    world = forge.world(own, claims())
    assert judge(world, trust=own.trust).accepted
    return judge(world, trust=known.trust)


def test_only_the_chain_fails(result: VerificationResult) -> None:
    failed = {check.id for check in result.checks if check.verdict == "fail"}
    assert {id_ for id_ in failed if not id_.startswith("policy.")} == {"ak.chain"}


@pytest.mark.parametrize(
    "id_",
    ["ak.algorithm", "ak.validity", "ak.revocation", "ak.extension", "run.counter.endorsed"],
)
def test_what_rests_on_the_chain_is_not_checked(result: VerificationResult, id_: str) -> None:
    assert verdict_of(result, id_) == "not-checked"
    assert id_ in obstacles(result)


def test_nothing_is_proven(result: VerificationResult) -> None:
    assert result.trust == ("none", "none", "none", None)
    assert result.statements == ()
