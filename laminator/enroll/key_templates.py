"""The fixed public areas (TPMT_PUBLIC) of endorsement keys and attestation keys.

Sources: TCG EK Credential Profile for TPM Family 2.0, annex B (templates L-1, L-2 and H-3);
TPM 2.0 Part 2, 12.2.4 (TPMT_PUBLIC), 8.3 (TPMA_OBJECT). A template's `public` is what
CreatePrimary is given; the created key's public area differs from it in `unique` alone.
"""

from typing import NamedTuple

from laminator.evidence.tpm_structures import (
    AK_ATTRIBUTES_SET,
    DECRYPT,
    FIXED_PARENT,
    FIXED_TPM,
    RESTRICTED,
    SENSITIVE_DATA_ORIGIN,
    USER_WITH_AUTH,
    EccParameters,
    EccPublic,
    Public,
    RsaParameters,
    RsaPublic,
    Scheme,
    Symmetric,
)
from laminator.evidence.tpm_wire import (
    ALG_ECDSA,
    ALG_RSASSA,
    ALG_SHA256,
    ALG_SHA384,
    ECC_NIST_P256,
    ECC_NIST_P384,
)

_ALG_AES = 0x0006
_ALG_CFB = 0x0043
_ADMIN_WITH_POLICY = 1 << 7
_NO_DA = 1 << 10

_EK_LOW_ATTRIBUTES = (
    FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | _ADMIN_WITH_POLICY | RESTRICTED | DECRYPT
)
_EK_HIGH_ATTRIBUTES = _EK_LOW_ATTRIBUTES | USER_WITH_AUTH
# Without NO_DA, a lockout that others provoke would stop the key.
_AK_ATTRIBUTES = AK_ATTRIBUTES_SET | _NO_DA

# PolicySecret(TPM_RH_ENDORSEMENT), SHA-256: the profile's PolicyA.
_POLICY_A_SHA256 = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
# PolicyOR of PolicyA and PolicyAuthorizeNV, SHA-384: the profile's PolicyB.
_POLICY_B_SHA384 = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419ca"
    "cb47ba09699646150f9fc000f3f80e12"
)
AES_128_CFB = Symmetric(_ALG_AES, 128, _ALG_CFB)
AES_256_CFB = Symmetric(_ALG_AES, 256, _ALG_CFB)


class EkTemplate(NamedTuple):
    """One TCG endorsement key template and the NV index of such a key's certificate."""

    name: str
    public: Public
    certificate_index: int

    @property
    def takes_policy(self) -> bool:
        """Whether PolicySecret(endorsement) authorises the key's use, not an empty password."""
        return not self.public.attributes & USER_WITH_AUTH


class AkTemplate(NamedTuple):
    """One attestation key template: a restricted signing key that never leaves its TPM."""

    name: str
    public: Public


EK_RSA_2048 = EkTemplate(
    name="rsa-2048",
    public=RsaPublic(
        name_alg=ALG_SHA256,
        attributes=_EK_LOW_ATTRIBUTES,
        auth_policy=_POLICY_A_SHA256,
        parameters=RsaParameters(AES_128_CFB, scheme=None, key_bits=2048, exponent=0),
        modulus=bytes(256),
    ),
    certificate_index=0x01C0_0002,
)
EK_ECC_P256 = EkTemplate(
    name="ecc-p256",
    public=EccPublic(
        name_alg=ALG_SHA256,
        attributes=_EK_LOW_ATTRIBUTES,
        auth_policy=_POLICY_A_SHA256,
        parameters=EccParameters(AES_128_CFB, scheme=None, curve=ECC_NIST_P256, kdf=None),
        x=bytes(32),
        y=bytes(32),
    ),
    certificate_index=0x01C0_000A,
)
EK_ECC_P384 = EkTemplate(
    name="ecc-p384",
    public=EccPublic(
        name_alg=ALG_SHA384,
        attributes=_EK_HIGH_ATTRIBUTES,
        auth_policy=_POLICY_B_SHA384,
        parameters=EccParameters(AES_256_CFB, scheme=None, curve=ECC_NIST_P384, kdf=None),
        x=b"",
        y=b"",
    ),
    certificate_index=0x01C0_0016,
)
EK_TEMPLATES = (EK_ECC_P384, EK_ECC_P256, EK_RSA_2048)
"""The accepted templates, the preferred first."""

AK_ECDSA_P256 = AkTemplate(
    name="ecdsa-p256",
    public=EccPublic(
        name_alg=ALG_SHA256,
        attributes=_AK_ATTRIBUTES,
        auth_policy=b"",
        parameters=EccParameters(
            symmetric=None, scheme=Scheme(ALG_ECDSA, ALG_SHA256), curve=ECC_NIST_P256, kdf=None
        ),
        x=b"",
        y=b"",
    ),
)
AK_RSASSA_2048 = AkTemplate(
    name="rsassa-2048",
    public=RsaPublic(
        name_alg=ALG_SHA256,
        attributes=_AK_ATTRIBUTES,
        auth_policy=b"",
        parameters=RsaParameters(
            symmetric=None, scheme=Scheme(ALG_RSASSA, ALG_SHA256), key_bits=2048, exponent=0
        ),
        modulus=b"",
    ),
)
AK_TEMPLATES = (AK_ECDSA_P256, AK_RSASSA_2048)


def find_ek_template(public: Public) -> EkTemplate | None:
    """Return the template that `public` equals in all but `unique`, if there is one."""
    for template in EK_TEMPLATES:
        if _without_unique(public) == _without_unique(template.public):
            return template
    return None


def _without_unique(public: Public) -> Public:
    if isinstance(public, RsaPublic):
        return public._replace(modulus=b"")
    return public._replace(x=b"", y=b"")
