"""What a lying prover tries with claims, artifacts and lineage: one check alone says no.

The forged machine signs whatever it is told, as an unrestricted key would.
"""

from types import MappingProxyType

import forge
import pytest
from verifying import IAT, POLICY, claims, judge, obstacles, verdict_of, world

import laminator
from laminator.appraise.lineage import MAX_LINEAGE_DEPTH
from laminator.appraise.result import VerificationResult
from laminator.card import parse_card
from laminator.claims import Artifact, Code, Isolation, Property
from laminator.claims_codec import encode_claims
from laminator.digest import Digest, sha256
from laminator.errors import MalformedError

NONE = Isolation("none", (), True, False, False)


# The claims by themselves.


def test_measured_without_isolation() -> None:
    assert obstacles(judge(world(isolation=NONE))) == {"claims.isolation"}


def test_reported_without_isolation_is_allowed() -> None:
    reported = tuple(item for item in claims().properties if item.source != "measured")
    result = judge(world(isolation=NONE, properties=reported))
    assert result.accepted
    assert "isolation.none" in {caveat.code for caveat in result.caveats}


@pytest.mark.parametrize(
    "change",
    [
        {"attester_dumpable": True},
        {"no_new_privs": False},
        {"namespaces": ("user", "mount", "net")},
    ],
)
def test_measured_with_weak_isolation(change: dict[str, object]) -> None:
    weak = claims().isolation._replace(**change)  # type: ignore[arg-type]
    assert obstacles(judge(world(isolation=weak))) == {"claims.isolation"}


def test_network_is_a_caveat() -> None:
    open_ = claims().isolation._replace(network=True, namespaces=("user", "mount", "pid"))
    codes = {caveat.code for caveat in judge(world(isolation=open_)).caveats}
    assert "isolation.network" in codes


def test_nonce_of_the_verifier() -> None:
    assert verdict_of(judge(world(), nonce=b"n" * 32), "claims.nonce") == "pass"
    assert obstacles(judge(world(), nonce=b"m" * 32)) == {"claims.nonce"}
    assert obstacles(judge(world(nonce=None), nonce=b"n" * 32)) == {"claims.nonce"}


def test_checked_nonce_removes_its_caveat() -> None:
    def codes(result: VerificationResult) -> set[str]:
        return {caveat.code for caveat in result.caveats}

    assert "freshness.no-nonce" in codes(judge(world()))
    assert "freshness.no-nonce" not in codes(judge(world(), nonce=b"n" * 32))


def test_card_from_the_future() -> None:
    late = int(forge.NOW.timestamp()) + 301
    assert obstacles(judge(world(iat=late))) == {"claims.future"}
    assert judge(world(iat=late - 1)).accepted


def test_time_beyond_any_calendar_is_rejected() -> None:
    assert obstacles(judge(world(iat=2**64 - 1))) == {"claims.future"}


def test_maximum_age() -> None:
    policy = POLICY._replace(maximum_age=3600)
    assert judge(world(), policy).accepted
    assert obstacles(judge(world(iat=IAT - 1), policy)) == {"policy.age"}


# Artifacts.


def test_artifact_of_the_verifier() -> None:
    given_ = {"model": sha256(b"model"), "predictions": sha256(b"out")}
    result = judge(world(), artifacts=given_)
    assert result.accepted
    assert verdict_of(result, "artifact.model") == "pass"


def test_other_artifact_is_rejected() -> None:
    result = judge(world(), artifacts={"model": sha256(b"another model")})
    assert obstacles(result) == {"artifact.model"}


def test_artifact_that_the_card_does_not_name_is_rejected() -> None:
    assert obstacles(judge(world(), artifacts={"x": sha256(b"")})) == {"artifact.x"}


def test_artifact_of_another_given_card_does_not_apply() -> None:
    other = forge.card_bytes(world(outputs=MappingProxyType({"x": claims().inputs["model"]})))
    results = laminator.verify_all(
        [forge.card_bytes(world()), other],
        POLICY,
        trust=forge.machine().trust,
        now=forge.NOW,
        artifacts={"x": sha256(b"model")},
    )
    assert [verdict_of(result, "artifact.x") for result in results] == ["not-applicable", "pass"]
    assert all(result.accepted for result in results)


def test_artifact_that_only_a_lineage_card_names_is_rejected() -> None:
    outputs = MappingProxyType({"weights": claims().inputs["model"]})
    training = forge.card_bytes(_training(outputs=outputs))
    held = {"weights": sha256(b"the verifier's own model")}
    result = judge(_evaluation_of(training), artifacts=held, other_cards=[training])
    assert obstacles(result) == {"artifact.weights"}


# Lineage.


def _training(**changes: object) -> forge.World:
    model = Artifact("model", sha256(b"model"), 5, 1)
    outputs = MappingProxyType({"weights": model})
    reported = (Property("loss", 0.1, "reported", "train.py"),)
    return world(**{"kind": "training", "outputs": outputs, "properties": reported, **changes})


def _evaluation_of(parent: bytes) -> forge.World:
    return world(cards=MappingProxyType({"model": parse_card(parent).id}))


def test_lineage_of_an_accepted_training() -> None:
    training = forge.card_bytes(_training())
    result = judge(_evaluation_of(training), other_cards=[training])
    assert result.accepted, result.failures()
    assert verdict_of(result, "lineage.model") == "pass"


def test_lineage_that_was_not_given() -> None:
    evaluation = _evaluation_of(forge.card_bytes(_training()))
    result = judge(evaluation)
    assert result.accepted
    assert verdict_of(result, "lineage.model") == "not-checked"
    assert "lineage.not-checked" in {caveat.code for caveat in result.caveats}
    required = POLICY._replace(require=("lineage.model",))
    assert "policy.require.lineage.model" in obstacles(judge(evaluation, required))


def test_lineage_of_another_model() -> None:
    other = MappingProxyType({"weights": Artifact("model", sha256(b"another"), 7, 1)})
    training = forge.card_bytes(_training(outputs=other))
    result = judge(_evaluation_of(training), other_cards=[training])
    assert obstacles(result) == {"lineage.model"}


def test_lineage_of_a_rejected_training() -> None:
    honest = _training()
    forged = honest._replace(end=honest.end._replace(extra_data=bytes(32)))
    training = forge.card_bytes(forged)
    result = judge(_evaluation_of(training), other_cards=[training])
    assert obstacles(result) == {"lineage.model"}


def test_broken_copy_does_not_hide_an_accepted_card() -> None:
    honest = _training()
    broken = forge.card_bytes(honest._replace(end=honest.end._replace(extra_data=bytes(32))))
    training = forge.card_bytes(honest)
    result = judge(_evaluation_of(training), other_cards=[broken, training])
    assert result.accepted


def test_other_card_that_cannot_be_read_is_rejected() -> None:
    training = forge.card_bytes(_training())
    result = judge(_evaluation_of(training), other_cards=[training, b"no card"])
    assert obstacles(result) == {"lineage.given"}


def test_other_card_that_nothing_builds_on_is_rejected() -> None:
    training = forge.card_bytes(_training())
    assert obstacles(judge(world(), other_cards=[training])) == {"lineage.given"}
    honest = judge(_evaluation_of(training), other_cards=[training])
    assert verdict_of(honest, "lineage.given") == "pass"


@pytest.mark.parametrize(
    ("kind", "type_", "in_inputs"),
    [
        ("datasheet", "model", True),
        ("datasheet", "model", False),
        ("evaluation", "model", False),
        ("training", "file", False),
        ("training", "dataset", False),
    ],
)
def test_lineage_of_a_card_that_did_not_make_the_model(
    kind: str, type_: str, in_inputs: bool
) -> None:
    some = MappingProxyType({"it": Artifact(type_, sha256(b"model"), 5, 1)})
    none = MappingProxyType[str, Artifact]({})
    inputs, outputs = (some, none) if in_inputs else (none, some)
    parent = forge.card_bytes(_training(kind=kind, inputs=inputs, outputs=outputs))
    result = judge(_evaluation_of(parent), other_cards=[parent])
    assert obstacles(result) == {"lineage.model"}


def _data_parent(kind: str, type_: str, made: bool) -> VerificationResult:
    some = MappingProxyType({"it": Artifact(type_, sha256(b"data"), 4, 1)})
    none = MappingProxyType[str, Artifact]({})
    inputs, outputs = (none, some) if made else (some, none)
    parent = forge.card_bytes(_training(kind=kind, inputs=inputs, outputs=outputs))
    evaluation = world(cards=MappingProxyType({"test": parse_card(parent).id}))
    return judge(evaluation, other_cards=[parent])


def test_lineage_of_data() -> None:
    assert _data_parent("datasheet", "dataset", made=False).accepted
    assert _data_parent("training", "dataset", made=True).accepted
    refused = [
        _data_parent("training", "dataset", made=False),
        _data_parent("datasheet", "file", made=False),
        _data_parent("training", "file", made=True),
    ]
    assert [obstacles(result) for result in refused] == [{"lineage.test"}] * 3


def test_model_of_unstated_origin_is_a_caveat() -> None:
    training = forge.card_bytes(_training())
    linked = judge(_evaluation_of(training), other_cards=[training])
    assert "lineage.not-stated" not in {each.code for each in linked.caveats if not each.card}
    assert "lineage.not-stated" in {caveat.code for caveat in judge(world()).caveats}


def test_caveats_of_a_parent_are_the_childs_too() -> None:
    weak = claims().isolation._replace(network=True)
    training = forge.card_bytes(_training(isolation=weak))
    result = judge(_evaluation_of(training), other_cards=[training])
    id_ = f"sha-256:{parse_card(training).id.hex()}"
    (caveat,) = (each for each in result.caveats if each.code == "isolation.network")
    assert caveat.card == id_
    assert caveat.text.startswith(f"As of card {id_}: ")


def test_launch_that_only_the_claims_state_is_no_reference_value() -> None:
    run = claims().run._replace(launch=forge.LAUNCH._replace(type="boot"))
    result = judge(world(run=run), POLICY._replace(coverage="none"))
    assert "policy.reference.launch" in obstacles(result)


def test_inputs_of_a_training_are_not_its_word() -> None:
    inputs = MappingProxyType({"start": Artifact("model", sha256(b"model"), 5, 1)})
    training = forge.card_bytes(_training(inputs=inputs, outputs=MappingProxyType({})))
    result = judge(_evaluation_of(training), other_cards=[training])
    assert obstacles(result) == {"lineage.model"}


def test_datasheet_vouches_for_the_data_that_it_describes() -> None:
    data = MappingProxyType({"data": Artifact("dataset", sha256(b"data"), 4, 1)})
    sheet = forge.card_bytes(_training(kind="datasheet", inputs=data, outputs=MappingProxyType({})))
    evaluation = world(cards=MappingProxyType({"test": parse_card(sheet).id}))
    result = judge(evaluation, other_cards=[sheet])
    assert verdict_of(result, "lineage.test") == "pass"


def test_rules_for_one_card_are_not_asked_of_its_lineage() -> None:
    training = forge.card_bytes(_training(nonce=None, iat=IAT - 10_000))
    policy = POLICY._replace(
        nonce_required=True, maximum_age=5000, require=("ak.revocation", "lineage.model")
    )
    result = judge(_evaluation_of(training), policy, other_cards=[training], nonce=b"n" * 32)
    assert result.accepted, result.failures()


def _chain(length: int) -> list[bytes]:
    cards = [forge.card_bytes(_training())]
    for number in range(length):
        inputs = MappingProxyType({"start": Artifact("model", sha256(b"model"), 5, 1)})
        below = MappingProxyType({"start": parse_card(cards[-1]).id})
        run = claims().run._replace(number=number + 2)
        cards.append(forge.card_bytes(_training(inputs=inputs, cards=below, run=run)))
    return cards


def test_lineage_has_a_depth() -> None:
    cards = _chain(MAX_LINEAGE_DEPTH + 1)
    results = laminator.verify_all(cards, POLICY, trust=forge.machine().trust, now=forge.NOW)
    verdicts = [result.accepted for result in results]
    assert verdicts[:-1] == [True] * (MAX_LINEAGE_DEPTH + 1)
    assert obstacles(results[-1]) == {"lineage.start"}


@pytest.mark.parametrize("part", ["entry", "interpreter"])
def test_code_digest_by_another_hash_is_no_card(part: str) -> None:
    workload = claims().workload
    code = Code("x", Digest("sha-384", bytes(48)))
    changed = {"entry": workload.entry, "interpreter": workload.interpreter, part: code}
    odd = workload._replace(entry=changed["entry"], interpreter=changed["interpreter"])
    with pytest.raises(MalformedError) as caught:
        encode_claims(claims(workload=odd))
    assert caught.value.code == "field.type"
