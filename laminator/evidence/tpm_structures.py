"""TPM structures as values: strict, bounded parsers and their inverses.

Clauses are those of the TPM 2.0 Library Specification, Part 2: Structures. Every parser raises
MalformedError and nothing else, refuses trailing bytes, and reads only what it would write:
``marshal_x(parse_x(data)) == data``. Nothing here is authenticated.
"""

import hashlib
from typing import NamedTuple

from laminator.evidence import tpm_wire as wire
from laminator.evidence.tpm_wire import Reader, sized, uint16, uint32, uint64

TPM_GENERATED_VALUE = 0xFF544347
ST_ATTEST_NV = 0x8014
ST_ATTEST_QUOTE = 0x8018
RH_ENDORSEMENT = 0x4000000B

# Bits of TPMA_OBJECT, clause 8.3
FIXED_TPM = 1 << 1
FIXED_PARENT = 1 << 4
SENSITIVE_DATA_ORIGIN = 1 << 5
USER_WITH_AUTH = 1 << 6
RESTRICTED = 1 << 16
DECRYPT = 1 << 17
SIGN_ENCRYPT = 1 << 18
X509_SIGN = 1 << 19
AK_ATTRIBUTES_SET = (
    FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | RESTRICTED | SIGN_ENCRYPT
)
AK_ATTRIBUTES_CLEAR = DECRYPT | X509_SIGN

# Bits of TPMA_NV, clause 13.4
NT_COUNTER = 1 << 4
AUTHWRITE = 1 << 2
AUTHREAD = 1 << 18
NO_DA = 1 << 25
WRITTEN = 1 << 29
PLATFORMCREATE = 1 << 30

RUN_COUNTER_INDEX = 0x01801A4D
RUN_COUNTER_SIZE = 8
COUNTER_ATTRIBUTES = NT_COUNTER | AUTHWRITE | AUTHREAD | NO_DA | WRITTEN
COUNTER_ATTRIBUTES_ACCEPTED = (COUNTER_ATTRIBUTES, COUNTER_ATTRIBUTES | PLATFORMCREATE)

MAX_STRUCTURE = 2048
MAX_DIGEST = 64
MAX_NAME = 2 + MAX_DIGEST
MAX_RSA_BYTES = 512
MAX_ECC_BYTES = 66
MAX_PCR_SELECTIONS = 16
MAX_NV_BUFFER = 1024

_HASHES = tuple(wire.DIGEST_SIZES)
_NAME_HASHES = tuple(wire.HASH_NAMES)
_ECC_SCHEMES = (wire.ALG_ECDSA, wire.ALG_ECDH, wire.ALG_ECDAA)
_RSA_SCHEMES = (wire.ALG_RSASSA, wire.ALG_RSAPSS, wire.ALG_OAEP, wire.ALG_RSAES)


class ClockInfo(NamedTuple):
    """TPMS_CLOCK_INFO (10.11.1): `clock` in milliseconds of powered time."""

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


class PcrSelection(NamedTuple):
    """TPMS_PCR_SELECTION (10.6.2): a bank's algorithm and its bit map, octet 0 first."""

    algorithm: int
    bitmap: bytes

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The selected PCRs in ascending order."""
        bits = int.from_bytes(self.bitmap, "little")
        return tuple(index for index in range(8 * len(self.bitmap)) if bits >> index & 1)


class Quote(NamedTuple):
    """TPMS_QUOTE_INFO (10.12.4)."""

    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


class NvCertification(NamedTuple):
    """TPMS_NV_CERTIFY_INFO (10.12.8)."""

    index_name: bytes
    offset: int
    contents: bytes


class Attest(NamedTuple):
    """TPMS_ATTEST (10.12.12). `magic` and `type` are kept as found: checks judge them.

    `attested` is the raw bytes where `type` is neither a quote nor an NV certification.
    """

    magic: int
    type: int
    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    attested: Quote | NvCertification | bytes


class NvPublic(NamedTuple):
    """TPMS_NV_PUBLIC (13.5)."""

    nv_index: int
    name_alg: int
    attributes: int
    auth_policy: bytes
    data_size: int


class Symmetric(NamedTuple):
    """TPMT_SYM_DEF_OBJECT (11.1.7) other than TPM_ALG_NULL."""

    algorithm: int
    key_bits: int
    mode: int


class Scheme(NamedTuple):
    """TPMT_RSA_SCHEME, TPMT_ECC_SCHEME or TPMT_KDF_SCHEME (11.2) other than TPM_ALG_NULL."""

    algorithm: int
    hash: int | None
    ecdaa_count: int | None = None


class RsaParameters(NamedTuple):
    """TPMS_RSA_PARMS (12.2.3.5). `exponent` 0 stands for 65537."""

    symmetric: Symmetric | None
    scheme: Scheme | None
    key_bits: int
    exponent: int


class EccParameters(NamedTuple):
    """TPMS_ECC_PARMS (12.2.3.6)."""

    symmetric: Symmetric | None
    scheme: Scheme | None
    curve: int
    kdf: Scheme | None


class RsaPublic(NamedTuple):
    """TPMT_PUBLIC (12.2.4) of an RSA key; `modulus` is unsigned big endian."""

    name_alg: int
    attributes: int
    auth_policy: bytes
    parameters: RsaParameters
    modulus: bytes


class EccPublic(NamedTuple):
    """TPMT_PUBLIC (12.2.4) of an ECC key; `x` and `y` are unsigned big endian."""

    name_alg: int
    attributes: int
    auth_policy: bytes
    parameters: EccParameters
    x: bytes
    y: bytes


Public = RsaPublic | EccPublic


class RsaSignature(NamedTuple):
    """TPMT_SIGNATURE (11.3.4) of RSASSA or RSAPSS."""

    algorithm: int
    hash: int
    signature: bytes


class EcdsaSignature(NamedTuple):
    """TPMT_SIGNATURE (11.3.4) of ECDSA; `r` and `s` are unsigned big endian."""

    algorithm: int
    hash: int
    r: bytes
    s: bytes


Signature = RsaSignature | EcdsaSignature


def parse_attest(data: bytes) -> Attest:
    """Parse a TPMS_ATTEST (10.12.12). Raises MalformedError."""
    reader = Reader(data, "attest", max_bytes=MAX_STRUCTURE)
    magic, type_ = reader.uint(4), reader.uint(2)
    signer, extra = reader.sized(MAX_NAME), reader.sized(MAX_DIGEST)
    clock_info = _clock_info(reader)
    firmware_version = reader.uint(8)
    attested: Quote | NvCertification | bytes
    if type_ == ST_ATTEST_QUOTE:
        attested = Quote(_selections(reader), reader.sized(MAX_DIGEST))
    elif type_ == ST_ATTEST_NV:
        attested = NvCertification(
            reader.sized(MAX_NAME), reader.uint(2), reader.sized(MAX_NV_BUFFER)
        )
    else:
        attested = reader.rest()
    reader.close()
    return Attest(magic, type_, signer, extra, clock_info, firmware_version, attested)


def marshal_attest(attest: Attest) -> bytes:
    """Return the TPMS_ATTEST (10.12.12)."""
    clock = attest.clock_info
    head = uint32(attest.magic) + uint16(attest.type)
    head += sized(attest.qualified_signer) + sized(attest.extra_data)
    head += uint64(clock.clock) + uint32(clock.reset_count) + uint32(clock.restart_count)
    head += bytes([clock.safe]) + uint64(attest.firmware_version)
    attested = attest.attested
    if isinstance(attested, Quote):
        banks = b"".join(
            uint16(bank.algorithm) + bytes([len(bank.bitmap)]) + bank.bitmap
            for bank in attested.selections
        )
        return head + uint32(len(attested.selections)) + banks + sized(attested.pcr_digest)
    if isinstance(attested, NvCertification):
        return (
            head + sized(attested.index_name) + uint16(attested.offset) + sized(attested.contents)
        )
    return head + attested


def parse_signature(data: bytes) -> Signature:
    """Parse a TPMT_SIGNATURE (11.3.4) of ECDSA, RSASSA or RSAPSS. Raises MalformedError."""
    reader = Reader(data, "signature", max_bytes=MAX_STRUCTURE)
    algorithms = (wire.ALG_ECDSA, wire.ALG_RSASSA, wire.ALG_RSAPSS)
    algorithm = reader.one_of(algorithms, "signature algorithm")
    hash_ = reader.one_of(_HASHES, "hash algorithm")
    signature: Signature
    if algorithm == wire.ALG_ECDSA:
        r, s = reader.sized(MAX_ECC_BYTES), reader.sized(MAX_ECC_BYTES)
        signature = EcdsaSignature(algorithm, hash_, r, s)
    else:
        signature = RsaSignature(algorithm, hash_, reader.sized(MAX_RSA_BYTES))
    reader.close()
    return signature


def marshal_signature(signature: Signature) -> bytes:
    """Return the TPMT_SIGNATURE (11.3.4)."""
    head = uint16(signature.algorithm) + uint16(signature.hash)
    if isinstance(signature, EcdsaSignature):
        return head + sized(signature.r) + sized(signature.s)
    return head + sized(signature.signature)


def parse_public(data: bytes) -> Public:
    """Parse a TPMT_PUBLIC (12.2.4) of an RSA or an ECC key. Raises MalformedError."""
    reader = Reader(data, "public", max_bytes=MAX_STRUCTURE)
    type_ = reader.one_of((wire.ALG_RSA, wire.ALG_ECC), "key type")
    name_alg = reader.one_of(_NAME_HASHES, "name algorithm")
    attributes, policy = reader.uint(4), reader.sized(MAX_DIGEST)
    symmetric = _symmetric(reader)
    public: Public
    if type_ == wire.ALG_RSA:
        scheme = _scheme(reader, _RSA_SCHEMES)
        rsa = RsaParameters(symmetric, scheme, reader.uint(2), reader.uint(4))
        public = RsaPublic(name_alg, attributes, policy, rsa, reader.sized(MAX_RSA_BYTES))
    else:
        scheme = _scheme(reader, _ECC_SCHEMES)
        ecc = EccParameters(symmetric, scheme, reader.uint(2), _kdf(reader))
        x, y = reader.sized(MAX_ECC_BYTES), reader.sized(MAX_ECC_BYTES)
        public = EccPublic(name_alg, attributes, policy, ecc, x, y)
    reader.close()
    return public


def marshal_public(public: Public) -> bytes:
    """Return the TPMT_PUBLIC (12.2.4)."""
    type_ = wire.ALG_RSA if isinstance(public, RsaPublic) else wire.ALG_ECC
    head = uint16(type_) + uint16(public.name_alg) + uint32(public.attributes)
    head += sized(public.auth_policy) + _marshal_symmetric(public.parameters.symmetric)
    head += _marshal_scheme(public.parameters.scheme)
    if isinstance(public, RsaPublic):
        parameters = uint16(public.parameters.key_bits) + uint32(public.parameters.exponent)
        return head + parameters + sized(public.modulus)
    parameters = uint16(public.parameters.curve) + _marshal_scheme(public.parameters.kdf)
    return head + parameters + sized(public.x) + sized(public.y)


def parse_nv_public(data: bytes) -> NvPublic:
    """Parse a TPMS_NV_PUBLIC (13.5). Raises MalformedError."""
    reader = Reader(data, "nv-public", max_bytes=MAX_STRUCTURE)
    index, name_alg = reader.uint(4), reader.one_of(_NAME_HASHES, "name algorithm")
    public = NvPublic(index, name_alg, reader.uint(4), reader.sized(MAX_DIGEST), reader.uint(2))
    reader.close()
    return public


def marshal_nv_public(public: NvPublic) -> bytes:
    """Return the TPMS_NV_PUBLIC (13.5)."""
    head = uint32(public.nv_index) + uint16(public.name_alg) + uint32(public.attributes)
    return head + sized(public.auth_policy) + uint16(public.data_size)


def name(public: Public | NvPublic) -> bytes:
    """Return the Name: nameAlg and the digest of the public area (Part 1, clause 16)."""
    area = marshal_nv_public(public) if isinstance(public, NvPublic) else marshal_public(public)
    return _name(public.name_alg, area)


def qualified_name(public: Public, hierarchy: int = RH_ENDORSEMENT) -> bytes:
    """Return the qualified Name of a primary object of `hierarchy` (Part 1, clause 16)."""
    return _name(public.name_alg, uint32(hierarchy) + name(public))


def _name(name_alg: int, area: bytes) -> bytes:
    return uint16(name_alg) + hashlib.new(wire.HASH_NAMES[name_alg], area).digest()


def _clock_info(reader: Reader) -> ClockInfo:
    clock, resets, restarts, safe = (reader.uint(size) for size in (8, 4, 4, 1))
    if safe > 1:
        raise reader.malformed(f"TPMI_YES_NO {safe}")
    return ClockInfo(clock, resets, restarts, safe == 1)


def _selections(reader: Reader) -> tuple[PcrSelection, ...]:
    """Read a TPML_PCR_SELECTION (10.9.7)."""
    count = reader.uint(4)
    if count > MAX_PCR_SELECTIONS:
        raise reader.malformed(f"{count} PCR selections, limit {MAX_PCR_SELECTIONS}")
    return tuple(PcrSelection(reader.uint(2), reader.take(reader.uint(1))) for _ in range(count))


def _symmetric(reader: Reader) -> Symmetric | None:
    algorithm = reader.uint(2)
    if algorithm == wire.ALG_NULL:
        return None
    return Symmetric(algorithm, reader.uint(2), reader.uint(2))


def _scheme(reader: Reader, algorithms: tuple[int, ...]) -> Scheme | None:
    algorithm = reader.one_of((*algorithms, wire.ALG_NULL), "scheme")
    if algorithm == wire.ALG_NULL:
        return None
    if algorithm == wire.ALG_RSAES:
        return Scheme(algorithm, None)
    hash_ = reader.one_of(_HASHES, "hash algorithm")
    return Scheme(algorithm, hash_, reader.uint(2) if algorithm == wire.ALG_ECDAA else None)


def _kdf(reader: Reader) -> Scheme | None:
    algorithm = reader.uint(2)
    if algorithm == wire.ALG_NULL:
        return None
    return Scheme(algorithm, reader.one_of(_HASHES, "hash algorithm"))


def _marshal_symmetric(symmetric: Symmetric | None) -> bytes:
    if symmetric is None:
        return uint16(wire.ALG_NULL)
    return b"".join(uint16(field) for field in symmetric)


def _marshal_scheme(scheme: Scheme | None) -> bytes:
    if scheme is None:
        return uint16(wire.ALG_NULL)
    return b"".join(uint16(field) for field in scheme if field is not None)
