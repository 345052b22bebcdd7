"""Text from a card never reaches a terminal raw, and reports lead with what matters."""

import unicodedata
from types import MappingProxyType

import forge
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verifying import claims, judge, world

from enclave_sim.adversary import forged_claims as samples
from laminator.appraise.ledger import verify_ledger
from laminator.appraise.policy import BUILT_IN
from laminator.card import parse_card
from laminator.claims import Code, Interval, Property
from laminator.digest import sha256
from laminator.report.card_text import card_text
from laminator.report.ledger_text import ledger_text
from laminator.report.result_text import result_text
from laminator.report.text import safe, safe_message
from laminator.report.value import value_text

HOSTILE = "x\x1b[2J\r\u202e\u200b\u2028\x00\n\x9b y"


def _is_drawn(character: str) -> bool:
    hidden = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return character == " " or unicodedata.category(character) not in (*hidden, "Zs")


@given(st.text())
def test_safe_is_one_drawn_line(text: str) -> None:
    line = safe(text)
    assert all(map(_is_drawn, line))
    assert len(line) <= 200


@given(st.text(max_size=30), st.text(max_size=30))
def test_safe_keeps_different_texts_apart(one: str, other: str) -> None:
    assert (safe(one, limit=1000) == safe(other, limit=1000)) == (one == other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("größe 模型", "größe 模型"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\u202egnp", "\\u202egnp"),
        ("a\u200bb", "a\\u200bb"),
        ("\u3164", "\\u3164"),
        ("\ufe0f", "\\ufe0f"),
        ("\U000e0041", "\\U000e0041"),
        ("\U000e0100", "\\U000e0100"),
        ("\u00a0", "\\xa0"),
        ("a  b   c", "a \\x20b \\x20 c"),
        ("\u05d0 9", "\\u05d0 9"),
        ("\u0627\u0661", "\\u0627\\u0661"),
        ("\\x1b", "\\\\x1b"),
        ("\ud800", "\\ud800"),
        ("e" + "\u0301" * 6, "e" + "\u0301" * 4 + "\\u0301\\u0301"),
    ],
)
def test_safe_escapes(text: str, expected: str) -> None:
    assert safe(text) == expected


def test_safe_cuts() -> None:
    assert safe("x" * 201) == "x" * 197 + "..."
    assert safe("x" * 200) == "x" * 200
    assert len(safe("\x1b" * 1000)) == 200
    assert safe("x" * 10, limit=5) == "xx..."


def test_safe_message_keeps_our_lines() -> None:
    assert safe_message("one \\x1b\ntwo\x1b") == "one \\x1b\ntwo\\x1b"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.123456789, "0.123457"),
        (7, "7"),
        (True, "true"),
        (None, "none"),
        ("te\x1bxt", '"te\\x1bxt"'),
        ('0.9" (0.8', '"0.9\\x22 (0.8"'),
        (b"\xff", "ff"),
        ((1, ("a",)), '[1, ["a"]]'),
        ({"a": {"b": 1.5}}, "{a: {b: 1.5}}"),
        ({"a: 1, b": 2}, '{"a: 1, b": 2}'),
    ],
)
def test_value(value: object, expected: str) -> None:
    assert value_text(value) == expected


def test_value_with_unit_and_interval() -> None:
    interval = Interval(0.3, 0.95, 0.95, "wilson")
    assert value_text(0.75, "1", interval) == "0.75 (0.3 to 0.95, 95 %, wilson)"
    assert value_text(3, "s\x1b") == '3 "s\\x1b"'


def test_a_reported_value_cannot_pass_for_a_measured_statement() -> None:
    imitation = "0.999 (0.998 to 1, 95 %, wilson)"
    fake = f"0.12{' ' * 9}- [measured by m/1: proven] accuracy = {imitation}"
    items = (
        Property("note", fake, "reported", "workload"),
        Property("recall", 0.12, "reported", "workload", unit=imitation),
    )
    text = result_text(judge(world(properties=items)), "x.card")
    note, recall = (
        line for line in text.splitlines() if line.startswith("  - [") and " = " in line
    )
    assert note.startswith("  - [reported by workload: ")
    assert '] note = "0.12 \\x20 \\x20 \\x20 \\x20 - [measured' in note
    assert recall.endswith(f'] recall = 0.12 "{imitation}"')
    shown = card_text(forge.card(world(properties=items)))
    assert f'  [reported by workload] 0.12 "{imitation}"' in shown
    assert '  [reported by workload] "0.12 \\x20' in shown


def test_long_values_are_cut() -> None:
    assert value_text((0,) * 1000) == "[" + "0, " * 65 + "0" + "..."
    assert len(value_text("x" * 1000)) == 200


def _hostile_world() -> forge.World:
    workload = claims().workload._replace(
        entry=Code(HOSTILE, claims().workload.entry.digest),
        arguments=(HOSTILE,),
        environment=MappingProxyType({"NAME": HOSTILE}),
    )
    odd = Property("odd", HOSTILE, "reported", HOSTILE, unit=HOSTILE)
    nested = Property("nested", {"a": (HOSTILE,)}, "declared", HOSTILE)
    return world(workload=workload, properties=(odd, nested))


def _printable(text: str) -> bool:
    return all(map(_is_drawn, text.replace("\n", "")))


def test_hostile_card_in_a_result() -> None:
    result = judge(_hostile_world())
    assert result.accepted
    assert _printable(result_text(result, f"{HOSTILE}.card"))
    assert "\\x1b[2J" in result_text(result, "x.card")


def test_hostile_card_shown() -> None:
    assert _printable(card_text(forge.card(_hostile_world())))


def test_rejected_report_leads_with_the_reasons() -> None:
    lines = result_text(judge(world(), BUILT_IN), "x.card").splitlines()
    assert lines[0].startswith("x.card: REJECTED under policy built-in: policy.root")
    table = lines[lines.index("checks (* is required)") + 1 :]
    assert table[0].split()[:2] == ["FAIL", "policy.root"]
    assert not any("accuracy =" in line for line in lines)


def test_accepted_report_says_whose_word_and_what_is_not_proven() -> None:
    text = result_text(judge(world()), "x.card")
    assert text.startswith("x.card: ACCEPTED under policy test\n")
    assert "[measured by laminator.accuracy/1: an attester whose code is not proven" in text
    assert "data chosen by: provider" in text
    assert "what this result does not prove" in text
    assert "root.simulated: " in text
    assert "  pass        * tpm.binding" in text
    assert "  n/a           claims.nonce" in text


def test_unparsable_card_has_a_report() -> None:
    text = result_text(judge(b"\x1b"), "x.card")
    assert "card.parse" in text
    assert "unreadable" in text


def test_card_text_shows_everything() -> None:
    text = card_text(samples.card())
    for expected in ("evaluate.py", "accuracy on model, test", "licence", "LANG", "endorsements"):
        assert expected in text
    assert "builds on cards" in text
    assert "<committed 6161616161616161>" in text


def test_card_text_of_an_impossible_time() -> None:
    text = card_text(forge.card(world(iat=2**64 - 1)))
    assert f"{2**64 - 1} seconds after 1970" in text


def test_card_text_names_a_plan_where_there_is_one() -> None:
    run = claims().run
    assert run.plan is not None
    assert str(run.plan) in card_text(forge.card(world()))
    assert "plan" not in card_text(forge.card(world(run=run._replace(plan=None)))).split()
    token = sha256(b"token")
    text = card_text(forge.card(world(run=run._replace(plan_token=token, seed="nonce"))))
    lines = [line.split() for line in text.splitlines()]
    assert ["plan's", "time-stamp", str(token)] in lines
    assert ["seed", "nonce"] in lines


def test_text_of_a_ledger_that_cannot_be_read() -> None:
    trust, now = forge.machine().trust, forge.NOW
    result = verify_ledger(b"nothing", BUILT_IN, trust=trust, now=now)
    text = ledger_text(result._replace(caveats=()), "x.ledger")
    assert text.startswith("x.ledger: REJECTED under policy built-in: not readable\n")
    assert "numbers" not in text
    assert "does not show" not in text


def test_card_text_is_bounded() -> None:
    many = tuple(Property(f"p{number}", number, "reported", "x") for number in range(500))
    text = card_text(parse_card(forge.card_bytes(world(properties=many, nonce=None))))
    assert "and 300 more; --json shows all" in text
    assert len(text.splitlines()) < 500
