"""A TPM that signs whatever it is told: whole valid cards in memory, to alter in one place.

The key is an ordinary one in this process, so a forged structure can be signed as well as a
forger with an unrestricted key could. Typical use::

    world = forge.world()                      # everything valid and consistent
    bad = world._replace(end=world.end._replace(extra_data=bytes(32)))
    checks = forge.checks(bad)                 # only tpm.binding fails
    card_bytes = forge.card_bytes(bad)         # the same as a card, all attestations signed
    result = verifying.judge(bad)              # the whole verifier

`world(machine, claims, counter)` makes everything anew and consistent after a change further up.
`evidence(world)` gives the carried bytes, to change below the signature.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, cast

import pki
import samples
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from laminator.appraise.result import Check
from laminator.appraise.trust import TrustStore
from laminator.card import Card, ConceptualMessage, binding, encode_card
from laminator.claims import Claims, EvidenceRef, Launch, LogSummary
from laminator.claims_codec import encode_claims
from laminator.digest import sha256
from laminator.eventlog import (
    START_QUOTE_RECORDS,
    Record,
    expected_records,
    replay,
    start_binding,
    start_quote_binding,
)
from laminator.evidence import tpm
from laminator.evidence import tpm_structures as structures
from laminator.evidence import tpm_wire as wire
from laminator.evidence.tpm_key import key_digest, spki

NOW = pki.NOW
LAUNCH = Launch("drtm-simulated", sha256(b"the attester's manifest"))
FIRMWARE = 0x2026_0001_0002_0003

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_ALGORITHMS = {
    "ecdsa-p256": ("p256", wire.ALG_ECDSA, wire.ALG_SHA256),
    "ecdsa-p384": ("p384", wire.ALG_ECDSA, wire.ALG_SHA384),
    "ecdsa-p521": ("p521", wire.ALG_ECDSA, wire.ALG_SHA512),
    "rsassa": ("rsa2048", wire.ALG_RSASSA, wire.ALG_SHA256),
    "rsapss": ("rsa2048", wire.ALG_RSAPSS, wire.ALG_SHA256),
    "rsassa-1024": ("rsa1024", wire.ALG_RSASSA, wire.ALG_SHA256),
}
_CURVES = {"p256": (3, 32), "p384": (4, 48), "p521": (5, 66)}
_HASHES: dict[int, hashes.HashAlgorithm] = {
    wire.ALG_SHA1: hashes.SHA1(),  # noqa: S303 - to be refused
    wire.ALG_SHA256: hashes.SHA256(),
    wire.ALG_SHA384: hashes.SHA384(),
    wire.ALG_SHA512: hashes.SHA512(),
}


class Machine(NamedTuple):
    """A machine's attestation key with its certificate chain, and its run counter."""

    key: SigningKey
    ak: structures.Public
    counter: structures.NvPublic
    root: pki.Authority
    authority: pki.Authority
    certificates: tuple[bytes, ...]
    trust: TrustStore


class World(NamedTuple):
    """Everything a card is made of, unsigned; `card` and `evidence` sign it."""

    machine: Machine
    claims: Claims
    log: tuple[Record, ...]
    counter: structures.Attest
    start: structures.Attest
    end: structures.Attest


@cache
def machine(algorithm: str = "ecdsa-p256", label: str = "machine") -> Machine:
    """Return a machine whose AK has that algorithm; the same one for the same arguments."""
    key_kind, scheme, hash_ = _ALGORITHMS[algorithm]
    key = cast("SigningKey", pki.key(f"{label} {algorithm}", key_kind))
    ak = ak_public(key, structures.Scheme(scheme, hash_))
    counter = structures.NvPublic(
        structures.RUN_COUNTER_INDEX, wire.ALG_SHA256, structures.COUNTER_ATTRIBUTES, b"", 8
    )
    root = pki.root(f"{label} root")
    authority = pki.authority(root, f"{label} AK authority", path_length=0)
    spec = pki.ak_spec(key.public_key(), structures.name(counter))
    leaf = pki.sign(spec, authority, authority.key)
    trust = pki.store(root, pki.crl(root), pki.crl(authority))
    return Machine(key, ak, counter, root, authority, (pki.der(leaf), authority.der), trust)


def certified(machine_: Machine, **changes: object) -> Machine:
    """Return the machine with an AK certificate changed in the fields of `pki.Spec`."""
    spec = pki.ak_spec(machine_.key.public_key(), structures.name(machine_.counter))
    spec = spec._replace(**changes)  # type: ignore[arg-type]
    leaf = pki.sign(spec, machine_.authority, machine_.authority.key)
    return machine_._replace(certificates=(pki.der(leaf), machine_.authority.der))


def ak_public(key: SigningKey, scheme: structures.Scheme) -> structures.Public:
    """Return the TPMT_PUBLIC of a restricted signing key with the parts of `key`."""
    attributes = structures.AK_ATTRIBUTES_SET
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = key.public_key().public_numbers().n
        rsa_parameters = structures.RsaParameters(None, scheme, key.key_size, 0)
        octets = modulus.to_bytes(key.key_size // 8, "big")
        return structures.RsaPublic(wire.ALG_SHA256, attributes, b"", rsa_parameters, octets)
    curve, size = _CURVES[f"p{key.key_size}"]
    numbers = key.public_key().public_numbers()
    ecc_parameters = structures.EccParameters(None, scheme, curve, None)
    x, y = numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big")
    return structures.EccPublic(wire.ALG_SHA256, attributes, b"", ecc_parameters, x, y)


def world(
    machine_: Machine | None = None,
    claims: Claims | None = None,
    counter: Callable[[structures.Attest], structures.Attest] = lambda attest: attest,
) -> World:
    """Return a consistent world; `counter` changes the counter's certification before its digest
    goes into the log."""
    machine_ = machine_ or machine()
    draft = claims or samples.claims()._replace(cards=None)
    if claims is None:
        draft = draft._replace(run=draft.run._replace(launch=LAUNCH))
    certification = counter(_counter_attest(machine_, draft))
    log = expected_records(draft, structures.marshal_attest(certification))
    final = draft._replace(
        log=LogSummary(replay(log), len(log)),
        evidence=(EvidenceRef("tpm", key_digest(machine_.ak).value),),
    )
    start_head = replay(log[:START_QUOTE_RECORDS])
    start = quote(machine_, final, start_head, start_quote_binding(start_head), 2000)
    end = quote(machine_, final, replay(log), binding(encode_claims(final)), 9000)
    return World(machine_, final, log, certification, start, end)


def quote(
    machine_: Machine, claims: Claims, head: bytes, extra_data: bytes, clock: int
) -> structures.Attest:
    """Return an honest quote of PCR 23 = `head`, and of PCR 17 where the claims say a launch."""
    pcrs: tuple[int, ...] = (tpm.RUN_PCR,)
    values = head
    launch = claims.run.launch
    if launch.type.startswith("drtm-") and launch.digest is not None:
        pcrs, values = (tpm.LAUNCH_PCR, tpm.RUN_PCR), tpm.launch_pcr(launch.digest.value) + head
    return structures.Attest(
        structures.TPM_GENERATED_VALUE,
        structures.ST_ATTEST_QUOTE,
        structures.qualified_name(machine_.ak),
        extra_data,
        structures.ClockInfo(clock, 3, 1, safe=True),
        FIRMWARE,
        structures.Quote((selection(*pcrs),), pcr_digest(machine_, values)),
    )


def selection(*pcrs: int, algorithm: int = wire.ALG_SHA256) -> structures.PcrSelection:
    """Return a selection of `pcrs` in three octets."""
    return structures.PcrSelection(algorithm, sum(1 << pcr for pcr in pcrs).to_bytes(3, "little"))


def pcr_digest(machine_: Machine, values: bytes) -> bytes:
    """Return what a quote says of the concatenated PCR `values`."""
    scheme = machine_.ak.parameters.scheme
    hash_ = wire.ALG_SHA256 if scheme is None or scheme.hash is None else scheme.hash
    return hashlib.new(wire.HASH_NAMES.get(hash_, "sha1"), values).digest()


def sign(key: SigningKey, message: bytes, scheme: structures.Scheme) -> bytes:
    """Return a TPMT_SIGNATURE over `message`."""
    hash_id = scheme.hash or wire.ALG_SHA256
    hash_ = _HASHES[hash_id]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hash_)))
        size = (key.key_size + 7) // 8
        signed: structures.Signature = structures.EcdsaSignature(
            wire.ALG_ECDSA, hash_id, r.to_bytes(size, "big"), s.to_bytes(size, "big")
        )
        return structures.marshal_signature(signed)
    octets = (
        key.sign(message, padding.PSS(padding.MGF1(hash_), padding.PSS.MAX_LENGTH), hash_)
        if scheme.algorithm == wire.ALG_RSAPSS
        else key.sign(message, padding.PKCS1v15(), hash_)
    )
    signed = structures.RsaSignature(scheme.algorithm, hash_id, octets)
    return structures.marshal_signature(signed)


def signed(
    machine_: Machine, attest: structures.Attest, key: SigningKey | None = None
) -> tpm.SignedAttest:
    """Return `attest` with the machine's signature, or that of `key`."""
    message = structures.marshal_attest(attest)
    scheme = machine_.ak.parameters.scheme or structures.Scheme(wire.ALG_ECDSA, wire.ALG_SHA256)
    return tpm.SignedAttest(message, sign(key or machine_.key, message, scheme))


def evidence(world_: World) -> tpm.TpmEvidence:
    """Return the world's evidence as carried, everything signed."""
    machine_ = world_.machine
    return tpm.TpmEvidence(
        structures.marshal_public(machine_.ak),
        machine_.certificates,
        signed(machine_, world_.start),
        signed(machine_, world_.end),
        signed(machine_, world_.counter),
        structures.marshal_nv_public(machine_.counter),
    )


def card(world_: World, carried: tpm.TpmEvidence | None = None) -> Card:
    """Return the world's card, with `carried` in place of its own evidence if given."""
    value = tpm.encode_tpm_evidence(carried or evidence(world_))
    message = ConceptualMessage(tpm.TPM_MEDIA_TYPE, value)
    return Card(encode_claims(world_.claims), world_.claims, world_.log, (message,))


def card_bytes(world_: World, carried: tpm.TpmEvidence | None = None) -> bytes:
    """Return the encoded card."""
    return encode_card(card(world_, carried))


def checks(world_: World, carried: tpm.TpmEvidence | None = None) -> dict[str, Check]:
    """Return the checks of the world's TPM evidence by id, the counter's Name endorsed."""
    made = card(world_, carried)
    endorsed = structures.name(machine().counter)
    parsed = tpm.parse_tpm_evidence(made.evidence[0].value)
    expected = tpm.expect(made, made.claims.evidence[0], endorsed)
    return {check.id: check for check in tpm.check_tpm_evidence(parsed, expected)}


def failing(found: dict[str, Check]) -> set[str]:
    """Return the ids of the checks that failed."""
    return {check.id for check in found.values() if check.verdict == "fail"}


def ak_spki(machine_: Machine) -> bytes:
    """Return the AK's SubjectPublicKeyInfo."""
    return spki(machine_.ak)


def _counter_attest(machine_: Machine, claims: Claims) -> structures.Attest:
    contents = claims.run.number.to_bytes(8, "big")
    return structures.Attest(
        structures.TPM_GENERATED_VALUE,
        structures.ST_ATTEST_NV,
        structures.qualified_name(machine_.ak),
        start_binding(claims.run, claims.nonce),
        structures.ClockInfo(1000, 3, 1, safe=True),
        FIRMWARE,
        structures.NvCertification(structures.name(machine_.counter), 0, contents),
    )
