"""Times that nobody lives in: in the claims, at the verifier, in the policy."""

import datetime as dt
import json
from pathlib import Path

import forge
import pytest
from verifying import IAT, POLICY, judge, obstacles, verdict_of, world

from laminator.appraise.explain import explain
from laminator.appraise.policy import parse_policy
from laminator.cli.main import main
from laminator.cli.verify import parse_time
from laminator.errors import UsageError
from laminator.report.card_text import card_text
from laminator.report.result_text import result_text

YEAR_10000 = 253_402_300_800
FUTURES = (int(forge.NOW.timestamp()) + 301, YEAR_10000 - 1, YEAR_10000, 2**31, 2**63, 2**64 - 1)
ENDS = (dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC))


# The card's own time.


@pytest.mark.parametrize("iat", FUTURES)
def test_a_card_from_the_future(iat: int) -> None:
    result = judge(world(iat=iat))
    assert obstacles(result) == {"claims.future"}
    assert result_text(result, "x.card")
    assert json.dumps(result.to_json())


@pytest.mark.parametrize("iat", FUTURES)
def test_a_future_card_is_not_young(iat: int) -> None:
    """Its age is negative, which no maximum excludes: the other check says no."""
    result = judge(world(iat=iat), POLICY._replace(maximum_age=1))
    assert verdict_of(result, "policy.age") == "pass"
    assert obstacles(result) == {"claims.future"}


@pytest.mark.parametrize("iat", [0, 1, IAT - 1])
def test_a_card_from_long_ago(iat: int) -> None:
    """Its time is declared: alone it decides nothing, under a maximum age everything."""
    assert judge(world(iat=iat)).accepted
    result = judge(world(iat=iat), POLICY._replace(maximum_age=3600))
    assert obstacles(result) == {"policy.age"}


@pytest.mark.parametrize("iat", FUTURES)
def test_any_time_can_be_shown(iat: int) -> None:
    line = next(
        line for line in card_text(forge.card(world(iat=iat))).splitlines() if "time" in line
    )
    is_calendar = iat < YEAR_10000
    assert (str(iat) in line) != is_calendar


# The verifier's time.


@pytest.mark.parametrize("now", ENDS)
def test_a_verifier_at_the_end_of_all_calendars(now: dt.datetime) -> None:
    result = judge(world(), now=now)
    assert {"ak.validity"} <= obstacles(result)
    assert not result.accepted
    assert result_text(result, "x.card")
    assert json.dumps(result.to_json())


@pytest.mark.parametrize("seconds", [14 * 3600, -14 * 3600, 86_399, -86_399])
@pytest.mark.parametrize("end", ENDS)
def test_a_time_zone_at_the_end_of_all_calendars(end: dt.datetime, seconds: int) -> None:
    """A time that is in no year of UTC is the caller's mistake, never an overflow."""
    now = end.replace(tzinfo=dt.timezone(dt.timedelta(seconds=seconds)))
    try:
        result = judge(world(), now=now)
    except UsageError as error:
        assert error.code == "verify.now"  # noqa: PT017 - one of the two is right
    else:
        assert "ak.validity" in obstacles(result)


def test_before_the_certificates() -> None:
    """Judged at a time at which its key had no certificate; the card is from the future then."""
    result = judge(world(iat=0), now=forge.NOW - dt.timedelta(days=3650))
    assert {"ak.validity", "ak.revocation"} & obstacles(result)
    assert not result.accepted
    assert "claims.future" not in obstacles(result)


def test_after_the_certificates() -> None:
    later = forge.NOW + dt.timedelta(days=3650)
    assert "ak.validity" in obstacles(judge(world(iat=int(later.timestamp())), now=later))


@pytest.mark.parametrize(
    "text",
    [
        *("10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "-001-01-01T00:00:00Z"),
        *("9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01"),
        *("2026-02-29T00:00:00Z", "2026-01-01T24:00:01Z", "2026-01-01T00:00:60Z"),
        *("2026-01-01T00:00:00", "2026-01-01", "2026-W01-1", "now", "", "1790000000"),
        *("2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00Z ", "\uff12026-01-01T00:00:00Z"),
        *("20260101T000000Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Zulu"),
    ],
)
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_time(text)
    assert caught.value.code == "verify.at"


@pytest.mark.parametrize("text", ["10000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"])
def test_the_command_says_what_a_time_looks_like(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "x.card"
    path.write_bytes(forge.card_bytes(world()))
    assert main(["verify", str(path), "--trust", str(tmp_path), "--at", text]) == 2
    assert "2026-01-31T12:00:00Z" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_a_time_that_no_card_was_made_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "x.card"
    path.write_bytes(forge.card_bytes(world()))
    assert main(["verify", str(path), "--trust", str(tmp_path), "--at", text, "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["judged-at"].startswith(text[:19])


# The policy's times.


@pytest.mark.parametrize("age", ["9999999w", "1s"])
def test_an_age_at_the_edge(age: str) -> None:
    policy = parse_policy(f'version = 1\nmaximum-age = "{age}"\n'.encode(), name="test")
    asked = POLICY._replace(maximum_age=policy.maximum_age)
    assert any("ago" in sentence for sentence in explain(policy))
    assert judge(world(iat=0), asked).accepted == (age == "9999999w")
    young = int(forge.NOW.timestamp())
    assert judge(world(iat=young), asked).accepted


@pytest.mark.parametrize(
    "age", ["0d", "-1d", "1.5d", "1y", "1 d", "d", "99999999w", "1e3s", "\u0661d", "", 30, True]
)
def test_an_age_that_is_none(age: object) -> None:
    text = f"version = 1\nmaximum-age = {json.dumps(age)}\n"
    with pytest.raises(UsageError, match=r"policy\.maximum-age"):
        parse_policy(text.encode(), name="test")
