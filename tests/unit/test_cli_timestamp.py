"""`laminator timestamp`: from a server, from the simulated authority, and by hand."""

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from timestamp_server import (
    PLAN,
    Reply,
    authority,
    golden_card,
    put_card,
    serving,
    simulated_tsa,
)

from enclave_sim.machine import Machine
from laminator.appraise.timestamps import appraise_token
from laminator.appraise.trust import SIMULATED_TSA, Anchor, TrustStore
from laminator.card import Card, parse_card, timestamp_message
from laminator.cli.main import main
from laminator.digest import parse_digest, sha256
from laminator.endorsements import endorsements_of

Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def card(tmp_path: Path) -> str:
    return str(put_card(tmp_path))


@pytest.fixture
def plan(tmp_path: Path) -> str:
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    return str(tmp_path / "plan.toml")


def _parsed(path: str | Path) -> Card:
    return parse_card(Path(path).read_bytes())


def _facts(said: Said) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(said.readouterr().out)
    return facts


def _refused(said: Said, *words: str) -> str:
    assert main(["timestamp", *words, "--json"]) == 1
    code: str = _facts(said)["refused"]["code"]
    return code


def _usage(said: Said, *words: str) -> str:
    assert main(["timestamp", *words]) == 2
    captured = said.readouterr()
    assert captured.out == ""
    return captured.err


def _trust_folder(folder: Path) -> str:
    (folder / "trust" / SIMULATED_TSA).mkdir(parents=True)
    (folder / "trust" / "crls").mkdir()
    (folder / "trust" / SIMULATED_TSA / "root.pem").write_bytes(authority().root_pem)
    crl = (authority().folder / "root.crl").read_bytes()
    (folder / "trust" / "crls" / "tsa.crl").write_bytes(crl)
    return str(folder / "trust")


# --- from a server


@pytest.mark.parametrize("hash_", ["sha256", "sha512"])
def test_a_card_gets_a_token_that_verifiers_take(card: str, hash_: str, capsys: Said) -> None:
    with serving(simulated_tsa) as served:
        assert main(["timestamp", card, "--tsa", served.url, "--hash", hash_, "--json"]) == 0
    facts = _facts(capsys)
    stamped = _parsed(card)
    assert stamped._replace(endorsements=()) == golden_card()
    (token,) = endorsements_of(stamped).timestamps
    trust = TrustStore((Anchor(SIMULATED_TSA, authority().root),), (authority().crl,))
    now = authority().crl.next_update_utc
    assert now is not None
    judged = appraise_token(token, timestamp_message(stamped), trust, now)
    assert judged.verified is not None
    assert judged.verified.simulated
    assert facts["id"] == f"sha-256:{stamped.id.hex()}"
    assert (facts["kind"], facts["file"], facts["chain"]) == ("card", card, "not-checked")
    assert parse_digest(facts["response"]) == sha256(token)
    assert facts["next"] == f"laminator verify {card}"


def test_a_second_token_is_added(card: str) -> None:
    with serving(simulated_tsa) as served:
        for _ in range(2):
            assert main(["timestamp", card, "--tsa", served.url]) == 0
    assert len(set(endorsements_of(_parsed(card)).timestamps)) == 2


def test_it_says_that_the_authority_was_not_checked(card: str, capsys: Said) -> None:
    with serving(simulated_tsa) as served:
        assert main(["timestamp", "--tsa", served.url, card]) == 0
    assert "authority: not checked here; laminator verify does" in capsys.readouterr().out


def test_the_authority_is_checked_on_demand(card: str, tmp_path: Path, capsys: Said) -> None:
    trust = _trust_folder(tmp_path)
    with serving(simulated_tsa) as served:
        assert main(["timestamp", card, "--tsa", served.url, "--trust", trust]) == 0
        assert "authority: simulated CN=Laminator simulated" in capsys.readouterr().out
        assert main(["timestamp", card, "--tsa", served.url, "--trust", trust, "--json"]) == 0
    facts = _facts(capsys)
    assert (facts["chain"], facts["simulated"]) == ("checked", True)
    assert parse_digest(facts["anchor"]) == Anchor(SIMULATED_TSA, authority().root).fingerprint


@pytest.mark.parametrize("missing", ["root.pem", "tsa.crl"])
def test_an_authority_without_anchor_or_list_is_refused(
    card: str, tmp_path: Path, capsys: Said, missing: str
) -> None:
    trust = _trust_folder(tmp_path)
    (found,) = Path(trust).rglob(missing)
    found.unlink()
    before = Path(card).read_bytes()
    with serving(simulated_tsa) as served:
        code = _refused(capsys, card, "--tsa", served.url, "--trust", trust)
        assert main(["timestamp", card, "--tsa", served.url, "--trust", trust]) == 1
    said = capsys.readouterr().err
    assert code == "timestamp.trust"
    assert ("time.chain" in said, "time.revocation" in said) == (
        missing == "root.pem",
        missing == "tsa.crl",
    )
    assert "next: pin the authority's root" in said
    assert Path(card).read_bytes() == before


def test_an_answer_to_somebody_else_leaves_the_card(
    card: str, plan: str, tmp_path: Path, capsys: Said
) -> None:
    before = Path(card).read_bytes()
    request = str(tmp_path / "q.tsq")
    for source, code in ((plan, "timestamp.imprint"), (card, "timestamp.nonce")):
        assert main(["timestamp", "request", source, "--out", request]) == 0
        capsys.readouterr()
        other = Reply(authority().reply(Path(request).read_bytes()))
        with serving(lambda _, other=other: other) as served:  # type: ignore[misc]
            assert _refused(capsys, card, "--tsa", served.url) == code
    assert Path(card).read_bytes() == before


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(bytes.fromhex("30053003020102")), "timestamp.status"),
        (Reply(b""), "der.element"),
        (Reply(b"gone", status=410), "timestamp.http"),
    ],
)
def test_what_is_no_token_leaves_the_card(card: str, capsys: Said, reply: Reply, code: str) -> None:
    before = Path(card).read_bytes()
    with serving(lambda _: reply) as served:
        assert _refused(capsys, card, "--tsa", served.url) == code
    assert Path(card).read_bytes() == before


def test_a_card_that_changes_meanwhile_is_not_overwritten(card: str, capsys: Said) -> None:
    other = Path(__file__).parents[1] / "vectors" / "cards" / "v1" / "evaluation.card"

    def changing(body: bytes) -> Reply:
        Path(card).write_bytes(other.read_bytes())
        return simulated_tsa(body)

    with serving(changing) as served:
        assert _refused(capsys, card, "--tsa", served.url) == "timestamp.imprint"
    assert Path(card).read_bytes() == other.read_bytes()


def test_a_token_that_another_added_meanwhile_stays(card: str) -> None:
    def stamping_twice(body: bytes) -> Reply:
        with serving(simulated_tsa) as inner:
            assert main(["timestamp", card, "--tsa", inner.url]) == 0
        return simulated_tsa(body)

    with serving(stamping_twice) as served:
        assert main(["timestamp", card, "--tsa", served.url]) == 0
    assert len(endorsements_of(_parsed(card)).timestamps) == 2


# --- from the simulated authority


def test_a_simulated_token_verifies_by_the_machines_trust(
    card: str, machine: Machine, capsys: Said
) -> None:
    trust = str(machine.trust_dir)
    where = f"--simulated={machine.folder.root}"
    assert main(["timestamp", card, where, "--trust", trust, "--json"]) == 0
    assert _facts(capsys)["simulated"] is True


def test_a_bare_simulated_takes_no_card_for_its_folder(
    card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    state = tmp_path / "state" / "laminator"
    state.mkdir(parents=True)
    (state / "machine").symlink_to(machine.folder.root)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert main(["timestamp", "--simulated", card]) == 0
    assert len(_parsed(card).endorsements) == 1


# --- by hand


def test_request_and_attach_by_hand(card: str, tmp_path: Path, capsys: Said) -> None:
    request, response = str(tmp_path / "q.tsq"), tmp_path / "r.tsr"
    assert main(["timestamp", "request", card, "--out", request, "--json"]) == 0
    facts = _facts(capsys)
    assert facts["request"] == request
    assert facts["next"].endswith(f"laminator timestamp attach {card} RESP.tsr --request {request}")
    response.write_bytes(authority().reply(Path(request).read_bytes()))
    attach = ["timestamp", "attach", card, str(response)]
    assert main([*attach, "--request", request]) == 0
    capsys.readouterr()
    assert endorsements_of(_parsed(card)).timestamps == (response.read_bytes(),)
    assert "the card carries this token already" in _usage(capsys, *attach[1:])


def test_a_request_that_was_made_of_another_file_is_named(
    card: str, plan: str, tmp_path: Path, capsys: Said
) -> None:
    request, response = str(tmp_path / "q.tsq"), tmp_path / "r.tsr"
    assert main(["timestamp", "request", plan, "--out", request]) == 0
    capsys.readouterr()
    response.write_bytes(b"")
    said = _usage(capsys, "attach", card, str(response), "--request", request)
    assert "asks about something else" in said


def test_an_older_response_with_a_newer_request_is_refused(
    card: str, tmp_path: Path, capsys: Said
) -> None:
    request, response = tmp_path / "q.tsq", tmp_path / "r.tsr"
    assert main(["timestamp", "request", card, "--out", str(request)]) == 0
    response.write_bytes(authority().reply(request.read_bytes()))
    assert main(["timestamp", "request", card, "--out", str(request)]) == 0
    capsys.readouterr()
    words = ("attach", card, str(response), "--request", str(request))
    assert _refused(capsys, *words) == "timestamp.nonce"
    assert main(["timestamp", *words[:3]]) == 0


@pytest.mark.parametrize("kind", ["card", "other", "folder", "pipe", "dangling"])
def test_a_request_replaces_nothing_but_a_request(
    card: str, tmp_path: Path, capsys: Said, kind: str
) -> None:
    before, out = Path(card).read_bytes(), tmp_path / "there"
    if kind == "card":
        out = Path(card)
    elif kind == "other":
        out.write_bytes(b"precious")
    elif kind == "folder":
        out.mkdir()
    elif kind == "pipe":
        os.mkfifo(out)
    else:
        out.symlink_to("nothing")
    assert "no request" in _usage(capsys, "request", card, "--out", str(out))
    assert Path(card).read_bytes() == before
    assert kind != "other" or out.read_bytes() == b"precious"


def test_a_stamped_card_elsewhere(card: str, tmp_path: Path, capsys: Said) -> None:
    before = Path(card).read_bytes()
    out = str(tmp_path / "stamped.card")
    with serving(simulated_tsa) as served:
        assert main(["timestamp", card, "--tsa", served.url, "--out", out]) == 0
        capsys.readouterr()
        said = _usage(capsys, card, "--tsa", served.url, "--out", out)
    assert "is there already" in said
    assert len(served.asked) == 1
    assert Path(card).read_bytes() == before
    assert len(_parsed(out).endorsements) == 1


# --- plans


def test_a_plan_gets_a_response_beside_it(plan: str, tmp_path: Path, capsys: Said) -> None:
    with serving(simulated_tsa) as served:
        assert main(["timestamp", plan, "--tsa", served.url, "--json"]) == 0
        facts = _facts(capsys)
        assert "is there already" in _usage(capsys, plan, "--tsa", served.url)
    assert Path(plan).read_text(encoding="utf-8") == PLAN
    response = (tmp_path / "plan.tsr").read_bytes()
    assert stat.S_IMODE((tmp_path / "plan.tsr").stat().st_mode) & 0o133 == 0
    assert (facts["kind"], facts["id"]) == ("plan", str(sha256(PLAN.encode())))
    assert facts["response"] == str(sha256(response))
    assert facts["next"] == ""
    trust = TrustStore((Anchor(SIMULATED_TSA, authority().root),), (authority().crl,))
    end = authority().root.not_valid_after_utc
    assert appraise_token(response, PLAN.encode(), trust, end).verified is not None


def test_a_plan_by_hand(plan: str, tmp_path: Path) -> None:
    request, response = tmp_path / "q.tsq", tmp_path / "r.tsr"
    assert main(["timestamp", "request", plan, "--out", str(request)]) == 0
    response.write_bytes(authority().reply(request.read_bytes()))
    out = str(tmp_path / "elsewhere.tsr")
    assert main(["timestamp", "attach", plan, str(response), "--out", out]) == 0
    assert Path(out).read_bytes() == response.read_bytes()


def test_a_plan_that_no_run_would_follow_is_not_stamped(plan: str, capsys: Said) -> None:
    Path(plan).write_text("version = 1\n", encoding="utf-8")
    with serving(simulated_tsa) as served:
        assert _refused(capsys, plan, "--tsa", served.url).startswith("field")
    assert served.asked == []


# --- what makes no sense


def test_a_bundle_is_not_stamped_as_one(tmp_path: Path, capsys: Said) -> None:
    bundle = put_card(tmp_path, "x.cards")
    assert "a bundle is not stamped as one" in _usage(capsys, str(bundle), "--tsa", "http://x/")


def test_a_read_only_card_asks_nobody(card: str, capsys: Said) -> None:
    Path(card).chmod(0o444)
    with serving(simulated_tsa) as served:
        assert "is read-only" in _usage(capsys, card, "--tsa", served.url)
    assert served.asked == []


@pytest.mark.parametrize("name", ["absent.card", "absent.toml"])
def test_a_file_that_is_not_there(tmp_path: Path, capsys: Said, name: str) -> None:
    assert "cannot read" in _usage(capsys, str(tmp_path / name), "--tsa", "http://127.0.0.1/")


def test_what_is_no_card_is_refused(tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "x.card").write_bytes(b"no card")
    code = _refused(capsys, str(tmp_path / "x.card"), "--tsa", "http://127.0.0.1/")
    assert code.startswith("cbor.")


@pytest.mark.parametrize("words", [(), ("x.card",), ("x.card", "--tsa", "u", "--simulated")])
def test_one_authority_is_named(words: tuple[str, ...], capsys: Said) -> None:
    with contextlib.suppress(SystemExit):
        main(["timestamp", *words])
        pytest.fail("taken")
    assert "usage: laminator timestamp" in capsys.readouterr().err
