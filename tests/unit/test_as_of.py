"""Both verdicts as users meet them: in the report, in JSON, on the command line, in policies."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import forge
import jsonschema
import pytest
import stamping
import tsa_pki
import verifying
from cryptography.hazmat.primitives.serialization import Encoding
from stamping import judge, stamped, with_replies

from enclave_sim.adversary import forged_pki as pki
from laminator.appraise.card_time import check_declared
from laminator.appraise.explain import explain
from laminator.appraise.policy import parse_policy
from laminator.appraise.result import VerificationResult
from laminator.appraise.trust import STORE_KINDS, TrustStore
from laminator.cli.main import main
from laminator.errors import UsageError
from laminator.report.result_text import result_text

SCHEMA = Path(__file__).parents[2] / "docs/verification-result.schema.json"
NOW, DAY = pki.NOW, pki.DAY
MADE = NOW - 30 * DAY
STAMPED = MADE + DAY
AS_OF_TOKEN = verifying.POLICY._replace(judged_as_of="token")


def _expired() -> tuple[bytes, TrustStore]:
    """Return an old card whose AK's certificate has expired since its token, and who trusts it."""
    machine = forge.certified(forge.machine(), not_after=NOW - 10 * DAY)
    world = forge.world(machine, verifying.claims(iat=int(MADE.timestamp())))
    spec = pki.CrlSpec(issued=MADE - DAY, expires=STAMPED + DAY)
    lists = (pki.crl(machine.root, spec), pki.crl(machine.authority, spec))
    trust = stamping.trust(machine=machine).with_crls(lists)
    return stamped(stamping.card(world), time=STAMPED), trust


def _text(result: VerificationResult) -> str:
    return result_text(result, "x.card")


def test_the_report_says_what_holds_now_and_what_held_then() -> None:
    data, trust = _expired()
    when = "2026-09-02T00:00:00+00:00"
    then = f'accepted at {when}, proven by a time-stamp of "CN=time-stamping signer"'
    for policy in (verifying.POLICY, AS_OF_TOKEN):
        text = _text(judge(data, policy, trust=trust))
        assert f"  as of      {then}\n" in text
        assert "  now        rejected (ak.validity" in text


def test_the_report_says_when_both_hold() -> None:
    text = _text(judge(stamped(stamping.card()), trust=stamping.trust(kind="tsa-simulated")))
    assert "  now        accepted\n" in text
    assert "proven by a simulated time-stamp of" in text


def test_the_report_of_a_card_without_a_time_says_nothing_of_two() -> None:
    text = _text(judge(with_replies(stamping.card())))
    assert "as of  " not in text
    assert "\n  now " not in text


def test_the_report_when_only_what_a_card_builds_on_has_a_time() -> None:
    result = judge(stamped(stamping.card()))
    assert result.as_of is not None
    text = _text(result._replace(as_of=result.as_of._replace(time=None, authority=None)))
    assert "accepted at the times proven for cards that it builds on" in text


def test_an_authority_cannot_write_the_report() -> None:
    hostile = 'x"\n  now        rejected \x1b[2J\u202e'
    tsa = tsa_pki.authority().certified(subject=hostile)
    text = _text(judge(stamped(stamping.card(), tsa)))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\n  now        rejected" not in text


def _document(result: VerificationResult) -> dict[str, object]:
    document = json.loads(json.dumps(result.to_json()))
    jsonschema.validate({"results": [document]}, json.loads(SCHEMA.read_text("utf-8")))
    found = document["as-of"]
    assert isinstance(found, dict)
    return found


def test_json_without_a_time() -> None:
    assert _document(judge(with_replies(stamping.card()))) == {
        "decides": "now",
        "now": "accepted",
        "then": None,
        "time": None,
        "authority": None,
        "anchor": None,
        "simulated": False,
        "other-failures": [],
    }
    unreadable = _document(judge(b"no card"))
    assert (unreadable["now"], unreadable["then"]) == ("rejected", None)


def test_json_with_a_time() -> None:
    data, trust = _expired()
    anchor = str(trust.anchors[-1].fingerprint)
    expected = {
        "now": "rejected",
        "then": "accepted",
        "time": "2026-09-02T00:00:00+00:00",
        "authority": "CN=time-stamping signer",
        "anchor": anchor,
        "simulated": False,
    }
    now = _document(judge(data, trust=trust))
    assert now == {**expected, "decides": "now", "other-failures": []}
    then = _document(judge(data, AS_OF_TOKEN, trust=trust))
    assert then["decides"] == "then"
    assert expected.items() <= then.items()
    failures = then["other-failures"]
    assert isinstance(failures, list)
    assert "ak.validity" in failures


def test_json_when_only_what_a_card_builds_on_has_a_time() -> None:
    result = judge(stamped(stamping.card()))
    assert result.as_of is not None
    found = result._replace(as_of=result.as_of._replace(time=None))
    assert _document(found)["time"] is None


def test_the_trustworthiness_vector_is_that_of_the_verdict_that_decides() -> None:
    made = stamping.card()
    bare = judge(with_replies(made)).to_json()["ar4si"]
    assert judge(stamped(made)).to_json()["ar4si"] == bare
    assert judge(stamped(made, None, imprint_hash="sha1")).to_json()["ar4si"] == bare


def test_the_declared_time_at_its_limits() -> None:
    time = dt.datetime.fromtimestamp(1000, dt.UTC)
    assert check_declared(1300, time).verdict == "pass"
    assert check_declared(1301, time).verdict == "fail"


# The command line.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with old.card, policy.toml, and a store with both anchors."""
    data, trust = _expired()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.card").write_bytes(data)
    for anchor in trust.anchors:
        place = tmp_path / "trust" / anchor.kind
        place.mkdir(parents=True)
        pem = anchor.certificate.public_bytes(Encoding.PEM)
        (place / "root.pem").write_bytes(pem)
    (tmp_path / "trust/crls").mkdir()
    for number, crl in enumerate(trust.crls):
        (tmp_path / f"trust/crls/{number}.crl").write_bytes(crl.public_bytes(Encoding.DER))
    _write_policy(tmp_path, "")
    return tmp_path


def _write_policy(folder: Path, more: str) -> None:
    text = f"""\
version = 1
roots = ["simulated"]
coverage = "launch"
data-chosen-by = "provider"
{more}
[reference]
launch = ["{verifying.LAUNCH_DIGEST}"]
"""
    (folder / "policy.toml").write_text(text, encoding="utf-8")


def _verify(*words: str) -> int:
    at = NOW.isoformat()
    common = ("--trust", "trust", "--policy", "policy.toml", "--at", at)
    return main(["verify", "old.card", *common, *words])


@pytest.mark.usefixtures("folder")
def test_the_policy_is_asked_which_verdict_decides(folder: Path) -> None:
    assert _verify() == 1
    _write_policy(folder, 'judged-as-of = "token"')
    assert _verify() == 0
    _write_policy(folder, 'judged-as-of = "now"')
    assert _verify() == 1


@pytest.mark.usefixtures("folder")
def test_the_option_overrides_the_policy(folder: Path) -> None:
    assert _verify("--as-of", "token") == 0
    _write_policy(folder, 'judged-as-of = "token"')
    assert _verify("--as-of", "now") == 1


def test_no_token_can_decide_without_an_authority(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "trust/tsa/root.pem").unlink()
    assert _verify("--as-of", "token") == 2
    assert "laminator trust add --kind tsa" in capsys.readouterr().err
    assert _verify("--as-of", "now") == 1


@pytest.mark.usefixtures("folder")
def test_a_word_that_is_no_time() -> None:
    with pytest.raises(SystemExit) as ended:
        _verify("--as-of", "yesterday")
    assert ended.value.code == 2


@pytest.mark.parametrize("kind", STORE_KINDS)
def test_an_anchor_of_every_kind_is_pinned_and_listed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pem = pki.root().certificate.public_bytes(Encoding.PEM)
    (tmp_path / "root.pem").write_bytes(pem)
    words = ("trust", "--trust", str(tmp_path / "store"))
    assert main([*words, "add", "--kind", kind, str(tmp_path / "root.pem")]) == 0
    capsys.readouterr()
    assert main([*words, "list"]) == 0
    assert capsys.readouterr().out.startswith(f"{kind:<13}  sha-256:")


# Policies.


def test_a_policy_says_now_unless_it_says_otherwise() -> None:
    assert parse_policy(b"version = 1", name="p").judged_as_of == "now"
    asked = parse_policy(b'version = 1\njudged-as-of = "token"', name="p")
    assert asked.judged_as_of == "token"
    with pytest.raises(UsageError) as error:
        parse_policy(b'version = 1\njudged-as-of = "then"', name="p")
    assert "judged-as-of" in error.value.message


def test_cards_below_are_not_asked_for_a_token() -> None:
    policy = parse_policy(b'version = 1\nrequire = ["time.token", "ak.revocation"]', name="p")
    assert policy.for_lineage().require == ("ak.revocation",)


def test_a_policy_explains_which_verdict_decides() -> None:
    now = "\n".join(explain(verifying.POLICY))
    then = "\n".join(explain(AS_OF_TOKEN))
    assert "judged as of now" in now
    assert "judged as of that time" in then


def test_a_card_without_a_token_costs_no_import() -> None:
    code = (
        "import datetime, sys\n"
        "import laminator\n"
        "card = sys.stdin.buffer.read()\n"
        "now = datetime.datetime(2026, 10, 1, tzinfo=datetime.UTC)\n"
        "laminator.verify(card, trust=laminator.TrustStore(), now=now)\n"
        "print(*sorted(sys.modules))\n"
    )
    made = stamping.card()._replace(endorsements=())
    modules = _modules(code, with_replies(made))
    assert not {name for name in modules if "timestamp" in name or name.endswith(".card_time")}
    more = _modules(code, stamped(made))
    assert "laminator.appraise.timestamps" in more
    assert "rfc3161_client" not in more


def _modules(code: str, card: bytes) -> set[str]:
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, input=card, capture_output=True, check=True)
    return set(done.stdout.decode().split())
