"""Results: how checks add up, and their JSON."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import forge
import jsonschema
import pytest
from verifying import POLICY, claims, judge, world

from laminator.appraise.caveats import SENTENCES, Appraised, caveats
from laminator.appraise.check import Check, Trust, missing_checks, verdict_of
from laminator.appraise.policy import BUILT_IN, COVERAGES, ROOTS
from laminator.appraise.result import VerificationResult
from laminator.cbor import Value
from laminator.claims import KINDS, SOURCES, Property
from laminator.report.export import value_to_json

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/verification-result.schema.json").read_text("utf-8")
)
RESULT_SCHEMA = {**SCHEMA["$defs"]["result"], "$defs": SCHEMA["$defs"]}


def _check(verdict: str, id_: str = "a.b") -> Check:
    return Check(id_, verdict, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("checks", "required", "verdict"),
    [
        ([], [], "accepted"),
        ([_check("pass")], ["a.b"], "accepted"),
        ([_check("pass"), _check("not-checked", "c.d")], ["a.b"], "accepted"),
        ([_check("not-applicable")], [], "accepted"),
        ([], ["a.b"], "rejected"),
        ([_check("fail")], [], "rejected"),
        ([_check("not-checked")], ["a.b"], "rejected"),
        ([_check("not-applicable")], ["a.b"], "rejected"),
        ([_check("pass"), _check("not-checked")], ["a.b"], "rejected"),
        ([_check("pass"), _check("fail")], ["a.b"], "rejected"),
    ],
)
def test_verdict(checks: list[Check], required: list[str], verdict: str) -> None:
    assert verdict_of(checks, required) == verdict


def test_missing_checks_are_not_checked() -> None:
    (missing,) = missing_checks([_check("pass")], ["a.b", "c.d", "c.d"])
    assert (missing.id, missing.verdict) == ("c.d", "not-checked")


def test_failures_are_what_forbids() -> None:
    checks = (_check("fail"), _check("not-checked", "c.d"), _check("not-checked", "e.f"))
    result = judge(b"")._replace(checks=checks, required=("c.d",))
    assert [check.id for check in result.failures()] == ["a.b", "c.d"]


def _document(result: VerificationResult) -> dict[str, Any]:
    document = result.to_json()
    jsonschema.Draft202012Validator(RESULT_SCHEMA).validate(document)
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_schema_lists_what_the_code_can_say() -> None:
    result = SCHEMA["$defs"]["result"]["properties"]
    assert set(result["caveats"]["items"]["properties"]["code"]["enum"]) == set(SENTENCES)
    assert set(result["root"]["enum"]) == {"none", *ROOTS}
    assert tuple(result["coverage"]["enum"]) == COVERAGES
    assert tuple(result["kind"]["anyOf"][0]["enum"]) == KINDS
    assert tuple(result["properties"]["items"]["properties"]["source"]["enum"]) == SOURCES


def test_accepted_card_as_json() -> None:
    document = _document(judge(world()))
    assert document["verdict"] == "accepted"
    assert document["failures"] == []
    assert document["root"] == "simulated"
    assert document["coverage"] == "launch"
    assert document["properties"][1]["interval"]["method"] == "wilson"
    assert document["properties"][1]["parameters"] == {"n": 4, "rule": "argmax"}
    codes = {caveat["code"] for caveat in document["caveats"]}
    assert {"root.simulated", "coverage.launch", "code.imports-not-measured"} <= codes
    assert {"time.declared", "runs.one-machine", "data.chosen-by-provider"} <= codes


def test_rejected_card_as_json() -> None:
    document = _document(judge(world(), BUILT_IN))
    assert document["properties"] == []
    assert "policy.root" in document["failures"]
    assert document["ar4si"]["status"] == "contraindicated"


def test_bytes_that_are_no_card_as_json() -> None:
    document = _document(judge(b"nothing"))
    assert document["card"] is None
    assert document["failures"] == ["card.parse"]


def test_odd_values_as_json() -> None:
    value: Value = {"list": (1, 2.5, None, True, "t\x1b"), "map": {"a": ()}}
    odd = Property("odd", value, "reported", "x")
    (found,) = _document(judge(world(properties=(odd,))))["properties"]
    assert found["value"] == {"list": [1, 2.5, None, True, "t\x1b"], "map": {"a": []}}


def test_bytes_as_json() -> None:
    assert value_to_json({1: b"\x00\xff", "launch": forge.LAUNCH}) == {
        "1": "hex:00ff",
        "launch": {"type": forge.LAUNCH.type, "digest": str(forge.LAUNCH.digest)},
    }


def _vector(result: VerificationResult) -> tuple[str, dict[str, int]]:
    ar4si = _document(result)["ar4si"]
    return ar4si["status"], ar4si["vector"]


def test_simulated_root_is_contraindicated_for_who_knows_no_policy() -> None:
    status, vector = _vector(judge(world()))
    assert status == "contraindicated"
    assert vector["hardware"] == vector["instance-identity"] == 97


def test_hardware_root_with_launch_coverage_is_a_warning() -> None:
    result = judge(world())
    real = result._replace(trust=result.trust._replace(root="tpm"))
    status, vector = _vector(real)
    assert status == "warning"
    assert (vector["hardware"], vector["executables"], vector["sourced-data"]) == (2, 33, 0)


def test_hardware_root_alone_affirms_nothing() -> None:
    real = judge(world())._replace(trust=Trust("tpm", "none", "self-certified", None))
    assert _vector(real)[0] == "none"


def test_lineage_in_the_vector() -> None:
    result = judge(world())
    tpm = result._replace(trust=result.trust._replace(root="tpm"))
    good = tpm._replace(checks=(*tpm.checks, _check("pass", "lineage.model")))
    assert _vector(good)[1]["sourced-data"] == 32
    bad = judge(world(), POLICY, artifacts={})._replace(
        trust=tpm.trust,
        verdict="rejected",
        checks=(*tpm.checks, _check("fail", "lineage.model")),
        statements=(),
    )
    assert _vector(bad)[1]["sourced-data"] == 96


def test_broken_evidence_in_the_vector() -> None:
    drafted = world()
    broken = drafted._replace(end=drafted.end._replace(extra_data=bytes(32)))
    assert _vector(judge(broken))[1]["hardware"] == 99


def test_time_of_judging_is_in_utc() -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    document = _document(judge(world(), now=forge.NOW.astimezone(zone)))
    assert document["judged-at"].endswith("+00:00")


def test_proven_attester_has_no_caveat_about_coverage() -> None:
    trust = Trust("tpm", "attester", "independent", None)
    found = caveats(Appraised(forge.card(world()), trust, (), forge.NOW), POLICY)
    codes = {caveat.code for caveat in found}
    assert not {code for code in codes if code.startswith(("root.", "coverage.", "authority."))}


def test_no_plan_no_caveat_about_it() -> None:
    run = claims().run._replace(plan=None)
    codes = {caveat.code for caveat in judge(world(run=run)).caveats}
    assert "plan.declared" not in codes


def test_plan_and_network_are_caveats() -> None:
    result = judge(world(isolation=claims().isolation._replace(network=True)))
    codes = {caveat.code for caveat in result.caveats}
    assert {"plan.declared", "isolation.network", "statements.declared"} <= codes


def test_documentation_names_every_check_and_caveat() -> None:
    text = (Path(__file__).parents[2] / "docs/verdicts.md").read_text("utf-8")
    ids = {check.id for check in judge(world()).checks if not check.id.startswith("policy.")}
    written = {id_.removeprefix("run.counter") if id_.startswith("run.") else id_ for id_ in ids}
    missing = {id_ for id_ in written | set(SENTENCES) if f"{id_}`" not in text}
    assert missing == set()
