"""The owner's side of enrolment: the AK authority answers one attester on a stream socket.

The messages are those of `laminator.run.enrolment`. A key is certified once it has been shown to
be in this machine's TPM (`laminator.enroll`); its certificates are kept under the key's Name.
"""

import datetime as dt
import json
import socket
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim.folder import Folder, read_manufactured, write_file
from enclave_sim.manufacturer import KINDS, Pki, load_pki
from laminator.enroll.ak_certificate import CertificateTerms
from laminator.enroll.authority import (
    CheckedAk,
    accept_response,
    certify,
    challenge,
    check_ak,
    check_counter,
    check_ek,
    verify_endorsement,
)
from laminator.enroll.ek_certificate import EkAnchor, EkTrust
from laminator.errors import LaminatorError, MalformedError
from laminator.evidence.tpm_structures import RsaPublic

LENGTH_BYTES = 4
MAX_MESSAGE_BYTES = 256 * 1024

_LIFETIME = dt.timedelta(days=2 * 365)
_RENEW_BEFORE = dt.timedelta(days=30)
_SKEW = dt.timedelta(minutes=5)

Message = dict[str, Any]


def serve(channel: socket.socket, folder: Folder) -> None:
    """Answer requests until the attester hangs up; an error is an answer, too."""
    with channel:
        _serve(channel, folder)


def _serve(channel: socket.socket, folder: Folder) -> None:
    try:
        while (message := _receive(channel)) is not None:
            _send(
                channel, {"certificates": [der.hex() for der in _chain(channel, folder, message)]}
            )
    except OSError:
        return  # the attester is gone
    except LaminatorError as error:
        _send_last(channel, {"error": error.message})


def _chain(channel: socket.socket, folder: Folder, message: Message) -> list[bytes]:
    if message.get("op") != "request":
        raise MalformedError("enrol.op", "expected a request")
    ak = check_ak(_bytes(message, "ak"))
    return _kept(folder, ak) or _enrol(channel, folder, ak, message)


def _enrol(channel: socket.socket, folder: Folder, ak: CheckedAk, message: Message) -> list[bytes]:
    """Challenge the TPM and certify the key. Raises EnrolmentRefusedError, MalformedError."""
    now = dt.datetime.now(dt.UTC)
    pkis = [load_pki(folder, kind) for kind in KINDS]
    counter = check_counter(read_manufactured(folder).counter_public)
    match message.get("ek_certificates"):
        case [str(first), *_]:
            vouching = _hex(first, "ek_certificates")
        case _:
            raise MalformedError("enrol.message", "expected ek_certificates, a list of hex")
    candidates = [_der(pki.ek.certificate) for pki in pkis]
    ek = verify_endorsement(
        check_ek(_bytes(message, "ek")), (vouching, *candidates), _trust(folder, pkis), now
    )
    credential, pending = challenge(ak, ek, counter, now)
    blob = {"credential_blob": credential.blob.hex(), "secret": credential.secret.hex()}
    _send(channel, {"challenge": blob})
    response = _receive(channel)
    if response is None or response.get("op") != "response":
        raise MalformedError("enrol.op", "expected a response")
    verified = accept_response(pending, _bytes(response, "secret"), now)
    authority = next(pki for pki in pkis if pki.kind == _kind(ak)).ak
    terms = CertificateTerms(now - _SKEW, now + _LIFETIME, x509.random_serial_number())
    certificate = certify(verified, authority, terms)
    chain = [_der(certificate), _der(authority.certificate)]
    write_file(folder.root / "ak" / ak.name.hex(), json.dumps([d.hex() for d in chain]).encode())
    return chain


def _kept(folder: Folder, ak: CheckedAk) -> list[bytes] | None:
    """Return the certificates that the key has already, unless they end soon."""
    try:
        kept = json.loads((folder.root / "ak" / ak.name.hex()).read_bytes())
        chain = [bytes.fromhex(text) for text in kept]
        end = x509.load_der_x509_certificate(chain[0]).not_valid_after_utc
    except (OSError, ValueError, IndexError, TypeError):
        return None
    return chain if end - _RENEW_BEFORE > dt.datetime.now(dt.UTC) else None


def _trust(folder: Folder, pkis: list[Pki]) -> EkTrust:
    anchors = tuple(EkAnchor(pki.root.certificate, "simulated") for pki in pkis)
    files = sorted((folder.trust / "crls").iterdir())
    return EkTrust(anchors, tuple(x509.load_pem_x509_crl(file.read_bytes()) for file in files))


def _kind(ak: CheckedAk) -> str:
    return "rsa" if isinstance(ak.public, RsaPublic) else "ecc"


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _bytes(message: Message, name: str) -> bytes:
    return _hex(message.get(name), name)


def _hex(value: object, name: str) -> bytes:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError as error:
        raise MalformedError("enrol.message", f"expected {name} in hex") from error


def _send(channel: socket.socket, message: Message) -> None:
    body = json.dumps(message).encode()
    channel.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)


def _send_last(channel: socket.socket, message: Message) -> None:
    try:
        _send(channel, message)
    except OSError:
        return  # the attester is gone


def _receive(channel: socket.socket) -> Message | None:
    """Return the next message, None where the attester has hung up. Raises MalformedError."""
    head = channel.recv(LENGTH_BYTES, socket.MSG_WAITALL)
    if len(head) < LENGTH_BYTES:
        return None
    size = int.from_bytes(head, "big")
    if size > MAX_MESSAGE_BYTES:
        raise MalformedError("enrol.size", f"a message of {size} bytes")
    try:
        message = json.loads(channel.recv(size, socket.MSG_WAITALL))
    except ValueError as error:
        raise MalformedError("enrol.json", "a message that is not JSON") from error
    if not isinstance(message, dict):
        raise MalformedError("enrol.json", "a message that is no object")
    return message
