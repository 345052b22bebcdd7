"""The attester's side of enrolment: what it asks, and what it makes of answers."""

import json
import socket
import threading
from typing import Any, cast

import pytest

from laminator.attest.tpm import AttestationTpm
from laminator.enroll.credential import Credential
from laminator.enroll.key_templates import EK_ECC_P256, EK_RSA_2048, EkTemplate
from laminator.errors import LaminatorError, MachineError, MalformedError
from laminator.run.enrolment import LENGTH_BYTES, MAX_MESSAGE_BYTES, enrol

CHAIN = {"certificates": ["aa", "bb"]}
CHALLENGE = {"challenge": {"credential_blob": "01", "secret": "02"}}


class Tpm:
    """The part of a TPM that enrolment uses."""

    ak_public = b"ak"

    def __init__(self, *templates: EkTemplate) -> None:
        self.templates = templates or (EK_ECC_P256, EK_RSA_2048)
        self.opened: list[Credential] = []

    def endorsement_certificate(self, template: EkTemplate) -> bytes | None:
        return template.name.encode() if template in self.templates else None

    def endorsement_public(self, template: EkTemplate) -> bytes:
        return template.name.encode() + b" public"

    def activate_credential(self, template: EkTemplate, credential: Credential) -> bytes:
        assert template in self.templates
        self.opened.append(credential)
        return b"opened"


class Owner:
    """Answers with what it was given, and keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self._own, theirs = socket.socketpair()
        self.descriptor = theirs.detach()
        self.asked: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._serve, args=(answers,))
        self._thread.start()

    def _serve(self, answers: tuple[bytes, ...]) -> None:
        with self._own:
            for answer in answers:
                size = self._own.recv(LENGTH_BYTES, socket.MSG_WAITALL)
                body = self._own.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
                self.asked.append(json.loads(body))
                self._own.sendall(answer)

    def join(self) -> None:
        self._thread.join(20)


def frame(answer: object) -> bytes:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def run_enrolment(tpm: Tpm, owner: Owner, key: str = "ecc") -> tuple[bytes, ...]:
    try:
        return enrol(cast("AttestationTpm", tpm), owner.descriptor, key)
    finally:
        owner.join()


@pytest.fixture
def tpm() -> Tpm:
    return Tpm()


def test_a_known_key_gets_its_certificates(tpm: Tpm) -> None:
    owner = Owner(frame(CHAIN))
    assert run_enrolment(tpm, owner) == (b"\xaa", b"\xbb")
    assert owner.asked[0]["ak"] == b"ak".hex()
    assert tpm.opened == []


def test_a_new_key_opens_the_challenge(tpm: Tpm) -> None:
    owner = Owner(frame(CHALLENGE), frame(CHAIN))
    assert run_enrolment(tpm, owner) == (b"\xaa", b"\xbb")
    assert tpm.opened == [Credential(b"\1", b"\2")]
    assert owner.asked[1] == {"op": "response", "secret": b"opened".hex()}


@pytest.mark.parametrize(("key", "ek"), [("ecc", EK_ECC_P256), ("rsa", EK_RSA_2048)])
def test_an_endorsement_key_of_the_same_kind_comes_first(
    tpm: Tpm, key: str, ek: EkTemplate
) -> None:
    owner = Owner(frame(CHAIN))
    run_enrolment(tpm, owner, key)
    assert owner.asked[0]["ek_certificates"] == [ek.name.encode().hex()]


def test_another_endorsement_key_serves_too() -> None:
    owner = Owner(frame(CHAIN))
    run_enrolment(Tpm(EK_RSA_2048), owner)
    assert owner.asked[0]["ek_certificates"] == [EK_RSA_2048.name.encode().hex()]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (frame({"error": "not yours"}), MachineError),
        (frame({"certificates": []}), MachineError),
        (frame({"certificates": ["zz"]}), MalformedError),
        (frame({"certificates": 5}), MalformedError),
        (frame({}), MalformedError),
        (frame([]), MalformedError),
        (frame(b"\xff"), MalformedError),
        (frame(b"[" * 5000), MalformedError),
        (frame({"challenge": {}}), MalformedError),
        (frame({"challenge": []}), MalformedError),
        ((MAX_MESSAGE_BYTES + 1).to_bytes(LENGTH_BYTES, "big"), MalformedError),
        (b"\0\0", MachineError),
        (b"", MachineError),
    ],
)
def test_other_answers_are_errors(tpm: Tpm, answer: bytes, kind: type[LaminatorError]) -> None:
    with pytest.raises(kind):
        run_enrolment(tpm, Owner(answer))


def test_no_endorsement_key_is_said() -> None:
    tpm = Tpm()
    tpm.templates = ()
    with pytest.raises(MachineError) as caught:
        run_enrolment(tpm, Owner())
    assert caught.value.code == "enrol.ek"
