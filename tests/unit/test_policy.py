"""Reading policies strictly, and saying in sentences what they ask."""

from pathlib import Path

import pytest

from laminator.appraise.code_policy import CodeRules
from laminator.appraise.explain import explain
from laminator.appraise.policy import (
    BUILT_IN,
    HARDWARE_ROOTS,
    Policy,
    load_policy,
    parse_policy,
)
from laminator.digest import parse_digest
from laminator.errors import UsageError
from laminator.toml_border import MAX_BYTES, MAX_DOTS_IN_LINE

DOCUMENT = Path(__file__).parents[2] / "docs/policy.md"
A = f"sha-256:{'a' * 64}"
RULE = '[[property]]\nname = "a"\nsource = "reported"\n'


def _parse(text: str) -> Policy:
    return parse_policy(text.encode(), name="test")


def _full() -> str:
    """Return the example of docs/policy.md with a digest filled in."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    example = [line[4:] for line in lines if line.startswith("    ")]
    return "\n".join(example).replace("sha-256:…", A)


def test_least_policy_has_the_built_in_defaults() -> None:
    assert _parse("version = 1") == BUILT_IN._replace(name="test")


def test_built_in_policy_is_strict() -> None:
    assert BUILT_IN.roots == HARDWARE_ROOTS
    assert "simulated" not in BUILT_IN.roots
    assert BUILT_IN.require == ("ak.revocation",)
    assert BUILT_IN.data_chosen_by == "reference"
    assert not BUILT_IN.coverage_named


def test_documented_example() -> None:
    policy = _parse(_full())
    (rule,) = policy.properties
    assert policy.roots == ("tpm",)
    assert policy.coverage_named
    assert policy.require == ("ak.revocation", "lineage.model")
    assert policy.nonce_required
    assert policy.maximum_age == 30 * 86_400
    assert policy.authority == "independent"
    assert policy.references.data == policy.independent_authorities == {parse_digest(A)}
    assert policy.artifacts == {"model": parse_digest(A)}
    assert (rule.id, rule.on, rule.sources) == (
        "policy.property.accuracy",
        ("test",),
        ("measured",),
    )
    assert rule.parameters == {"labels": "column:label"}
    assert (rule.least, rule.most, rule.bound, rule.required) == (0.9, None, "interval", True)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "version"),
        ("version = 2", "policy.version"),
        ("version = true", "policy.version"),
        ("version = 1.5", "policy.version"),
        ("version = 1\nroot = 1", "root"),
        ('version = 1\nroots = "tpm"', "policy.roots"),
        ("version = 1\nroots = []", "policy.roots"),
        ('version = 1\nroots = ["laptop"]', "policy.roots"),
        ('version = 1\ncoverage = "full"', "policy.coverage"),
        ('version = 1\nrequire = ["revocation"]', "policy.require"),
        ('version = 1\nrequire = ["ak.*"]', "policy.require"),
        ('version = 1\nrequire = ["policy.root"]', "own rules always hold"),
        (f"version = 1\n{RULE}min = 0\nconfidence = 1", "confidence"),
        (f"version = 1\n{RULE}min = 0\nconfidence = true", "confidence"),
        (f"version = 1\n{RULE}confidence = 0.9", "confidence"),
        (f'version = 1\n{RULE}min = 0\nbound = "point"\nconfidence = 0.9', "confidence"),
        (f"version = 1\n{RULE}unit = 1", "unit"),
        ("version = 1\nnonce = true", "policy.nonce"),
        ('version = 1\nmaximum-age = "30"', "policy.maximum-age"),
        ('version = 1\nmaximum-age = "0d"', "policy.maximum-age"),
        ("version = 1\nmaximum-age = 30", "policy.maximum-age"),
        ("version = 1\nmaximum-age = 2026-01-01", "an array or a table"),
        (f"version = 1\n{RULE}min = {'9' * 400}", "beyond 64 bits"),
        ('version = 1\nauthority = "me"', "policy.authority"),
        ('version = 1\nindependent-authorities = ["abc"]', "policy.independent-authorities"),
        ('version = 1\ndata-chosen-by = "me"', "policy.data-chosen-by"),
        ('version = 1\nunknown-code = "warn"', "policy.unknown-code"),
        ('version = 1\nunknown-code = "refuse-measured"', "policy.unknown-code"),
        ("version = 1\n[code]\nknown = []", "known"),
        ('version = 1\n[code]\nallow = ["abc"]', "policy.code.allow"),
        (f'version = 1\n[code]\nforbid = ["sha-384:{"a" * 96}"]', "as a log has them"),
        (f'version = 1\n[code]\nforbid = ["{A}", "{A}"]', "repetition"),
        (f'version = 1\n[code]\nallow = ["{A}"]\nforbid = ["{A}"]', "policy.code.forbid"),
        ('version = 1\n[code]\nforbid-events = ["source"]', "policy.code.forbid-events"),
        ("version = 1\n[reference]\nkernel = []", "kernel"),
        (f'version = 1\n[reference]\nlaunch = "{A}"', "policy.reference.launch"),
        (f'version = 1\n[reference]\nlaunch = ["{A.upper()}"]', "policy.reference.launch"),
        ('version = 1\n[artifacts]\nmodel = "abc"', "policy.artifacts.model"),
        (f'version = 1\n[artifacts]\n"-m" = "{A}"', "policy.artifacts"),
        ("version = 1\n[[property]]", "name"),
        ('version = 1\n[[property]]\nname = "a"', "source"),
        ('version = 1\n[[property]]\nname = "a"\nsource = "true"', "policy.property"),
        ('version = 1\n[[property]]\nname = "a"\nsource = []', "policy.property"),
        ('version = 1\n[[property]]\nname = "a"\nsource = ["measured", "measured"]', "repetition"),
        ('version = 1\n[[property]]\nname = "a"\nsource = "measured"\nmin = nan', "min"),
        ('version = 1\n[[property]]\nname = "a"\nsource = "measured"\nmin = inf', "min"),
        ('version = 1\n[[property]]\nname = "a"\nsource = "measured"\nmin = true', "min"),
        ('version = 1\n[[property]]\nname = "a"\nsource = "measured"\nmin = 2\nmax = 1', "min"),
        ('version = 1\n[[property]]\nname = "a"\nsource = "measured"\nbound = "point"', "bound"),
        ('version = 1\n[[property]]\nname = "a"\nsource = "measured"\nminimum = 1', "minimum"),
        (
            'version = 1\n[[property]]\nname = "a"\nsource = "measured"\nparameters = 1',
            "parameters",
        ),
        (f"version = 1\n{RULE}parameters = {{ n = [1] }}", "parameters"),
        ("version = 1\nversion = 1", "TOML"),
        ("version = 1 2", "TOML"),
        (f"version = {'[' * 5000}", "TOML"),
        (f"version = {'[' * 20}{']' * 20}", "deeper"),
    ],
)
def test_what_is_wrong_is_named(text: str, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        _parse(text)
    assert key in caught.value.message


def test_bytes_that_are_not_text() -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(b"\xff", name="test")
    assert caught.value.code == "policy.syntax"


def test_size_is_bounded() -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(b"#" * (MAX_BYTES + 1), name="test")
    assert caught.value.code == "policy.size"


def test_dots_in_a_line_are_bounded() -> None:
    with pytest.raises(UsageError, match="break it into several") as caught:
        parse_policy(b"a" + b".a" * MAX_DOTS_IN_LINE + b".a = 1", name="test")
    assert caught.value.code == "policy.size"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("9" * 400, "policy.content"),
        ("9" * 5000, "policy.syntax"),
        ("0x1" + "0" * 5000, "policy.content"),
    ],
)
@pytest.mark.parametrize("key", ["min = {}", "parameters = {{ n = {} }}"])
def test_huge_numbers(number: str, code: str, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        _parse(f"version = 1\n{RULE}{key.format(number)}")
    assert caught.value.code == code


def test_load_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("version = 1", encoding="utf-8")
    assert load_policy(str(path)).name == str(path)
    with pytest.raises(UsageError) as caught:
        load_policy(str(tmp_path / "missing.toml"))
    assert caught.value.code == "policy.unreadable"


def test_rules_of_one_name_have_their_own_ids() -> None:
    rule = '[[property]]\nname = "a"\nsource = ["measured", "reported"]\non = ["x", "y"]\n'
    policy = _parse("version = 1\n" + rule * 2)
    assert [each.id for each in policy.properties] == [
        "policy.property.a",
        "policy.property.a#2",
    ]
    assert policy.properties[0].sources == ("measured", "reported")
    assert policy.properties[0].on == ("x", "y")


def test_numbers_may_be_integers() -> None:
    rule = '[[property]]\nname = "a"\nsource = "measured"\nmin = 1\nmax = 2.5\n'
    (parsed,) = _parse("version = 1\n" + rule).properties
    assert (parsed.least, parsed.most) == (1.0, 2.5)


def test_lineage_keeps_what_concerns_trust() -> None:
    policy = _parse(_full()).for_lineage()
    assert policy.require == ("ak.revocation",)
    assert policy.roots == ("tpm",)
    assert policy.references == _parse(_full()).references
    assert policy.authority == "independent"
    assert (policy.nonce_required, policy.maximum_age) == (False, None)
    assert (policy.properties, policy.artifacts) == ((), {})
    assert policy.code == CodeRules("refuse", frozenset({parse_digest(A)}))._replace(
        forbid_events=frozenset({"pickle", "ctypes"})
    )
    assert policy.for_lineage() == policy
    assert policy.for_ledger().code == CodeRules("allow")


def _sentences(text: str) -> str:
    return "\n".join(explain(_parse(f"version = 1\n{text}")))


def test_explain_says_everything_asked() -> None:
    said = "\n".join(explain(_parse(_full())))
    for expected in (
        "The hardware root is one of: tpm.",
        "has to match a reference value",
        "The check lineage.model has to pass.",
        "nonce that the verifier gives",
        "at most 30 days",
        f"Known digests for the entry script: {A}.",
        f"The artifact model is {A}.",
        "independent: ",
        "measured property accuracy on test by laminator.properties.performance.accuracy/1",
        "with labels column:label is at least 0.9 and in the unit 1, judged by the worse end",
        "there is at least one",
    ):
        assert expected in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Measured values count only at coverage attester"),
        ('coverage = "launch"', "the policy names that coverage"),
        ('coverage = "attester"', "No card reaches coverage attester in this version"),
        (RULE.replace("reported", "external"), "no external value counts"),
        (f'{RULE}unit = "%"', "in the unit %"),
        ('roots = ["simulated"]', "proves nothing against the owner"),
        ("require = []", "a revoked key is accepted"),
        ("", "an old card is accepted like a new one"),
        ("", "so coverage stays none"),
        ("", "Any entry script is accepted where the attester does not measure code."),
        ("", "A card whose attester does not measure code is accepted all the same."),
        ("", "Code without a file (compiled text, foreign functions, pickles …) may run."),
        ('unknown-code = "allow"', "Any code may run, known or not."),
        ('unknown-code = "allow"', "Any entry script is accepted."),
        ('unknown-code = "refuse"', "does not say which code ran is refused."),
        (f'[code]\nallow = ["{A}"]', f"Approved files of code: {A}."),
        (f'[code]\nforbid = ["{A}"]', f"Forbidden code, whatever approves it: {A}."),
        ('[code]\nforbid-events = ["pickle", "exec"]', "may not run by exec, pickle."),
        ("", "Every measured value is on data that is a reference value."),
        ('data-chosen-by = "provider"', "data that the provider chose"),
        ("", "A self-certified attestation key is enough."),
        ('authority = "independent"', "none is named"),
        (
            f'{RULE}max = 1\nbound = "point"\nrequired = false',
            "at most 1, judged by its value alone; there may be none.",
        ),
        ('[[property]]\nname = "a"\nsource = "reported"', "Every reported property a is accepted;"),
        (
            '[[property]]\nname = "a"\nsource = "reported"\nmin = 0\nmax = 1',
            "at least 0 and at most 1, judged by the worse end of its interval where it has one",
        ),
        (
            '[[property]]\nname = "a"\nsource = ["measured", "external"]',
            "is accepted, though no external value counts in this version",
        ),
    ],
)
def test_explain_says_what_is_let_through(text: str, expected: str) -> None:
    assert expected in _sentences(text)
