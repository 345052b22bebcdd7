"""What an authority remembers: one answer a challenge, revocations, serial numbers, lists."""

import datetime as dt
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority_desk import YEAR, Desk, judge, machine, open_desk, write_trust
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim.adversary.forged_manufacturer import DAY, NOW
from laminator.appraise.crl import check_revocation
from laminator.enroll.authority import CHALLENGE_LIFETIME
from laminator.enroll.authority_key import encrypt_key
from laminator.enroll.authority_store import AuthorityStore, create_store
from laminator.enroll.ek_certificate import EkAnchor, EkTrust
from laminator.enroll.exchange import EnrolmentResponse, encode_response
from laminator.enroll.issuance import (
    REASONS,
    ek_identity,
    issue,
    make_crl,
    revoke_by_manufacturers,
    revoke_certificate,
    revoke_ek,
)
from laminator.enroll.refusal import EnrolmentRefusedError
from laminator.errors import MachineError, MalformedError, UsageError


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = open_desk(tmp_path)
    yield opened
    opened.store.close()


def refusal(desk: Desk, response: EnrolmentResponse, at: dt.datetime = NOW) -> str:
    with pytest.raises(EnrolmentRefusedError) as caught:
        desk.issue(response, judge(at))
    return caught.value.code


def test_a_machine_gets_its_certificate(desk: Desk) -> None:
    one = machine()
    issued = desk.enrol(one)
    certificate = x509.load_der_x509_certificate(issued.der)
    certificate.verify_directly_issued_by(desk.authority.certificate)
    assert desk.store.certificates() == (issued,)
    assert desk.store.certificate(issued.serial) == issued
    assert f"{certificate.serial_number:x}" == issued.serial
    assert (issued.anchor_kind, issued.revoked) == ("simulated", None)
    assert certificate.not_valid_after_utc == NOW + YEAR


def test_a_challenge_waits_until_it_is_answered(desk: Desk) -> None:
    one = machine()
    challenge = desk.pose(one.request())
    assert desk.store.open_challenges(int(NOW.timestamp())) == 1
    desk.issue(one.answer(challenge))
    assert desk.store.open_challenges(int(NOW.timestamp())) == 0


def test_what_is_kept_does_not_hold_the_secret(desk: Desk) -> None:
    one = machine()
    secret = one.answer(desk.pose(one.request())).secret
    desk.store.close()
    assert secret not in desk.path.read_bytes()


def test_a_renewed_certificate_has_another_serial_number(desk: Desk) -> None:
    one = machine()
    first, second = desk.enrol(one), desk.enrol(one)
    assert first.serial != second.serial
    assert first.ak_name == second.ak_name


def test_a_serial_number_cannot_be_used_twice(desk: Desk) -> None:
    issued = desk.enrol(machine())
    with pytest.raises(MachineError) as caught, desk.store.transaction():
        desk.store.add_certificate(issued._replace(challenge=bytes(32)))
    assert caught.value.code == "authority.state"
    assert desk.store.certificates() == (issued,)


# --- a challenge is answered once


def test_a_wrong_secret_uses_the_challenge_up(desk: Desk) -> None:
    one = machine()
    right = one.answer(desk.pose(one.request()))
    assert refusal(desk, right._replace(secret=bytes(32))) == "response.secret"
    assert refusal(desk, right) == "response.used"
    assert desk.store.certificates() == ()


def test_a_late_answer_uses_the_challenge_up(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request(), judge(NOW - CHALLENGE_LIFETIME)))
    late = NOW + dt.timedelta(seconds=1)
    assert refusal(desk, response, late) == "response.expired"
    assert refusal(desk, response, NOW) == "response.used"


def test_an_impossible_lifetime_leaves_the_challenge_open(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    with pytest.raises(UsageError) as caught:
        issue(desk.store, desk.authority, response, judge(), 100 * YEAR)
    assert caught.value.code == "terms.validity"
    assert desk.issue(response).revoked is None


def test_manufacturers_lists_that_are_too_old_leave_the_challenge_open(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    with pytest.raises(EnrolmentRefusedError) as caught:
        desk.issue(response, judge(NOW + 29.5 * DAY, lists_of=NOW))
    assert caught.value.code == "ek.crl"
    assert desk.issue(response).revoked is None


def test_two_at_once_issue_one_certificate(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    codes: list[str] = []

    def answer() -> None:
        with AuthorityStore(desk.path) as store:
            try:
                issue(store, desk.authority, response, judge(), YEAR)
                codes.append("issued")
            except EnrolmentRefusedError as error:
                codes.append(error.code)

    threads = [threading.Thread(target=answer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["issued", "response.used", "response.used", "response.used"]


# --- a crash at each step

_CRASH = """\
import datetime as dt, os, signal, sys
from pathlib import Path
from laminator.enroll import issuance
from laminator.enroll.authority_key import load_authority
from laminator.enroll.authority_key import encrypt_key
from laminator.enroll.authority_store import AuthorityStore
from laminator.enroll.ek_trust import load_ek_trust
from laminator.enroll.exchange import parse_response

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

place, step = Path(sys.argv[1]), sys.argv[2]
store = AuthorityStore(place / "state.sqlite")
pem, key = (place / "ca.pem").read_bytes(), (place / "ca.key").read_bytes()
authority = load_authority(pem, key, b"passphrase")
response = parse_response((place / "response").read_bytes())
at = dt.datetime.fromisoformat(sys.argv[3])
judged = issuance.Judged(load_ek_trust(str(place / "trust")), at)
if step == "before signing":
    issuance.certify = killed
elif step == "before it is recorded":
    store.add_certificate = killed
elif step == "before the commit":
    add = store.add_certificate
    store.add_certificate = lambda issued: (add(issued), killed())
issuance.issue(store, authority, response, judged, dt.timedelta(days=9))
killed()
"""
STEPS = ("before signing", "before it is recorded", "before the commit", "after the commit")


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_authority_is_consistent(desk: Desk, tmp_path: Path, step: str) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    write_trust(tmp_path / "trust")
    (tmp_path / "response").write_bytes(encode_response(response))
    (tmp_path / "ca.pem").write_bytes(desk.authority.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "ca.key").write_bytes(encrypt_key(desk.authority.key, b"passphrase"))
    arguments = [str(tmp_path), step, NOW.isoformat()]
    ran = subprocess.run([sys.executable, "-c", _CRASH, *arguments], check=False)
    assert ran.returncode == -signal.SIGKILL
    assert desk.is_sound()
    if step == "after the commit":
        (issued,) = desk.store.certificates()
        assert refusal(desk, response) == "response.used"
        assert desk.store.certificates() == (issued,)
    else:
        assert desk.store.certificates() == ()
        assert desk.issue(response).revoked is None
        assert refusal(desk, response) == "response.used"
    assert len(desk.store.certificates()) == 1


# --- revocation


def test_a_revoked_key_earns_nothing_and_loses_what_it_earned(desk: Desk) -> None:
    one, other = machine(), machine()
    issued = desk.enrol(one)
    waiting = other.answer(desk.pose(other.request()))
    assert revoke_ek(desk.store, ek_identity(one.certificate), NOW, "key-compromise") == (
        issued.serial,
    )
    with pytest.raises(EnrolmentRefusedError) as caught:
        desk.pose(machine().request())
    assert caught.value.code == "ek.revoked-by-authority"
    assert refusal(desk, waiting) == "ek.revoked-by-authority"
    (item,) = desk.store.certificates()
    assert (item.revoked, item.reason) == (int(NOW.timestamp()), "key-compromise")


def test_another_certificate_of_a_revoked_key_is_refused_too(desk: Desk) -> None:
    one = machine()
    desk.enrol(one)
    revoke_ek(desk.store, ek_identity(one.certificate), NOW, "unspecified")
    again = machine(serial=8)
    assert again.certificate != one.certificate
    with pytest.raises(EnrolmentRefusedError) as caught:
        desk.pose(again.request())
    assert caught.value.code == "ek.revoked-by-authority"


def test_revoking_twice_keeps_the_first_date(desk: Desk) -> None:
    issued = desk.enrol(machine())
    revoke_certificate(desk.store, issued.serial, NOW, "key-compromise")
    revoke_certificate(desk.store, issued.serial, NOW + DAY, "superseded")
    item = desk.store.certificate(issued.serial)
    assert item is not None
    assert (item.revoked, item.reason) == (int(NOW.timestamp()), "key-compromise")


def test_a_serial_number_that_was_never_issued_is_misuse(desk: Desk) -> None:
    with pytest.raises(UsageError) as caught:
        revoke_certificate(desk.store, "1234", NOW, "unspecified")
    assert caught.value.code == "authority.serial"


@pytest.mark.parametrize("reason", REASONS)
def test_a_key_with_a_revoked_certificate_gets_no_other_one(desk: Desk, reason: str) -> None:
    one = machine()
    revoke_certificate(desk.store, desk.enrol(one).serial, NOW, reason)
    if reason in ("superseded", "cessation-of-operation"):
        assert desk.enrol(one).revoked is None
        return
    with pytest.raises(EnrolmentRefusedError) as caught:
        desk.pose(one.request())
    assert caught.value.code == "ak.revoked-by-authority"


def test_a_manufacturers_revocation_between_challenge_and_answer_counts(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    with pytest.raises(EnrolmentRefusedError) as caught:
        desk.issue(response, judge(NOW, 7))
    assert caught.value.code == "ek.revoked"
    assert desk.store.certificates() == ()


def test_a_root_that_became_another_kind_is_refused(desk: Desk) -> None:
    one = machine()
    response = one.answer(desk.pose(one.request()))
    judged = judge()
    anchors = tuple(EkAnchor(each.certificate, "tpm") for each in judged.trust.anchors)
    changed = judged._replace(trust=EkTrust(anchors, judged.trust.crls))
    with pytest.raises(EnrolmentRefusedError) as caught:
        desk.issue(response, changed)
    assert caught.value.code == "ek.anchor"
    assert desk.issue(response).anchor_kind == "simulated"


def test_what_a_manufacturer_revoked_is_revoked(desk: Desk) -> None:
    first, second = desk.enrol(machine()), desk.enrol(machine())
    assert revoke_by_manufacturers(desk.store, judge()) == ((), ())
    outcome = revoke_by_manufacturers(desk.store, judge(NOW, 7))
    assert set(outcome.revoked) == {first.serial, second.serial}
    assert outcome.unjudged == ()
    assert all(item.revoked for item in desk.store.certificates())
    assert revoke_by_manufacturers(desk.store, judge(NOW, 7)) == ((), ())


def test_a_key_that_cannot_be_judged_is_named_and_kept(desk: Desk) -> None:
    issued = desk.enrol(machine())
    outcome = revoke_by_manufacturers(desk.store, judge(NOW + 40 * DAY, lists_of=NOW))
    assert outcome == ((), (issued.serial,))
    assert desk.store.certificates() == (issued,)


def test_what_is_revoked_already_is_not_judged(desk: Desk) -> None:
    issued = desk.enrol(machine())
    revoke_certificate(desk.store, issued.serial, NOW, "superseded")
    assert revoke_by_manufacturers(desk.store, judge(NOW + 40 * DAY, lists_of=NOW)) == ((), ())


def test_a_certificate_whose_request_is_lost_is_named(desk: Desk) -> None:
    issued = desk.enrol(machine())
    with sqlite3.connect(desk.path) as connection:
        connection.execute("DELETE FROM challenges")
    connection.close()
    assert revoke_by_manufacturers(desk.store, judge()) == ((), (issued.serial,))


# --- revocation lists


def test_lists_are_numbered_and_signed(desk: Desk) -> None:
    key = desk.authority.certificate.public_key()
    for number in (1, 2):
        crl = make_crl(desk.store, desk.authority, NOW, 30 * DAY)
        assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == number
        assert crl.is_signature_valid(key)  # type: ignore[arg-type]
        assert crl.issuer == desk.authority.certificate.subject
        assert (crl.last_update_utc, crl.next_update_utc) == (NOW, NOW + 30 * DAY)


@pytest.mark.parametrize("reason", REASONS)
def test_a_list_names_what_is_revoked(desk: Desk, reason: str) -> None:
    gone, kept = desk.enrol(machine()), desk.enrol(machine())
    revoke_certificate(desk.store, gone.serial, NOW, reason)
    crl = make_crl(desk.store, desk.authority, NOW + DAY, 30 * DAY)
    entry = crl.get_revoked_certificate_by_serial_number(int(gone.serial, 16))
    assert entry is not None
    assert entry.revocation_date_utc == NOW
    assert crl.get_revoked_certificate_by_serial_number(int(kept.serial, 16)) is None
    verdicts = [
        check_revocation(
            "ak.revocation",
            (x509.load_der_x509_certificate(item.der), desk.authority.certificate),
            (crl,),
            NOW,
        ).verdict
        for item in (gone, kept)
    ]
    assert verdicts == ["fail", "pass"]
    reasons = [extension.value for extension in entry.extensions]
    flag = REASONS[reason]
    assert reasons == ([] if flag is None else [x509.CRLReason(flag)])


# --- the state on disk


def test_an_authority_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="laminator authority init") as caught:
        AuthorityStore(tmp_path / "state.sqlite")
    assert caught.value.code == "authority.none"


def test_a_state_of_another_version_is_refused(desk: Desk) -> None:
    with sqlite3.connect(desk.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(MalformedError) as caught:
        AuthorityStore(desk.path)
    assert caught.value.code == "authority.state"


def test_a_state_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(MachineError) as caught:
        AuthorityStore(path)
    assert caught.value.code == "authority.state"


def test_a_state_is_its_owners_alone(desk: Desk) -> None:
    assert desk.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        create_store(desk.path)


def test_a_raised_error_undoes_the_whole_transaction(desk: Desk) -> None:
    issued = desk.enrol(machine())

    def half_done() -> None:
        with desk.store.transaction():
            desk.store.revoke(issued.serial, 1, "superseded")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_done()
    assert desk.store.certificates() == (issued,)


def test_each_write_is_on_disk_at_the_commit(desk: Desk) -> None:
    with desk.store.transaction():
        pass
    settings = [
        desk.store._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    ]
    assert settings == ["wal", 2, 1]
