"""A TPM that signs whatever it is told: attestation keys in memory, and what they attest.

A key here is an ordinary one in this process, so a forged structure can be signed as well as a
forger with an unrestricted key could.
"""

import hashlib
from functools import cache
from typing import NamedTuple, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from enclave_sim.adversary import forged_pki as pki
from laminator.appraise.trust import TrustStore
from laminator.claims import Claims
from laminator.eventlog import start_binding
from laminator.evidence import tpm
from laminator.evidence import tpm_structures as structures
from laminator.evidence import tpm_wire as wire
from laminator.evidence.tpm_key import spki

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
    """A machine's attestation key with its certificate chain, and its run counter.

    `trust` is that of a verifier who trusts the machine's authority, with its revocation lists.
    """

    key: SigningKey
    ak: structures.Public
    counter: structures.NvPublic
    root: pki.Authority
    authority: pki.Authority
    certificates: tuple[bytes, ...]
    trust: TrustStore


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
    """Return the machine with an AK certificate changed in the fields of `forged_pki.Spec`."""
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


def ak_spki(machine_: Machine) -> bytes:
    """Return the AK's SubjectPublicKeyInfo."""
    return spki(machine_.ak)


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


def certification(machine_: Machine, claims: Claims) -> structures.Attest:
    """Return an honest certification of the run counter's number."""
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
    machine_: Machine, attest: structures.Attest | bytes, key: SigningKey | None = None
) -> tpm.SignedAttest:
    """Return `attest`, a structure or any bytes, with the machine's signature, or that of `key`."""
    message = attest if isinstance(attest, bytes) else structures.marshal_attest(attest)
    scheme = machine_.ak.parameters.scheme or structures.Scheme(wire.ALG_ECDSA, wire.ALG_SHA256)
    return tpm.SignedAttest(message, sign(key or machine_.key, message, scheme))
