"""Policy files that look stricter than they are: each is refused, or refuses the card."""

import pytest
from verifying import LAUNCH_DIGEST, judge, obstacles, world

from laminator.appraise.explain import explain
from laminator.appraise.policy import Policy, parse_policy
from laminator.digest import sha256
from laminator.errors import UsageError

HEAD = """version = 1
roots = ["simulated"]
coverage = "launch"
require = ["ak.revocation"]
nonce = "optional"
maximum-age = "1d"
authority = "self-certified"
data-chosen-by = "provider"
"""
REFERENCE = f'[reference]\nlaunch = ["{LAUNCH_DIGEST}"]\n'
RULE = """[[property]]
name = "accuracy"
source = "measured"
on = "test"
measurer = "laminator.accuracy/1"
min = 0.2
bound = "interval"
unit = "1"
confidence = 0.9
required = true
parameters = { n = 4 }
"""
ARTIFACTS = f'[artifacts]\nmodel = "{sha256(b"model")}"\n'
WHOLE = HEAD + REFERENCE + ARTIFACTS + RULE
CYRILLIC = str.maketrans("aceopsxyi", "\u0430\u0441\u0435\u043e\u0440\u0455\u0445\u0443\u0456")


def read(text: str) -> Policy:
    return parse_policy(text.encode(), name="test")


def refused(text: str, naming: str, code: str = "policy.content") -> None:
    assert text != WHOLE
    with pytest.raises(UsageError) as caught:
        read(text)
    assert caught.value.code == code
    assert naming in caught.value.message


def test_the_policy_as_it_is() -> None:
    assert judge(world(), read(WHOLE)).accepted


# Keys.

KEYS = [line.split(" = ")[0] for line in WHOLE.splitlines() if " = " in line]


@pytest.mark.parametrize("key", [key for key in KEYS if key not in ("version", "model")])
@pytest.mark.parametrize("change", ["s", "_"], ids=["one letter more", "an underscore"])
def test_a_misspelt_key(key: str, change: str) -> None:
    """Were it ignored, what it asks would not be asked."""
    refused(WHOLE.replace(f"\n{key} = ", f"\n{key}{change} = ", 1), "policy")


@pytest.mark.parametrize("key", ["roots", "coverage", "require", "nonce", "name", "on", "source"])
def test_a_key_of_letters_that_look_alike(key: str) -> None:
    alike = key.translate(CYRILLIC)
    assert (alike != key, len(alike)) == (True, len(key))
    text = WHOLE.replace(f"\n{key} = ", f'\n"{alike}" = ', 1)
    refused(text, "")


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace("[reference]", "[references]"),
        WHOLE.replace("[artifacts]", "[artifact]"),
        WHOLE.replace("[[property]]", "[[properties]]"),
        WHOLE.replace("[[property]]", "[property]"),
        WHOLE.replace("[reference]", "[[reference]]"),
        WHOLE.replace("[reference]", "[policy.reference]"),
        WHOLE.replace("version = 1", "Version = 1"),
        WHOLE.replace("version = 1", "version = 2"),
        WHOLE.replace("version = 1", "version = true"),
        WHOLE.replace("version = 1\n", ""),
    ],
)
def test_a_table_or_version_that_is_not_there(text: str) -> None:
    refused(text, "")


@pytest.mark.parametrize(
    "text",
    [
        HEAD + 'roots = ["tpm"]\n',
        HEAD + ARTIFACTS + f'model = "{sha256(b"other")}"\n',
        HEAD + REFERENCE + REFERENCE,
        HEAD + RULE + "min = 0.9\n",
        "\ufeff" + HEAD,
        HEAD + "a" + ".a" * 150 + " = 1\n" + "a = 1\n",
    ],
    ids=["key", "artifact", "table", "bound", "byte order mark", "dotted"],
)
def test_a_thing_said_twice_is_no_toml(text: str) -> None:
    """Nobody chooses between the first and the last of two contradicting lines."""
    refused(text, "not TOML", "policy.syntax")


# Lists.


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("policy.roots", WHOLE.replace('["simulated"]', '["simulated", "simulated"]')),
        ("policy.require", WHOLE.replace('"ak.revocation"', '"ak.revocation", "ak.revocation"')),
        ("policy.reference.launch", HEAD + f"[reference]\nlaunch = {[str(sha256(b''))] * 2}\n"),
        ("policy.property[0].source", WHOLE.replace('"measured"', '["measured", "measured"]')),
        ("policy.property[0].on", WHOLE.replace('"test"', '["test", "test"]')),
    ],
)
def test_a_list_that_repeats_itself(key: str, text: str) -> None:
    refused(text, key)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("policy.roots", WHOLE.replace('["simulated"]', "[]")),
        ("policy.reference.entry", HEAD + "[reference]\nentry = []\n"),
        ("policy.reference.interpreter", HEAD + "[reference]\ninterpreter = []\n"),
        ("policy.property[0].source", WHOLE.replace('"measured"', "[]")),
        ("policy.property[0].on", WHOLE.replace('on = "test"', "on = []")),
        ("policy.property[0].measurer", WHOLE.replace('"laminator.accuracy/1"', "[]")),
    ],
)
def test_an_empty_list_that_would_let_anything_through(key: str, text: str) -> None:
    refused(text, key)


@pytest.mark.parametrize(
    ("text", "stopped"),
    [
        (HEAD + "[reference]\nlaunch = []\n", {"policy.coverage"}),
        (
            HEAD.replace('"provider"', '"reference"') + REFERENCE + "data = []\n",
            {"policy.data-chosen-by"},
        ),
        (
            "independent-authorities = []\n"
            + HEAD.replace('"self-certified"', '"independent"')
            + REFERENCE,
            {"policy.independence"},
        ),
    ],
    ids=["launch", "data", "authorities"],
)
def test_an_empty_list_that_lets_nothing_through(text: str, stopped: set[str]) -> None:
    assert obstacles(judge(world(), read(text))) == stopped


# Check ids.


@pytest.mark.parametrize("id_", ["ak.revocaton", "ak.Revocation", "lineage.modle", "tpm.x"])
def test_a_misspelt_check_refuses_every_card(id_: str) -> None:
    text = WHOLE.replace('"ak.revocation"', f'"ak.revocation", "{id_}"')
    assert obstacles(judge(world(), read(text))) == {id_, f"policy.require.{id_}"}


@pytest.mark.parametrize(
    "id_", ["ak", "ak.", ".ak", "ak revocation", "AK.x", "policy.root", "\u0430k.x"]
)
def test_what_is_no_check_id(id_: str) -> None:
    refused(WHOLE.replace('"ak.revocation"', f'"{id_}"'), "policy.require")


# Rules.


@pytest.mark.parametrize(
    "change",
    [
        ("min = 0.2", "min = -inf"),
        ("min = 0.2", "min = inf"),
        ("min = 0.2", "min = nan"),
        ("min = 0.2", "max = +inf"),
        ("min = 0.2", "min = 0.9\nmax = 0.8"),
        ("min = 0.2", "min = true"),
        ("min = 0.2", 'min = "0.2"'),
        ("{ n = 4 }", "{ n = nan }"),
        ("{ n = 4 }", "{ n = inf }"),
        ("{ n = 4 }", "{ n = { m = 4 } }"),
        ("confidence = 0.9", "confidence = 0"),
        ("confidence = 0.9", "confidence = 1"),
        ("confidence = 0.9", "confidence = 95"),
        ("required = true", "required = 1"),
        ("required = true", 'required = "no"'),
        ('bound = "interval"', 'bound = "both"'),
        ('name = "accuracy"', f'name = "{"accuracy".translate(CYRILLIC)}"'),
        ('name = "accuracy"', 'name = "accuracy\u200b"'),
        ('on = "test"', 'on = "te\u0455t"'),
        ("model = ", '"m\u043edel" = '),
    ],
)
def test_a_rule_that_is_none(change: tuple[str, str]) -> None:
    assert change[0] in WHOLE
    refused(WHOLE.replace(*change), "policy.")


@pytest.mark.parametrize("sources", ['"reported"', '["measured", "reported", "declared"]'])
def test_a_rule_that_no_card_could_fail(sources: str) -> None:
    idle = f'[[property]]\nname = "accuracy"\nsource = {sources}\nrequired = false\n'
    refused(HEAD + idle, "policy.property.accuracy: expected min, max, unit or required")
    refused(HEAD + idle + 'on = "test"\nparameters = { n = 4 }\n', "policy.property.accuracy")
    assert read(HEAD + idle + "min = 0.2\n").properties
    assert read(HEAD + idle + 'unit = "1"\n').properties


def test_a_rule_that_lists_every_source_asks_for_proof_of_some() -> None:
    """It bans what nobody can check: a card with an external accuracy is refused."""
    sources = '["measured", "reported", "declared", "external"]'
    text = f'[[property]]\nname = "accuracy"\nsource = {sources}\nrequired = false\n'
    policy = read(HEAD + REFERENCE + text)
    assert judge(world(), policy).accepted
    (found,) = (item for item in world().claims.properties if item.name == "accuracy")
    external = world(properties=(found._replace(source="external"),))
    assert obstacles(judge(external, policy)) == {"policy.property.accuracy"}


@pytest.mark.parametrize(
    ("second", "warned"),
    [
        ("max = 0.8", True),
        ('max = 2\nunit = "nats"', True),
        ("min = 0.95", False),
        ("max = 0.9", False),
        ('on = "train"\nmax = 0.1', False),
    ],
)
def test_two_rules_that_no_value_meets(second: str, warned: bool) -> None:
    """They refuse every card that has the property; who reads the explanation learns why."""
    rule = '[[property]]\nname = "accuracy"\nsource = "measured"\n'
    policy = read(f"{HEAD}{REFERENCE}{rule}min = 0.9\n{rule}{second}\n")
    warning = "no card meets policy.property.accuracy and policy.property.accuracy#2 together"
    assert any(warning in line for line in explain(policy)) == warned
    (found,) = (item for item in world().claims.properties if item.name == "accuracy")
    for value in (0.0, 0.5, 0.85, 0.9, 1.0):
        card = world(properties=(found._replace(value=value, interval=None),))
        accepted = judge(card, policy).accepted
        assert not (warned and accepted)


def test_an_artifact_that_contradicts_the_verifiers_own() -> None:
    """Both hold: the policy's digest, and that of the file that the verifier has."""
    other = sha256(b"another model")
    assert judge(world(), read(WHOLE), artifacts={"model": sha256(b"model")}).accepted
    result = judge(world(), read(WHOLE), artifacts={"model": other})
    assert obstacles(result) == {"artifact.model"}
    contradicting = read(WHOLE.replace(str(sha256(b"model")), str(other)))
    result = judge(world(), contradicting, artifacts={"model": sha256(b"model")})
    assert obstacles(result) == {"policy.artifact.model"}


# Size.


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x" * (256 * 1024 + 1), "policy.size"),
        (HEAD + "a" + ".a" * 201 + " = 1\n", "policy.size"),
        (HEAD + "a = " + "[" * 20_000 + "]" * 20_000, "policy.syntax"),
        (HEAD + "a = " + "[" * 20 + "]" * 20, "policy.content"),
        (HEAD + "a = " + "9" * 5000, "policy.syntax"),
        (HEAD + "\n".join(f"a{number} = 1" for number in range(15_000)), "policy.content"),
    ],
    ids=["bytes", "dots", "very deep", "deep", "digits", "keys"],
)
def test_a_policy_too_large_to_read(text: str, code: str) -> None:
    refused(text, "", code)


def test_very_many_rules_are_explained_in_one_pass() -> None:
    rule = '[[property]]\nname = "p"\nsource = "reported"\nmin = 0\n'
    policy = read(HEAD + rule * 4000)
    assert len(policy.properties) == 4000
    assert sum(line.startswith("Every reported property p") for line in explain(policy)) == 4000
