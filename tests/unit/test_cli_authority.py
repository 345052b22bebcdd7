"""`laminator authority` at its command line, with a clock of the tests' own."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from authority_desk import machine, write_trust
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from enrolment import PASSPHRASE, Ran, laminator

import laminator as laminator_
from enclave_sim.adversary.forged_manufacturer import DAY, NOW, crl, manufacturer
from laminator.cli.authority import _REASONS
from laminator.cli.main import build_parser
from laminator.cli.outcome import _WAYS_OUT
from laminator.enroll.authority_folder import AuthorityFolder
from laminator.enroll.exchange import encode_request, encode_response, parse_grant, parse_request
from laminator.enroll.issuance import REASONS


class Office:
    """An authority's folder, and the files that people bring."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "authority"

    def run(self, *words: str, passphrase: str = PASSPHRASE, json_: bool = True) -> Ran:
        secret = () if words[0] in ("challenge", "revoke", "list") else ("--passphrase-env=P",)
        options = (*secret, f"--authority={self.home}", *(("--json",) if json_ else ()))
        return laminator({"P": passphrase}, "authority", *words, *options)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def enrol(self) -> dict[str, Any]:
        """Bring a machine's request and its response; return the facts of what was issued."""
        one = machine()
        Path(self.path("m.request")).write_bytes(encode_request(one.request()))
        challenge = self.run("challenge", self.path("m.request"))
        assert challenge.status == 0, challenge.stderr
        answer = one.answer(Path(self.path("m.challenge")).read_bytes())
        Path(self.path("m.response")).write_bytes(encode_response(answer))
        issued = self.run("issue", self.path("m.response"))
        assert issued.status == 0, issued.stderr
        return issued.facts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that others copy: making one takes a while on purpose."""
    folder = tmp_path_factory.mktemp("office")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("laminator.cli.authority._now", lambda: NOW)
        ran = Office(folder).run("init", "--name", "Office", "--key", "p256")
    assert ran.status == 0, ran.stderr
    return folder / "authority"


@pytest.fixture
def office(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    import shutil

    monkeypatch.setattr("laminator.cli.authority._now", lambda: NOW)
    shutil.copytree(made, tmp_path / "authority")
    shutil.rmtree(tmp_path / "authority" / "manufacturers")
    write_trust(tmp_path / "authority" / "manufacturers")
    return Office(tmp_path)


def test_a_new_authority_is_whole(made: Path) -> None:
    folder = AuthorityFolder(made)
    certificate = folder.certificate()
    assert certificate.subject.rfc4514_string() == "CN=Office"
    assert certificate.not_valid_after_utc == NOW + 3650 * DAY
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert stat.S_IMODE((made / "authority.key").stat().st_mode) == 0o600
    assert (made / "authority.key").read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY")
    listed = x509.load_pem_x509_crl(folder.crl.read_bytes())
    assert (len(listed), listed.next_update_utc) == (0, NOW + 30 * DAY)
    names = {path.name for path in made.iterdir()}
    assert {"authority.key", "authority.pem", "authority.crl", "manufacturers"} <= names


def test_a_second_one_does_not_replace_it(office: Office) -> None:
    before = (office.home / "authority.key").read_bytes()
    ran = office.run("init", "--name", "Another")
    assert (ran.status, "already" in ran.stderr) == (2, True)
    assert (office.home / "authority.key").read_bytes() == before


@pytest.mark.parametrize(("name", "passphrase"), [("", PASSPHRASE), ("Office", "short")])
def test_nothing_is_made_in_part(tmp_path: Path, name: str, passphrase: str) -> None:
    ran = Office(tmp_path).run("init", "--name", name, passphrase=passphrase)
    assert ran.status == 2
    assert list(tmp_path.iterdir()) == []


def test_an_authority_certifies(office: Office) -> None:
    facts = office.enrol()
    assert facts["root"] == "simulated"
    assert (
        facts["next"] == f"bring it back to the machine: laminator enroll install {facts['grant']}"
    )
    own, root = parse_grant(Path(facts["grant"]).read_bytes()).certificates
    assert root == AuthorityFolder(office.home).certificate().public_bytes(Encoding.DER)
    certificate = x509.load_der_x509_certificate(own)
    assert f"{certificate.serial_number:x}" == facts["serial"]
    assert certificate.not_valid_after_utc == NOW + 365 * DAY


def test_a_wrong_passphrase_uses_no_challenge_up(office: Office) -> None:
    one = machine()
    Path(office.path("m.request")).write_bytes(encode_request(one.request()))
    office.run("challenge", office.path("m.request"))
    answer = one.answer(Path(office.path("m.challenge")).read_bytes())
    Path(office.path("m.response")).write_bytes(encode_response(answer))
    ran = office.run("issue", office.path("m.response"), passphrase="another one")
    assert (ran.status, "passphrase" in ran.stderr) == (2, True)
    assert PASSPHRASE not in ran.stderr
    assert office.run("issue", office.path("m.response")).status == 0


def test_a_passphrase_comes_from_a_file(office: Office) -> None:
    path = Path(office.path("passphrase"))
    path.write_text(f"{PASSPHRASE}\r\nsecond line\n")
    words = ["authority", "crl", f"--authority={office.home}", f"--passphrase-file={path}"]
    assert laminator({}, *words).status == 0
    path.write_text("\n")
    ran = laminator({}, *words)
    assert (ran.status, "empty" in ran.stderr) == (2, True)
    path.unlink()
    ran = laminator({}, *words)
    assert (ran.status, "cannot read" in ran.stderr) == (2, True)


def test_a_passphrase_is_asked_for(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    words = ["authority", "crl", f"--authority={office.home}"]

    def typed(prompt: str) -> str:
        asked.append(prompt)
        return PASSPHRASE

    monkeypatch.setattr("getpass.getpass", typed)
    assert laminator({}, *words).status == 0
    assert len(asked) == 1
    answers = iter(["first passphrase", "second passphrase"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    ran = laminator({}, "authority", "init", "--name=x", f"--authority={office.folder}/new")
    assert (ran.status, "differ" in ran.stderr) == (2, True)
    monkeypatch.setattr("getpass.getpass", typed)
    ran = laminator({}, "authority", "init", "--name=x", f"--authority={office.folder}/new")
    assert (ran.status, len(asked)) == (0, 3), ran.stderr


def test_without_a_terminal_the_options_are_named(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    import getpass
    import warnings

    def no_terminal(_: str) -> str:
        warnings.warn("echo", getpass.GetPassWarning, stacklevel=2)
        return ""

    monkeypatch.setattr("getpass.getpass", no_terminal)
    ran = laminator({}, "authority", "crl", f"--authority={office.home}")
    assert ran.status == 2
    assert "--passphrase-file" in ran.stderr


def test_no_manufacturer_is_a_step_to_take(office: Office) -> None:
    root = office.home / "manufacturers" / "simulated" / "root.pem"
    root.rename(office.folder / "root.pem")
    Path(office.path("m.request")).write_bytes(encode_request(machine().request()))
    ran = office.run("challenge", office.path("m.request"))
    assert ran.status == 2
    assert "laminator trust --trust" in ran.stderr
    words = ("trust", "--trust", str(office.home / "manufacturers"), "add", "--kind", "tpm")
    assert laminator({}, *words, str(office.folder / "root.pem")).status == 0
    assert office.run("challenge", office.path("m.request")).status == 0


def test_an_anchor_of_another_hardware_does_not_count(office: Office) -> None:
    store = office.home / "manufacturers"
    (store / "simulated").rename(store / "sgx")
    Path(office.path("m.request")).write_bytes(encode_request(machine().request()))
    assert office.run("challenge", office.path("m.request")).status == 2


def test_manufacturers_may_be_elsewhere(office: Office) -> None:
    (office.home / "manufacturers").rename(office.folder / "elsewhere")
    Path(office.path("m.request")).write_bytes(encode_request(machine().request()))
    words = ("challenge", office.path("m.request"), "--out", office.path("x"))
    assert office.run(*words).status == 2
    assert office.run(*words, f"--manufacturers={office.folder}/elsewhere").status == 0


def test_what_was_issued_is_listed(office: Office) -> None:
    assert office.run("list").facts["certificates"] == []
    facts = office.enrol()
    listed = office.run("list").facts
    assert [item["serial"] for item in listed["certificates"]] == [facts["serial"]]
    assert (listed["open-challenges"], listed["revoked-ek-certificates"]) == (0, [])
    text = office.run("list", json_=False).stdout
    assert facts["serial"] in text
    assert "valid" in text
    office.run("revoke", "--certificate", facts["serial"].upper())
    assert "revoked 2026-11-24 (unspecified)" in office.run("list", json_=False).stdout


def test_a_grant_is_taken_out_again(office: Office) -> None:
    facts = office.enrol()
    out = office.path("again.grant")
    assert office.run("list", "--certificate", facts["serial"], "--out", out).status == 0
    assert Path(out).read_bytes() == Path(facts["grant"]).read_bytes()
    assert office.run("list", "--certificate", facts["serial"]).status == 2
    assert office.run("list", "--out", out).status == 2
    assert office.run("list", "--certificate", "99", "--out", out).status == 2


def test_a_revoked_certificate_is_on_the_next_list(office: Office) -> None:
    facts = office.enrol()
    ran = office.run("revoke", "--certificate", facts["serial"], "--reason", "key-compromise")
    assert ran.facts["next"] == "tell verifiers: laminator authority crl"
    out = office.path("new.crl")
    ran = office.run("crl", "--out", out, "--days", "7")
    assert (ran.status, ran.facts["revoked"], ran.facts["crl"]) == (0, 1, out)
    found = x509.load_pem_x509_crl(Path(out).read_bytes())
    assert found.next_update_utc == NOW + 7 * DAY
    assert (office.home / "authority.crl").read_bytes() == Path(out).read_bytes()
    assert found.get_revoked_certificate_by_serial_number(int(facts["serial"], 16)) is not None


def test_an_endorsement_key_is_revoked_by_file_or_digest(office: Office) -> None:
    facts = office.enrol()
    path = Path(office.path("ek.der"))
    request = parse_request(Path(office.path("m.request")).read_bytes())
    path.write_bytes(request.ek_certificates[0])
    by_file = office.run("revoke", "--ek", str(path))
    assert by_file.facts["revoked"] == [facts["serial"]]
    again = office.run("revoke", "--ek", facts["ek-certificate"])
    assert again.facts["revoked"] == []
    assert office.run("challenge", office.path("m.request")).refusal == "ek.revoked-by-authority"
    assert office.run("list").facts["revoked-ek-certificates"] == [facts["ek-certificate"]]


def test_an_endorsement_key_is_revoked_by_its_digest_alone(office: Office) -> None:
    facts = office.enrol()
    ran = office.run("revoke", "--ek", facts["ek-certificate"])
    assert ran.facts["revoked"] == [facts["serial"]]
    assert office.run("challenge", office.path("m.request")).refusal == "ek.revoked-by-authority"


@pytest.mark.parametrize("word", ["zz" * 32, "absent.pem", "00"])
def test_an_endorsement_key_that_is_no_file_is_misuse(office: Office, word: str) -> None:
    assert office.run("revoke", "--ek", word).status == 2


def test_a_manufacturers_list_revokes_at_the_next_crl(office: Office) -> None:
    facts = office.enrol()
    revoked = crl(manufacturer().intermediate, 7).public_bytes(Encoding.DER)
    (office.home / "manufacturers" / "crls" / "1.crl").write_bytes(revoked)
    ran = office.run("crl")
    assert ran.facts["revoked-by-manufacturers"] == [facts["serial"]]
    listed = x509.load_pem_x509_crl((office.home / "authority.crl").read_bytes())
    assert len(listed) == 1


def test_a_key_that_cannot_be_judged_is_told(office: Office) -> None:
    facts = office.enrol()
    (office.home / "manufacturers" / "crls" / "1.crl").unlink()
    ran = office.run("crl")
    assert ran.facts["not-judged"] == [facts["serial"]]
    assert facts["serial"] in ran.stderr


@pytest.mark.parametrize("days", ["0", "-1", "36501", "x"])
def test_days_are_a_century_at_most(office: Office, days: str) -> None:
    assert office.run("crl", f"--days={days}").status == 2


def test_a_lifetime_beyond_the_authoritys_is_misuse(office: Office) -> None:
    one = machine()
    Path(office.path("m.request")).write_bytes(encode_request(one.request()))
    office.run("challenge", office.path("m.request"))
    answer = one.answer(Path(office.path("m.challenge")).read_bytes())
    Path(office.path("m.response")).write_bytes(encode_response(answer))
    ran = office.run("issue", office.path("m.response"), "--days", "20000")
    assert (ran.status, "validity" in ran.stderr) == (2, True)
    assert office.run("issue", office.path("m.response")).status == 0


def test_a_refusal_is_told_to_people_and_programs(office: Office) -> None:
    path = Path(office.path("m.response"))
    path.write_bytes(b"\x00")
    ran = office.run("issue", str(path))
    assert ran.status == 1
    assert json.loads(ran.stdout)["refused"]["code"]
    plain = office.run("issue", str(path), json_=False)
    assert (plain.status, plain.stdout) == (1, "")
    assert plain.stderr.startswith("laminator authority issue: refused (")


@pytest.mark.parametrize("code", _WAYS_OUT)
def test_a_way_out_is_for_a_real_refusal(code: str) -> None:
    package = Path(laminator_.__file__).parent
    sources = [*(package / "enroll").glob("*.py"), package / "cli" / "timestamp.py"]
    assert any(f'"{code}"' in path.read_text(encoding="utf-8") for path in sources)


def test_a_refusal_says_what_to_do(office: Office) -> None:
    (office.home / "manufacturers" / "crls" / "1.crl").unlink()
    Path(office.path("m.request")).write_bytes(encode_request(machine().request()))
    ran = office.run("challenge", office.path("m.request"))
    assert ran.refusal == "ek.crl"
    assert "next: put a current CRL" in ran.stderr


def test_no_authority_is_a_step_to_take(tmp_path: Path) -> None:
    ran = laminator({"XDG_DATA_HOME": str(tmp_path)}, "authority", "list")
    assert (ran.status, "laminator authority init" in ran.stderr) == (2, True)
    for words in (["crl", "--passphrase-env=P"], ["revoke", "--certificate", "1"]):
        ran = laminator({"XDG_DATA_HOME": str(tmp_path), "P": "x"}, "authority", *words)
        assert ran.status == 2


@pytest.mark.parametrize("name", ["authority.key", "authority.pem"])
def test_a_file_that_is_gone_or_broken_is_told(office: Office, name: str) -> None:
    (office.home / name).write_bytes(b"nothing")
    ran = office.run("crl")
    assert ran.refusal in ("authority.key", "authority.certificate")
    (office.home / name).unlink()
    ran = office.run("crl")
    assert (ran.status, name in ran.stderr) == (2, True)


def test_a_broken_certificate_is_told_to_a_machine_too(office: Office) -> None:
    Path(office.path("m.request")).write_bytes(encode_request(machine().request()))
    (office.home / "authority.pem").write_bytes(b"nothing")
    ran = office.run("challenge", office.path("m.request"))
    assert ran.refusal == "authority.certificate"


def test_a_place_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    ran = Office(tmp_path).run("init", "--name", "x", "--key", "p256")
    assert (ran.status, "No space left" in ran.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_for_revocation_holds_a_certificate(office: Office) -> None:
    path = Path(office.path("x.pem"))
    path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert office.run("revoke", "--ek", str(path)).status == 2
    path.write_bytes(bytes(200 * 1024))
    ran = office.run("revoke", "--ek", str(path))
    assert (ran.status, "more than" in ran.stderr) == (2, True)
    path.write_bytes(b"\x30\x00")
    assert office.run("revoke", "--ek", str(path)).refusal == "certificate.der"


def test_choices_are_the_librarys() -> None:
    assert tuple(REASONS) == _REASONS
    assert "init|challenge|issue|revoke|crl|list" in build_parser("authority").format_help()
