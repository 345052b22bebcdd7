"""The simulated time-stamping authority: `openssl ts` agrees with what it answers."""

import concurrent.futures
import datetime as dt
import subprocess
from pathlib import Path

import pytest
import rfc3161_client
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from rfc3161_client import TimestampRequestBuilder, decode_timestamp_response

from enclave_sim import timestamp_authority
from enclave_sim.folder import Folder
from enclave_sim.timestamp_authority import MAX_REQUEST, TimestampAuthority, machine_authority
from laminator.appraise.trust import SIMULATED_TSA, Anchor, load_trust
from laminator.errors import MachineError, UsageError
from laminator.programs import find_program

MESSAGE = b"what is stamped"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TimestampAuthority:
    return TimestampAuthority.create(tmp_path_factory.mktemp("authority") / "tsa")


def _request(algorithm: str = "SHA256") -> rfc3161_client.TimeStampRequest:
    builder = TimestampRequestBuilder().data(MESSAGE)
    return builder.hash_algorithm(rfc3161_client.HashAlgorithm[algorithm]).build()


def _openssl(*words: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["openssl", "ts", *words], cwd=folder, capture_output=True, check=False, timeout=60
    )


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA512"])
def test_openssl_verifies_the_answer(
    authority: TimestampAuthority, tmp_path: Path, algorithm: str
) -> None:
    request = _request(algorithm)
    (tmp_path / "request").write_bytes(request.as_bytes())
    (tmp_path / "response").write_bytes(authority.reply(request.as_bytes()))
    (tmp_path / "root.pem").write_bytes(authority.root_pem)
    (tmp_path / "data").write_bytes(MESSAGE)
    words = ("-verify", "-in", "response", "-CAfile", "root.pem")
    ended = _openssl(*words, "-queryfile", "request", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, b"Verification: OK\n")
    assert _openssl(*words, "-data", "data", folder=tmp_path).returncode == 0
    (tmp_path / "data").write_bytes(MESSAGE + b".")
    assert _openssl(*words, "-data", "data", folder=tmp_path).returncode != 0


def test_the_answer_is_what_was_asked_for(authority: TimestampAuthority) -> None:
    request = _request()
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    response = decode_timestamp_response(authority.reply(request.as_bytes()))
    assert response.status == rfc3161_client.PKIStatus.GRANTED
    assert response.tst_info.nonce == request.nonce
    assert before <= response.tst_info.gen_time <= dt.datetime.now(dt.UTC)
    other = decode_timestamp_response(authority.reply(request.as_bytes()))
    assert other.tst_info.serial_number != response.tst_info.serial_number


def test_the_answer_carries_the_signer_and_not_the_root(authority: TimestampAuthority) -> None:
    response = decode_timestamp_response(authority.reply(_request().as_bytes()))
    (der,) = response.signed_data.certificates
    signer = x509.load_der_x509_certificate(der)
    signer.verify_directly_issued_by(authority.root)
    usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert usage.critical
    assert list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]


def test_everything_is_called_simulated(authority: TimestampAuthority) -> None:
    signer = x509.load_pem_x509_certificate((authority.folder / "signer.pem").read_bytes())
    for name in (authority.root.subject, authority.crl.issuer, signer.subject):
        assert "simulated" in name.rfc4514_string()


def test_its_list_of_revoked_certificates_is_current_and_its_own(
    authority: TimestampAuthority,
) -> None:
    key = authority.root.public_key()
    assert authority.crl.is_signature_valid(key)  # type: ignore[arg-type]
    assert not list(authority.crl)
    assert authority.crl.next_update_utc == authority.root.not_valid_after_utc


@pytest.mark.parametrize("request_der", [b"", b"\x30\x03\x02\x01", b"no request"])
def test_what_is_no_request_is_rejected_in_an_answer(
    authority: TimestampAuthority, request_der: bytes
) -> None:
    response = decode_timestamp_response(authority.reply(request_der))
    assert response.status == rfc3161_client.PKIStatus.REJECTION


def test_an_imprint_by_a_weak_hash_is_rejected(
    authority: TimestampAuthority, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(MESSAGE)
    made = _openssl("-query", "-data", "data", "-sha1", "-out", "request", folder=tmp_path)
    assert made.returncode == 0
    response = decode_timestamp_response(authority.reply((tmp_path / "request").read_bytes()))
    assert response.status == rfc3161_client.PKIStatus.REJECTION


def test_a_large_request_is_refused(authority: TimestampAuthority) -> None:
    with pytest.raises(UsageError) as refused:
        authority.reply(bytes(MAX_REQUEST + 1))
    assert refused.value.code == "timestamp.request"


def test_answers_at_the_same_time_have_numbers_of_their_own(authority: TimestampAuthority) -> None:
    request = _request().as_bytes()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(authority.reply, [request] * 8))
    assert len({decode_timestamp_response(each).tst_info.serial_number for each in answers}) == 8


def test_keys_are_the_owners_alone(authority: TimestampAuthority) -> None:
    keys = sorted(authority.folder.glob("*.key"))
    assert [key.name for key in keys] == ["root.key", "signer.key"]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    assert authority.folder.stat().st_mode & 0o777 == 0o700


def test_the_second_to_make_one_gets_the_firsts(tmp_path: Path) -> None:
    first = TimestampAuthority.create(tmp_path / "tsa")
    assert TimestampAuthority.create(tmp_path / "tsa") == first
    assert [path.name for path in tmp_path.iterdir()] == ["tsa"]


def test_an_authority_without_its_root_is_an_error(tmp_path: Path) -> None:
    folder = TimestampAuthority.create(tmp_path / "tsa").folder
    (folder / "root.pem").unlink()
    with pytest.raises(MachineError) as refused:
        TimestampAuthority.open(folder)
    assert refused.value.code == "timestamp.authority"


def test_where_none_can_be_made_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "tsa").write_text("in the way")
    with pytest.raises(MachineError) as refused:
        TimestampAuthority.create(tmp_path / "tsa")
    assert refused.value.code == "timestamp.create"
    assert [path.name for path in tmp_path.iterdir()] == ["tsa"]


def test_where_there_is_no_folder_none_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as refused:
        TimestampAuthority.create(tmp_path / "absent" / "tsa")
    assert refused.value.code == "timestamp.create"


def test_without_openssl_it_says_what_to_install(
    authority: TimestampAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timestamp_authority, "find_program", lambda _: None)
    with pytest.raises(MachineError, match="install openssl") as refused:
        authority.reply(_request().as_bytes())
    assert refused.value.code == "timestamp.openssl"


@pytest.mark.parametrize("program", ["false", "sleep"])
def test_an_openssl_that_fails_or_hangs_is_an_error(
    authority: TimestampAuthority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    script = tmp_path / "openssl"
    script.write_text(f"#!/bin/sh\nexec {find_program(program)} 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(timestamp_authority, "find_program", lambda _: str(script))
    monkeypatch.setattr(timestamp_authority, "_SECONDS", 0.1)
    with pytest.raises(MachineError) as refused:
        authority.reply(_request().as_bytes())
    assert refused.value.code == "timestamp.openssl"


def _machine(place: Path) -> Folder:
    (place / "trust" / "crls").mkdir(parents=True)
    return Folder(place)


def test_an_older_machine_gets_one_on_demand_and_its_trust_names_it(tmp_path: Path) -> None:
    folder = _machine(tmp_path)
    made = machine_authority(folder)
    assert made.folder == tmp_path / "tsa"
    trust = load_trust(str(folder.trust))
    assert trust.anchors == (Anchor(SIMULATED_TSA, made.root),)
    assert trust.crls == (made.crl,)
    assert machine_authority(folder) == made
    assert load_trust(str(folder.trust)) == trust


def test_what_a_crash_left_out_of_the_trust_is_put_there(tmp_path: Path) -> None:
    folder = _machine(tmp_path)
    made = machine_authority(folder)
    (folder.trust / "crls" / "tsa-root.crl").unlink()
    assert machine_authority(folder) == made
    assert load_trust(str(folder.trust)).crls == (made.crl,)


def test_a_trust_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    folder = _machine(tmp_path)
    (folder.trust / SIMULATED_TSA).write_text("in the way")
    with pytest.raises(MachineError) as refused:
        machine_authority(folder)
    assert refused.value.code == "timestamp.trust"
