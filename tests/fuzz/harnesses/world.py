"""Claims that a prover with a real TPM chose: everything is signed anew and judged."""

from functools import cache

from enclave_sim.adversary import forged_world
from harnesses.harness import Harness, check_json, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.appraise.policy import Policy, parse_policy
from laminator.claims_codec import encode_claims, parse_claims
from laminator.report.result_text import result_text

RULES = b"""
version = 1
roots = ["simulated"]
coverage = "none"
data-chosen-by = "provider"
maximum-age = "30d"
[[property]]
name = "accuracy"
source = ["measured", "reported"]
min = 0.5
unit = "1"
bound = "interval"
[[property]]
name = "accuracy"
source = "measured"
on = ["model", "test"]
max = 0.99
unit = "1"
required = false
parameters = { n = 4, rule = "argmax" }
"""
# What a TPM with this key proves of any claims at all; the launch is what the claims say.
_OF_THE_TPM = ("tpm.", "ak.", "run.counter.", "evidence.")


def check(data: bytes) -> bool:
    """Whatever the claims, there is a result as documented, and the TPM's own checks hold."""
    claims = parsed(parse_claims, data)
    if claims is None:
        return False
    world = forged_world.world(claims=claims)
    accepted = False
    for policy in (forged_world.POLICY, _rules()):
        result = forged_world.judge(world, policy)
        failed = [each.id for each in result.checks if each.verdict == "fail"]
        assert not [id_ for id_ in failed if id_.startswith(_OF_THE_TPM)]
        assert result.accepted == (not result.failures())
        check_json({"results": [result.to_json()]}, "verification-result.schema.json")
        text = result_text(result, "fuzz.card")
        assert all(line.isprintable() for line in text.split("\n"))
        accepted = accepted or result.accepted
    return accepted


def seeds() -> list[bytes]:
    """Return claims that a policy accepts."""
    full = forged_world.claims()
    return [encode_claims(full), encode_claims(full._replace(properties=(), nonce=None))]


@cache
def _rules() -> Policy:
    return parse_policy(RULES, name="fuzz")


HARNESS = Harness(check, seeds, mutate_as_cbor)
