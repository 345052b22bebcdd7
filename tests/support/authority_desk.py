"""An authority in memory of the tests' fixed time, and provers whose TPM is software."""

import dataclasses
import datetime as dt
import sqlite3
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim.adversary.forged_endorsement_key import activate
from enclave_sim.adversary.forged_manufacturer import (
    DAY,
    NOW,
    SoftwareEk,
    crl,
    ek_profile,
    issue_ek,
    manufacturer,
    software_ek,
    with_point,
)
from laminator.enroll.ak_certificate import Authority
from laminator.enroll.authority import check_ak
from laminator.enroll.authority_key import RootTerms, generate_key, make_root
from laminator.enroll.authority_store import AuthorityStore, IssuedCertificate, create_store
from laminator.enroll.ek_certificate import EkTrust
from laminator.enroll.exchange import (
    EnrolmentRequest,
    EnrolmentResponse,
    digest,
    encode_request,
    parse_challenge,
)
from laminator.enroll.issuance import Judged, issue, pose_challenge
from laminator.enroll.key_templates import AK_ECDSA_P256
from laminator.evidence.tpm_structures import (
    COUNTER_ATTRIBUTES,
    RUN_COUNTER_INDEX,
    NvPublic,
    Public,
    marshal_nv_public,
    marshal_public,
)
from laminator.evidence.tpm_wire import ALG_SHA256

COUNTER = NvPublic(RUN_COUNTER_INDEX, ALG_SHA256, COUNTER_ATTRIBUTES, b"", 8)
YEAR = 365 * DAY


def new_ak() -> Public:
    """Return an attestation key's public area."""
    return with_point(AK_ECDSA_P256.public, ec.generate_private_key(ec.SECP256R1()).public_key())


class Machine(NamedTuple):
    """A machine of the tests: what its request says can be changed."""

    ek: SoftwareEk
    ak: Public
    certificate: x509.Certificate

    def request(self) -> EnrolmentRequest:
        chain = (self.certificate, *manufacturer().chain)
        return EnrolmentRequest(
            ak=marshal_public(self.ak),
            ek=marshal_public(self.ek.public),
            ek_certificates=tuple(each.public_bytes(Encoding.DER) for each in chain),
            counter=marshal_nv_public(COUNTER),
        )

    def answer(self, challenge: bytes) -> EnrolmentResponse:
        """Open the challenge as this machine's TPM does."""
        posed = parse_challenge(challenge)
        name = check_ak(marshal_public(self.ak)).name
        return EnrolmentResponse(digest(challenge), activate(self.ek, name, posed.credential))


def machine(serial: int = 7) -> Machine:
    """Return the machine of the one software EK, with an attestation key of its own."""
    ek = software_ek()
    profile = dataclasses.replace(ek_profile(ek.private.public_key()), serial=serial)
    return Machine(ek, new_ak(), issue_ek(profile))


class Desk(NamedTuple):
    """An authority's key and memory."""

    path: Path
    authority: Authority
    store: AuthorityStore

    def pose(self, request: EnrolmentRequest, judged: Judged | None = None) -> bytes:
        data = encode_request(request)
        return pose_challenge(self.store, self.authority.certificate, data, judged or judge())

    def issue(self, response: EnrolmentResponse, judged: Judged | None = None) -> IssuedCertificate:
        return issue(self.store, self.authority, response, judged or judge(), YEAR)

    def enrol(self, one: Machine) -> IssuedCertificate:
        return self.issue(one.answer(self.pose(one.request())))

    def is_sound(self) -> bool:
        with sqlite3.connect(self.path) as connection:
            (found,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
        return bool(found == "ok")


def open_desk(folder: Path) -> Desk:
    """Make an authority in `folder`; its store is open."""
    path = folder / "state.sqlite"
    create_store(path)
    key = generate_key("p256")
    certificate = make_root(key, RootTerms("Desk", NOW - 10 * DAY, NOW + 5 * YEAR))
    return Desk(path, Authority(certificate, key), AuthorityStore(path))


def judge(at: dt.datetime = NOW, *revoked: int, lists_of: dt.datetime | None = None) -> Judged:
    """Return the time and the trust in the tests' manufacturer, who revoked these EKs.

    Its lists are one day old at `lists_of`, or at `at`, and good for thirty.
    """
    maker = manufacturer()
    age = NOW - (lists_of or at) + DAY
    crls = (crl(maker.root, age=age), crl(maker.intermediate, *revoked, age=age))
    return Judged(EkTrust(maker.trust.anchors, crls), at)


def write_trust(folder: Path) -> None:
    """Write the tests' manufacturer as `laminator trust` keeps it."""
    (folder / "simulated").mkdir(parents=True)
    (folder / "crls").mkdir()
    trust = manufacturer().trust
    for anchor in trust.anchors:
        pem = anchor.certificate.public_bytes(Encoding.PEM)
        (folder / "simulated" / "root.pem").write_bytes(pem)
    for number, each in enumerate(trust.crls):
        (folder / "crls" / f"{number}.crl").write_bytes(each.public_bytes(Encoding.DER))
