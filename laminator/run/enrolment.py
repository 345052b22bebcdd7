"""The attester's side of enrolment: how its key gets a certificate when the run starts.

The owner of a simulated machine answers on a stream socket (LAMINATOR_SETUP names it); messages
are four bytes of big-endian length and that many bytes of JSON, bytes inside them in hex:

    {"op": "request", "ak": …, "ek": …, "ek_certificates": […]}
    -> {"certificates": […]}, or {"challenge": {"credential_blob": …, "secret": …}}
    {"op": "response", "secret": …} -> {"certificates": […]}

Any answer may be {"error": text}.
"""

import json
import socket
from typing import Any

from laminator.attest.tpm import AttestationTpm
from laminator.enroll.credential import Credential
from laminator.enroll.key_templates import EK_RSA_2048, EK_TEMPLATES, EkTemplate
from laminator.errors import MachineError, MalformedError

LENGTH_BYTES = 4
MAX_MESSAGE_BYTES = 256 * 1024


def enrol(tpm: AttestationTpm, descriptor: int, key: str) -> tuple[bytes, ...]:
    """Return the attestation key's certificates (DER), its own first; `key` is ecc or rsa.

    Proves by credential activation that the key is in the TPM of the endorsement key, if the
    owner has no certificate for it yet. Raises MachineError.
    """
    with socket.socket(fileno=descriptor) as owner:
        template, certificate = _endorsement_key(tpm, key)
        request = {
            "op": "request",
            "ak": tpm.ak_public.hex(),
            "ek": tpm.endorsement_public(template).hex(),
            "ek_certificates": [certificate.hex()],
        }
        answer = _ask(owner, request)
        if "challenge" in answer:
            credential = _credential(answer["challenge"])
            secret = tpm.activate_credential(template, credential)
            answer = _ask(owner, {"op": "response", "secret": secret.hex()})
    return _certificates(answer)


def _endorsement_key(tpm: AttestationTpm, key: str) -> tuple[EkTemplate, bytes]:
    """Return the first template whose certificate the TPM holds, of the key's own kind first."""
    of_kind = [template for template in EK_TEMPLATES if (template is EK_RSA_2048) == (key == "rsa")]
    for template in (*of_kind, *EK_TEMPLATES):
        certificate = tpm.endorsement_certificate(template)
        if certificate is not None:
            return template, certificate
    raise MachineError("enrol.ek", "the TPM holds no endorsement key certificate of a known kind")


def _credential(challenge: Any) -> Credential:  # noqa: ANN401 - JSON
    try:
        blob, secret = challenge["credential_blob"], challenge["secret"]
        return Credential(bytes.fromhex(blob), bytes.fromhex(secret))
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedError("enrol.challenge", "the owner's challenge is not readable") from error


def _certificates(answer: dict[str, Any]) -> tuple[bytes, ...]:
    try:
        certificates = tuple(bytes.fromhex(text) for text in answer["certificates"])
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedError("enrol.answer", "the owner's answer is not readable") from error
    if not certificates:
        raise MachineError("enrol.answer", "the owner gave the key no certificate")
    return certificates


def _ask(owner: socket.socket, message: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps(message).encode()
    try:
        owner.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)
        size = int.from_bytes(_receive(owner, LENGTH_BYTES), "big")
        if size > MAX_MESSAGE_BYTES:
            raise MalformedError("enrol.size", f"an answer of {size} bytes")
        answer = json.loads(_receive(owner, size))
    except OSError as error:
        reason = f"the machine's owner cannot be asked for a certificate: {error.strerror}"
        raise MachineError("enrol.channel", reason) from error
    except (ValueError, RecursionError) as error:
        raise MalformedError("enrol.json", "the owner's answer is no JSON") from error
    if not isinstance(answer, dict):
        raise MalformedError("enrol.answer", "the owner's answer is no object")
    if "error" in answer:
        raise MachineError("enrol.refused", f"the key was not certified: {answer['error']}")
    return answer


def _receive(owner: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = owner.recv(size - len(data))
        if not chunk:
            raise MachineError("enrol.channel", "the machine's owner hung up during enrolment")
        data += chunk
    return bytes(data)
