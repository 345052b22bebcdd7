import datetime as dt
import warnings
from collections.abc import Callable

import forge
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import crypto

from enclave_sim.adversary import forged_pki as pki
from laminator.appraise import crl
from laminator.appraise.algorithms import chain_weakness, hash_weakness
from laminator.appraise.trust import Anchor, TrustStore, parse_certificate, parse_crl
from laminator.appraise.x509 import AkAppraisal, lowered, verify_ak_certificate
from laminator.errors import MalformedError, UsageError
from laminator.evidence import tpm_structures as structures
from laminator.evidence.ak_extension import AK_EXTENSION_OID
from laminator.evidence.tpm_key import spki

NOW, DAY, YEAR = pki.NOW, pki.DAY, pki.YEAR
CHECKS = [
    "ak.certificate",
    "ak.chain",
    "ak.algorithm",
    "ak.validity",
    "ak.revocation",
    "ak.eku",
    "ak.extension",
]
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")

MACHINE = forge.machine
COUNTER_NAME = structures.name(structures.NvPublic(0x01801A4D, 11, 0x22040014, b"", 8))


class Chain:
    """A root, an intermediate and an AK certificate, each changed as told."""

    def __init__(
        self,
        leaf: dict[str, object] | None = None,
        ca: dict[str, object] | None = None,
        root: dict[str, object] | None = None,
        kinds: tuple[str, str, str] = ("p256", "p256", "p384"),
    ) -> None:
        self.root = pki.root("chain root", kinds[2], **(root or {}))
        self.ca = pki.authority(self.root, "chain CA", kinds[1], **{"path_length": 0, **(ca or {})})
        self.key = pki.key("chain AK", kinds[0]).public_key()
        spec = pki.ak_spec(self.key, COUNTER_NAME)
        spec = spec._replace(**(leaf or {}))  # type: ignore[arg-type]
        self.leaf = pki.sign(spec, self.ca, self.ca.key)

    @property
    def carried(self) -> tuple[bytes, ...]:
        return pki.der(self.leaf), self.ca.der

    @property
    def crls(self) -> tuple[x509.CertificateRevocationList, ...]:
        return pki.crl(self.root), pki.crl(self.ca)

    @property
    def trust(self) -> TrustStore:
        return pki.store(self.root, *self.crls)

    def appraise(
        self, trust: TrustStore | None = None, at: dt.datetime = NOW, kind: str | None = None
    ) -> AkAppraisal:
        trust = trust or (pki.store(self.root, *self.crls, kind=kind) if kind else self.trust)
        return verify_ak_certificate(self.carried, der_spki(self.key), trust, at)


Recipe = Callable[[], Chain]


def recipe(
    leaf: dict[str, object] | None = None,
    ca: dict[str, object] | None = None,
    root: dict[str, object] | None = None,
    kinds: tuple[str, str, str] = ("p256", "p256", "p384"),
) -> Recipe:
    """Return a maker of one chain, so that keys are made when the test runs."""
    return lambda: Chain(leaf, ca, root, kinds)


def der_spki(key: pki.PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def verdicts(appraisal: AkAppraisal) -> dict[str, str]:
    assert [check.id for check in appraisal.checks] == CHECKS
    return {check.id: check.verdict for check in appraisal.checks}


def detail(appraisal: AkAppraisal, id_: str) -> str:
    return next(check.detail for check in appraisal.checks if check.id == id_)


def only(appraisal: AkAppraisal, id_: str, words: str, verdict: str = "fail") -> None:
    """The check `id_` alone did not pass, and says why."""
    assert {k: v for k, v in verdicts(appraisal).items() if v != "pass"} == {id_: verdict}
    assert words in detail(appraisal, id_)
    assert (appraisal.verified is None) == (verdict == "fail")


def no_chain(appraisal: AkAppraisal, words: str = "") -> None:
    found = verdicts(appraisal)
    assert {id_ for id_, verdict in found.items() if verdict == "fail"} == {"ak.chain"}
    assert found["ak.revocation"] == "not-checked"
    assert words in detail(appraisal, "ak.chain")
    assert appraisal.verified is None


def test_a_good_chain_passes_and_names_its_anchor() -> None:
    chain = Chain()
    appraisal = chain.appraise()
    assert set(verdicts(appraisal).values()) == {"pass"}
    verified = appraisal.verified
    assert verified is not None
    assert verified.kind == verified.anchor_kind == "simulated"
    assert verified.subject == "CN=attestation key"
    assert verified.anchor_subject == "CN=chain root"
    assert verified.anchor_fingerprint.value == chain.root.certificate.fingerprint(hashes.SHA256())
    assert verified.counter_name == COUNTER_NAME


@pytest.mark.parametrize(
    ("kinds", "changes"),
    [
        (("p384", "p384", "p521"), {}),
        (("rsa2048", "rsa2048", "rsa3072"), {}),
        (("rsa2048", "rsa2048", "rsa3072"), {"pss": True}),
        (("p256", "p521", "p384"), {"hash": hashes.SHA512()}),
        (("p256", "p256", "p384"), {"hash": hashes.SHA384()}),
    ],
)
def test_strong_algorithms_pass(kinds: tuple[str, str, str], changes: dict[str, object]) -> None:
    appraisal = Chain(leaf=changes, ca=changes, kinds=kinds).appraise()
    assert set(verdicts(appraisal).values()) == {"pass"}


def test_an_empty_subject_passes() -> None:
    assert set(verdicts(Chain(leaf={"subject": ""}).appraise()).values()) == {"pass"}


def test_a_leaf_without_basic_constraints_passes() -> None:
    assert set(verdicts(Chain(leaf={"ca": None}).appraise()).values()) == {"pass"}


def test_an_anchor_in_the_middle_is_enough() -> None:
    chain = Chain()
    appraisal = chain.appraise(pki.store(chain.ca, *chain.crls))
    assert set(verdicts(appraisal).values()) == {"pass"}
    assert appraisal.verified is not None
    assert appraisal.verified.anchor_subject == "CN=chain CA"


def test_three_intermediates_pass_and_four_do_not() -> None:
    issuers = [pki.root("deep root")]
    for depth in range(4):
        issuers.append(pki.authority(issuers[-1], f"deep {depth}"))
    key = pki.key("deep AK").public_key()
    for count, verdict in ((3, "pass"), (4, "fail")):
        issuer = issuers[count]
        leaf = pki.sign(pki.ak_spec(key, COUNTER_NAME), issuer, issuer.key)
        carried = (pki.der(leaf), *(item.der for item in issuers[1 : count + 1]))
        trust = pki.store(issuers[0], *map(pki.crl, issuers))
        appraisal = verify_ak_certificate(carried, der_spki(key), trust, NOW)
        assert verdicts(appraisal)["ak.chain"] == verdict


def test_a_certificate_that_the_library_only_warns_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        country = x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "Atlantis", _validate=False)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([country]))
        .issuer_name(x509.Name([]))
        .public_key(pki.key("country").public_key())
        .serial_number(1)
        .not_valid_before(NOW - YEAR)
        .not_valid_after(NOW + YEAR)
        .sign(pki.key("country"), hashes.SHA256())
    )
    der = pki.der(made)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(MalformedError) as caught:
            parse_certificate(der)
    assert (caught.value.code, warned) == ("x509.certificate", [])


def test_a_certificate_for_another_key() -> None:
    chain = Chain()
    other = der_spki(pki.key("another AK").public_key())
    only(
        verify_ak_certificate(chain.carried, other, chain.trust, NOW),
        "ak.certificate",
        "another key",
    )


@pytest.mark.parametrize(
    "carried",
    [(), (b"",), (b"\x30\x00",), (b"x",) * 9],
    ids=["none", "empty", "short", "nine"],
)
def test_certificates_that_cannot_be_read(carried: tuple[bytes, ...]) -> None:
    chain = Chain()
    appraisal = verify_ak_certificate(carried, der_spki(chain.key), chain.trust, NOW)
    found = {check.id: check.verdict for check in appraisal.checks}
    assert set(found) == set(CHECKS)
    assert found.pop("ak.certificate") == "fail"
    assert set(found.values()) == {"not-checked"}
    assert appraisal.verified is None


def test_an_unknown_authority() -> None:
    no_chain(Chain().appraise(pki.store(pki.root("another root"))))


def test_an_authority_with_the_anchors_name_alone() -> None:
    impostor = pki.authority(pki.root("someone"), "chain root")
    no_chain(Chain().appraise(pki.store(impostor)))


def test_an_empty_store() -> None:
    no_chain(Chain().appraise(TrustStore()), "no anchor")


@pytest.mark.parametrize("kind", ["sgx", "tdx", "snp", "nitro"])
def test_an_anchor_of_a_kind_without_attestation_keys(kind: str) -> None:
    no_chain(Chain().appraise(kind=kind), "no anchor of a kind")


def test_a_root_that_the_card_carries_is_no_anchor() -> None:
    chain = Chain()
    carried = (*chain.carried, chain.root.der)
    trust = pki.store(pki.root("another root"))
    no_chain(verify_ak_certificate(carried, der_spki(chain.key), trust, NOW))


def test_the_attestation_keys_own_certificate_is_no_anchor() -> None:
    chain = Chain()
    trust = TrustStore((Anchor("tpm", chain.leaf),), chain.crls)
    no_chain(chain.appraise(trust), "no anchor")


def test_a_missing_intermediate() -> None:
    chain = Chain()
    no_chain(verify_ak_certificate(chain.carried[:1], der_spki(chain.key), chain.trust, NOW))


@pytest.mark.parametrize(
    "make",
    [
        recipe(ca={"ca": False, "path_length": None}),
        recipe(ca={"ca": None}),
        recipe(ca={"usage": frozenset({"crl_sign"})}),
        recipe(ca={"usage": None}),
        recipe(root={"ca": False}),
        recipe(root={"usage": frozenset({"crl_sign"})}),
        recipe(root={"path_length": 0}),
        recipe(leaf={"ca": True}),
        recipe(leaf={"usage": None}),
        recipe(leaf={"usage": frozenset({"key_agreement"})}),
        recipe(leaf={"usage": frozenset({"digital_signature", "key_cert_sign"}), "ca": True}),
        recipe(leaf={"usage": frozenset({"digital_signature", "crl_sign"})}),
        recipe(ca={"extras": ((UNKNOWN, True),)}),
        recipe(root={"extras": ((UNKNOWN, True),)}),
    ],
    ids=[
        "intermediate is no CA",
        "intermediate without basic constraints",
        "intermediate may not sign certificates",
        "intermediate without key usage",
        "root is no CA",
        "root may not sign certificates",
        "path length of the root",
        "leaf is a CA",
        "leaf without key usage",
        "leaf may not sign",
        "leaf may sign certificates",
        "leaf may sign lists",
        "unknown critical extension of the intermediate",
        "unknown critical extension of the root",
    ],
)
def test_a_chain_that_breaks_one_rule(make: Recipe) -> None:
    appraisal = make().appraise()
    assert verdicts(appraisal)["ak.chain"] == "fail"
    assert appraisal.verified is None


def test_an_unknown_critical_extension_of_the_leaf() -> None:
    value = Chain().leaf.extensions.get_extension_for_oid(ObjectIdentifier(AK_EXTENSION_OID)).value
    no_chain(Chain(leaf={"extras": ((value, False), (UNKNOWN, True))}).appraise(), "critical")


def test_an_unknown_uncritical_extension_is_ignored() -> None:
    chain = Chain(ca={"extras": ((UNKNOWN, False),)})
    assert set(verdicts(chain.appraise()).values()) == {"pass"}


def test_a_ca_with_name_constraints_is_refused() -> None:
    constraints = x509.NameConstraints([x509.DNSName("example.org")], None)
    no_chain(Chain(ca={"extras": ((constraints, True),)}).appraise())


def test_the_path_length_of_an_intermediate() -> None:
    chain = Chain()
    below = pki.authority(chain.ca, "below")
    leaf = pki.sign(pki.ak_spec(chain.key, COUNTER_NAME), below, below.key)
    carried = (pki.der(leaf), below.der, chain.ca.der)
    no_chain(verify_ak_certificate(carried, der_spki(chain.key), chain.trust, NOW), "path length")


def test_an_attestation_key_cannot_certify_another() -> None:
    chain = Chain()
    key = pki.key("child of an AK")
    issuer = pki.Authority(pki.key("chain AK"), chain.leaf)
    leaf = pki.sign(pki.ak_spec(key.public_key(), COUNTER_NAME), issuer, issuer.key)
    carried = (pki.der(leaf), *chain.carried)
    no_chain(verify_ak_certificate(carried, der_spki(key.public_key()), chain.trust, NOW))


def test_a_signature_with_unused_bits_is_malformed() -> None:
    chain = Chain()
    for made in (chain.leaf, pki.crl(chain.ca)):
        der = bytearray(made.public_bytes(Encoding.DER))
        place = der.rindex(b"\x00" + made.signature)
        parse = parse_certificate if made is chain.leaf else parse_crl
        der[place], der[-1] = 1, der[-1] & 0xFE
        with pytest.raises(MalformedError):
            parse(bytes(der))


@given(bit=st.integers(min_value=0))
@settings(deadline=None)
def test_any_flipped_bit_of_the_leaf_is_rejected(bit: int) -> None:
    chain = Chain()
    der = bytearray(chain.carried[0])
    der[bit // 8 % len(der)] ^= 1 << bit % 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        appraisal = verify_ak_certificate(
            (bytes(der), chain.ca.der), der_spki(chain.key), chain.trust, NOW
        )
    assert appraisal.verified is None


@pytest.mark.parametrize(
    ("make", "at"),
    [
        (recipe(leaf={"not_after": NOW - DAY}), NOW),
        (recipe(leaf={"not_before": NOW + DAY}), NOW),
        (recipe(ca={"not_after": NOW - DAY}), NOW),
        (recipe(root={"not_after": NOW - DAY}), NOW),
        (recipe(), NOW + 2 * YEAR),
        (recipe(), NOW - 2 * YEAR),
    ],
    ids=["leaf", "leaf not yet", "intermediate", "root", "later", "earlier"],
)
def test_a_chain_outside_its_validity(make: Recipe, at: dt.datetime) -> None:
    chain = make()
    trust = pki.store(
        chain.root,
        *(pki.crl(ca, pki.CrlSpec(expires=at + 9 * YEAR)) for ca in (chain.root, chain.ca)),
    )
    only(chain.appraise(trust, at), "ak.validity", "is valid from")


def test_a_chain_that_never_held_as_a_whole() -> None:
    chain = Chain(
        leaf={"not_before": NOW - 2 * DAY, "not_after": NOW - DAY}, ca={"not_before": NOW}
    )
    no_chain(chain.appraise())


def test_validity_at_its_very_ends() -> None:
    chain = Chain(leaf={"not_after": NOW})
    assert verdicts(chain.appraise())["ak.validity"] == "pass"
    only(chain.appraise(at=NOW + dt.timedelta(seconds=1)), "ak.validity", "is valid from")


def test_a_time_in_another_zone_is_the_same_time() -> None:
    at = NOW.astimezone(dt.timezone(dt.timedelta(hours=9)))
    assert set(verdicts(Chain().appraise(at=at)).values()) == {"pass"}


def test_a_time_without_a_zone_is_misuse() -> None:
    with pytest.raises(UsageError, match="time zone"):
        Chain().appraise(at=NOW.replace(tzinfo=None))


@pytest.mark.parametrize("eku", [(), (pki.EK_EKU,), ("1.3.6.1.5.5.7.3.2",), ("2.5.29.37.0",)])
def test_a_certificate_for_another_purpose(eku: tuple[str, ...]) -> None:
    only(Chain(leaf={"eku": eku}).appraise(), "ak.eku", "extended key usage")


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (("rsa1024", "p256", "p384"), "an RSA key of 1024 bits"),
        (("rsa2048e3", "p256", "p384"), "an RSA key with the exponent 0x3"),
        (("k256", "p256", "p384"), "a key on secp256k1"),
        (("ed25519", "p256", "p384"), "neither RSA nor ECDSA"),
    ],
)
def test_a_weak_attestation_key(kinds: tuple[str, str, str], words: str) -> None:
    only(Chain(kinds=kinds).appraise(), "ak.algorithm", words)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (("p256", "rsa1024", "p384"), "too weak"),
        (("p256", "p256", "rsa1024"), "too weak"),
        (("p256", "k256", "p384"), "Forbidden public key algorithm"),
        (("p256", "ed25519", "p384"), "Forbidden public key algorithm"),
        (("p256", "p256", "ed25519"), "Forbidden public key algorithm"),
    ],
)
def test_a_weak_authority(kinds: tuple[str, str, str], words: str) -> None:
    chain = Chain(kinds=kinds)
    no_chain(chain.appraise(), words)
    assert chain_weakness((chain.leaf, chain.ca.certificate, chain.root.certificate))


def openssl(certificate: x509.Certificate) -> crypto.X509:
    return crypto.X509.from_cryptography(certificate)


def with_sha1(certificate: x509.Certificate, key: pki.PrivateKey) -> x509.Certificate:
    """Sign a certificate again with SHA-1, which cryptography itself refuses to do."""
    copy = openssl(certificate)
    with pytest.warns(DeprecationWarning, match="sign is deprecated"):
        copy.sign(crypto.PKey.from_cryptography_key(key), "sha1")
    return copy.to_cryptography()


def test_a_leaf_signed_with_sha1() -> None:
    chain = Chain()
    chain.leaf = with_sha1(chain.leaf, chain.ca.key)
    assert chain.leaf.signature_hash_algorithm is not None
    assert chain.leaf.signature_hash_algorithm.name == "sha1"
    no_chain(chain.appraise(), "Forbidden signature algorithm")
    path = (chain.leaf, chain.ca.certificate, chain.root.certificate)
    assert "1.2.840.10045.4.1" in chain_weakness(path)


def test_an_anchor_signed_with_sha1_is_pinned_all_the_same() -> None:
    chain = Chain()
    old = with_sha1(chain.root.certificate, chain.root.key)
    trust = TrustStore((Anchor("simulated", old),), chain.crls)
    assert set(verdicts(chain.appraise(trust)).values()) == {"pass"}


def test_the_hashes_that_will_do() -> None:
    assert hash_weakness(hashes.SHA256()) == ""
    assert hash_weakness(hashes.SHA224()) == "sha224"
    assert hash_weakness(None) == "no hash"


def test_a_certificate_that_names_no_counter() -> None:
    only(Chain(leaf={"extras": ()}).appraise(), "ak.extension", "names no run counter")


def test_a_certificate_whose_extension_is_malformed() -> None:
    bad = x509.UnrecognizedExtension(ObjectIdentifier(AK_EXTENSION_OID), b"\x05\x00")
    only(Chain(leaf={"extras": ((bad, False),)}).appraise(), "ak.extension", "malformed")


def stating(kind: str) -> dict[str, object]:
    key = pki.key("chain AK", "p256").public_key()
    return {"extras": pki.ak_spec(key, COUNTER_NAME, kind).extras}


@pytest.mark.parametrize(
    ("anchor", "stated", "kind"),
    [
        ("simulated", "simulated", "simulated"),
        ("simulated", "tpm", "simulated"),
        ("simulated", "snp", "simulated"),
        ("tpm", "tpm", "tpm"),
        ("tpm", "simulated", "simulated"),
        ("tpm", "cloud-vtpm", "cloud-vtpm"),
        ("cloud-vtpm", "tpm", "cloud-vtpm"),
        ("cloud-vtpm", "simulated", "simulated"),
    ],
)
def test_a_kind_is_only_ever_lowered(anchor: str, stated: str, kind: str) -> None:
    appraisal = Chain(leaf=stating(stated)).appraise(kind=anchor)
    assert appraisal.verified is not None
    assert appraisal.verified.kind == kind
    assert appraisal.verified.anchor_kind == anchor


def test_a_kind_that_does_not_fit_the_anchors() -> None:
    only(Chain(leaf=stating("snp")).appraise(kind="tpm"), "ak.extension", "snp")


def test_kinds_outside_the_order_fit_themselves_alone() -> None:
    assert lowered("snp", "snp") == "snp"
    assert lowered("snp", "tpm") is None


def test_an_authority_pinned_twice_counts_as_the_lower_kind() -> None:
    chain = Chain(leaf=stating("tpm"))
    again = pki.root("chain root", "p384")
    anchors = (Anchor("tpm", chain.root.certificate), Anchor("simulated", again.certificate))
    appraisal = chain.appraise(TrustStore(anchors, chain.crls))
    assert appraisal.verified is not None
    assert appraisal.verified.kind == "simulated"


@pytest.mark.parametrize("changes", [{"not_after": NOW - DAY}, {"path_length": 0}])
def test_a_key_pinned_twice_counts_as_the_lower_kind(changes: dict[str, object]) -> None:
    chain = Chain(leaf=stating("tpm"))
    other = pki.root("chain root", "p384", **changes)
    anchors = (Anchor("tpm", chain.root.certificate), Anchor("simulated", other.certificate))
    appraisal = chain.appraise(TrustStore(anchors, chain.crls))
    assert appraisal.verified is not None
    assert (appraisal.verified.kind, appraisal.verified.anchor_kind) == ("simulated", "simulated")
    assert appraisal.verified.anchor_fingerprint == anchors[0].fingerprint


@pytest.mark.parametrize("eku", [(pki.EK_EKU,), ("1.3.6.1.5.5.7.3.1",)])
def test_an_authority_for_other_purposes(eku: tuple[str, ...]) -> None:
    for chain in (Chain(ca={"eku": eku}), Chain(root={"eku": eku})):
        no_chain(chain.appraise(), "an issuer for other purposes")


@pytest.mark.parametrize("eku", [(pki.EK_EKU, pki.AK_EKU), ("2.5.29.37.0",)])
def test_an_authority_whose_purposes_include_attestation_keys(eku: tuple[str, ...]) -> None:
    assert set(verdicts(Chain(ca={"eku": eku}).appraise()).values()) == {"pass"}


Crls = Callable[[Chain], tuple[x509.CertificateRevocationList, ...]]


def with_crls(chain: Chain, *crls: x509.CertificateRevocationList) -> AkAppraisal:
    return chain.appraise(pki.store(chain.root, *crls))


def revoking(
    chain: Chain,
    reason: x509.ReasonFlags | None = None,
    date: dt.datetime = NOW - DAY,
    issued: dt.datetime = NOW - DAY,
) -> x509.CertificateRevocationList:
    entry = pki.Revoked(chain.leaf.serial_number, date, reason)
    return pki.crl(chain.ca, pki.CrlSpec(issued=issued, revoked=(entry,)))


COMPROMISE = [None, x509.ReasonFlags.key_compromise, x509.ReasonFlags.ca_compromise]
DATED = [
    x509.ReasonFlags.superseded,
    x509.ReasonFlags.certificate_hold,
    x509.ReasonFlags.cessation_of_operation,
    x509.ReasonFlags.affiliation_changed,
    x509.ReasonFlags.privilege_withdrawn,
]


@pytest.mark.parametrize("reason", [*COMPROMISE, *DATED])
def test_a_revoked_leaf(reason: x509.ReasonFlags | None) -> None:
    chain = Chain()
    appraisal = with_crls(chain, pki.crl(chain.root), revoking(chain, reason))
    only(appraisal, "ak.revocation", "was revoked on")


@pytest.mark.parametrize("reason", COMPROMISE)
def test_a_compromise_counts_before_its_date(reason: x509.ReasonFlags | None) -> None:
    chain = Chain()
    late = revoking(chain, reason, date=NOW + DAY, issued=NOW + DAY)
    only(with_crls(chain, pki.crl(chain.root), late), "ak.revocation", "was revoked on")


@pytest.mark.parametrize("reason", DATED)
def test_another_reason_counts_from_its_date(reason: x509.ReasonFlags) -> None:
    chain = Chain()
    late = revoking(chain, reason, date=NOW + DAY, issued=NOW + DAY)
    assert verdicts(with_crls(chain, pki.crl(chain.root), late))["ak.revocation"] == "pass"
    now = revoking(chain, reason, date=NOW)
    only(with_crls(chain, pki.crl(chain.root), now), "ak.revocation", "was revoked on")


def test_a_revoked_intermediate() -> None:
    chain = Chain()
    entry = pki.Revoked(chain.ca.certificate.serial_number)
    root_crl = pki.crl(chain.root, pki.CrlSpec(revoked=(entry,)))
    only(with_crls(chain, root_crl, pki.crl(chain.ca)), "ak.revocation", "chain CA")


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (x509.CRLReason.oid, b"\x05\x00"),
        (x509.CertificateIssuer.oid, b"\x30\x02\xa3\x00"),  # an X.400 address
    ],
)
def test_a_revocation_whose_reason_cannot_be_read_counts_at_every_time(
    oid: x509.ObjectIdentifier, value: bytes
) -> None:
    chain = Chain()
    bad = x509.UnrecognizedExtension(oid, value)
    entry = pki.Revoked(chain.leaf.serial_number, NOW + DAY, extras=((bad, False),))
    late = pki.crl(chain.ca, pki.CrlSpec(revoked=(entry,)))
    only(with_crls(chain, pki.crl(chain.root), late), "ak.revocation", "not stated")


def test_the_newest_list_decides() -> None:
    chain = Chain()
    old = revoking(chain, x509.ReasonFlags.certificate_hold, issued=NOW - 3 * DAY)
    new = pki.crl(chain.ca, pki.CrlSpec(issued=NOW - DAY))
    for crls in ((old, new), (new, old)):
        appraisal = with_crls(chain, pki.crl(chain.root), *crls)
        assert verdicts(appraisal)["ak.revocation"] == "pass"
    new, old = revoking(chain), pki.crl(chain.ca, pki.CrlSpec(issued=NOW - 3 * DAY))
    for crls in ((old, new), (new, old)):
        only(with_crls(chain, pki.crl(chain.root), *crls), "ak.revocation", "was revoked")


def test_of_two_lists_of_one_moment_the_higher_number_decides() -> None:
    chain = Chain()
    entry = pki.Revoked(chain.leaf.serial_number)
    first = pki.crl(chain.ca, pki.CrlSpec(number=None))
    second = pki.crl(chain.ca, pki.CrlSpec(number=2, revoked=(entry,)))
    appraisal = with_crls(chain, pki.crl(chain.root), first, second)
    only(appraisal, "ak.revocation", "was revoked")


def test_a_list_from_after_the_certificates_end_cannot_clear_it() -> None:
    chain = Chain(leaf={"not_after": NOW + DAY})
    after = pki.CrlSpec(issued=NOW + 2 * DAY, expires=NOW + 9 * DAY)
    root_crl = pki.crl(chain.root)
    appraisal = with_crls(chain, root_crl, pki.crl(chain.ca, after))
    only(appraisal, "ak.revocation", "no revocation list that covers", "not-checked")
    appraisal = with_crls(chain, root_crl, pki.crl(chain.ca, after), pki.crl(chain.ca))
    assert verdicts(appraisal)["ak.revocation"] == "pass"
    condemning = after._replace(revoked=(pki.Revoked(chain.leaf.serial_number),))
    appraisal = with_crls(chain, root_crl, pki.crl(chain.ca, condemning), pki.crl(chain.ca))
    only(appraisal, "ak.revocation", "was revoked")


def test_an_expired_list() -> None:
    chain = Chain()
    stale = pki.crl(chain.ca, pki.CrlSpec(issued=NOW - 9 * DAY, expires=NOW - DAY))
    appraisal = with_crls(chain, pki.crl(chain.root), stale)
    only(appraisal, "ak.revocation", "expired", "not-checked")


def test_an_expired_list_still_condemns() -> None:
    chain = Chain()
    entry = pki.Revoked(chain.leaf.serial_number, NOW - 10 * DAY)
    spec = pki.CrlSpec(issued=NOW - 9 * DAY, expires=NOW - DAY, revoked=(entry,))
    appraisal = with_crls(chain, pki.crl(chain.root), pki.crl(chain.ca, spec))
    only(appraisal, "ak.revocation", "was revoked")


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_list(missing: int) -> None:
    chain = Chain()
    kept = chain.crls[1 - missing]
    only(with_crls(chain, kept), "ak.revocation", "no revocation list", "not-checked")


def test_a_missing_list_does_not_hide_a_revocation() -> None:
    chain = Chain()
    only(with_crls(chain, revoking(chain)), "ak.revocation", "was revoked")


def unusable(spec: pki.CrlSpec, key: pki.PrivateKey | None = None) -> None:
    chain = Chain()
    entry = pki.Revoked(chain.leaf.serial_number)
    bad = pki.crl(chain.ca, spec._replace(revoked=(entry,)), key)
    appraisal = with_crls(chain, pki.crl(chain.root), bad)
    only(appraisal, "ak.revocation", "no revocation list", "not-checked")


def test_a_list_that_another_key_signed() -> None:
    key = pki.key("someone")
    unusable(pki.CrlSpec(key_id_of=pki.key("chain CA")), key)


def test_a_list_in_another_authoritys_name() -> None:
    unusable(pki.CrlSpec(issuer="somebody else"))


def test_a_list_with_a_weak_hash() -> None:
    unusable(pki.CrlSpec(hash=hashes.SHA224()))


def test_a_list_is_good_until_its_very_end() -> None:
    chain = Chain()
    last = pki.crl(chain.ca, pki.CrlSpec(expires=NOW))
    assert verdicts(with_crls(chain, pki.crl(chain.root), last))["ak.revocation"] == "pass"


MISFITS = [
    ({}, "someone"),
    ({"usage": frozenset({"key_cert_sign"})}, "chain CA"),
]


@pytest.mark.parametrize(("ca", "named"), MISFITS)
def test_a_list_that_the_authoritys_certificate_does_not_fit_condemns_and_does_not_clear(
    ca: dict[str, object], named: str
) -> None:
    chain = Chain(ca=ca)
    spec = pki.CrlSpec(key_id_of=pki.key(named))
    appraisal = with_crls(chain, pki.crl(chain.root), pki.crl(chain.ca, spec))
    only(appraisal, "ak.revocation", "no revocation list", "not-checked")
    entry = pki.Revoked(chain.leaf.serial_number)
    condemning = pki.crl(chain.ca, spec._replace(revoked=(entry,)))
    appraisal = with_crls(chain, pki.crl(chain.root), condemning)
    only(appraisal, "ak.revocation", "was revoked")


def _distribution_point(*, indirect: bool = False) -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=None,
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=not indirect,
        only_some_reasons=None,
        indirect_crl=indirect,
        only_contains_attribute_certs=False,
    )


PARTIAL: list[pki.Extra] = [
    (UNKNOWN, True),
    (x509.DeltaCRLIndicator(1), False),
    (x509.DeltaCRLIndicator(1), True),
    (_distribution_point(), False),
    (_distribution_point(indirect=True), True),
]


@pytest.mark.parametrize("extra", PARTIAL)
def test_a_partial_list_does_not_clear(extra: pki.Extra) -> None:
    chain = Chain()
    partial = pki.crl(chain.ca, pki.CrlSpec(extras=(extra,)))
    appraisal = with_crls(chain, pki.crl(chain.root), partial)
    only(appraisal, "ak.revocation", "no revocation list", "not-checked")


@pytest.mark.parametrize("extra", PARTIAL)
def test_a_partial_list_condemns(extra: pki.Extra) -> None:
    chain = Chain()
    whole = pki.crl(chain.ca, pki.CrlSpec(issued=NOW - 9 * DAY))
    entry = pki.Revoked(chain.leaf.serial_number)
    partial = pki.crl(chain.ca, pki.CrlSpec(revoked=(entry,), extras=(extra,)))
    appraisal = with_crls(chain, pki.crl(chain.root), whole, partial)
    only(appraisal, "ak.revocation", "was revoked on")


def test_of_two_entries_for_one_certificate_the_worse_counts() -> None:
    chain = Chain()
    serial, later = chain.leaf.serial_number, x509.ReasonFlags.superseded
    mild = pki.Revoked(serial, NOW + DAY, later)
    severe = pki.Revoked(serial, NOW - DAY, x509.ReasonFlags.key_compromise)
    for entries in ((mild, severe), (severe, mild)):
        twice = pki.crl(chain.ca, pki.CrlSpec(revoked=entries))
        appraisal = with_crls(chain, pki.crl(chain.root), twice)
        only(appraisal, "ak.revocation", "was revoked on")


def test_a_list_by_an_authority_that_may_not_sign_lists() -> None:
    chain = Chain(ca={"usage": frozenset({"key_cert_sign"})})
    only(chain.appraise(), "ak.revocation", "no revocation list", "not-checked")


def test_a_list_by_an_anchor_without_key_identifiers_or_usage() -> None:
    chain = Chain()
    plain = (
        x509.CertificateBuilder()
        .subject_name(pki.name("chain root"))
        .issuer_name(pki.name("chain root"))
        .public_key(chain.root.key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - YEAR)
        .not_valid_after(NOW + YEAR)
        .sign(chain.root.key, hashes.SHA256())
    )
    found = crl.check_revocation("ak.revocation", (chain.ca.certificate, plain), chain.crls, NOW)
    assert found.verdict == "not-checked"
    assert crl._names_key_of(plain, chain.crls[0])


def test_a_list_without_an_end() -> None:
    chain = Chain()
    endless = openssl_crl_without_next_update(chain)
    appraisal = with_crls(chain, pki.crl(chain.root), endless)
    only(appraisal, "ak.revocation", "does not say when it expires", "not-checked")


def openssl_crl_without_next_update(chain: Chain) -> x509.CertificateRevocationList:
    """Cut nextUpdate out of a list's DER and sign it again."""
    made = pki.crl(chain.ca, pki.CrlSpec(expires=dt.datetime(2026, 12, 24, tzinfo=dt.UTC)))
    time = b"\x17\x0d" + b"261224000000Z"
    body = made.tbs_certlist_bytes
    assert body.count(time) == 1
    content = body[_header(body) :].replace(time, b"")
    body = _tlv(0x30, content)
    key = chain.ca.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(body, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    return parse_crl(_tlv(0x30, body + algorithm + _tlv(3, b"\x00" + signature)))


def _header(data: bytes) -> int:
    return 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_malformed_certificates_and_lists(data: bytes) -> None:
    for parse in (parse_certificate, parse_crl):
        with pytest.raises(MalformedError):
            parse(data)


@settings(deadline=None)
@given(position=st.integers(min_value=0), value=st.integers(0, 255))
def test_changed_certificates_and_lists_raise_only_malformed(position: int, value: int) -> None:
    chain = Chain()
    ders = (pki.der(chain.leaf), chain.crls[1].public_bytes(Encoding.DER))
    for parse, der in zip((parse_certificate, parse_crl), ders, strict=True):
        changed = bytearray(der)
        changed[position % len(changed)] = value
        try:
            parse(bytes(changed))
        except MalformedError:
            continue


def accepted_by_openssl(chain: Chain, at: dt.datetime = NOW) -> bool:
    """Judge the same chain and lists with OpenSSL, through pyOpenSSL's X509Store."""
    store = crypto.X509Store()
    store.add_cert(openssl(chain.root.certificate))
    for held in chain.crls:
        store.add_crl(held)
    store.set_flags(
        crypto.X509StoreFlags.CRL_CHECK
        | crypto.X509StoreFlags.CRL_CHECK_ALL
        | crypto.X509StoreFlags.X509_STRICT
    )
    store.set_time(at)
    leaf, intermediates = openssl(chain.leaf), [openssl(chain.ca.certificate)]
    try:
        crypto.X509StoreContext(store, leaf, intermediates).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


@pytest.mark.parametrize(
    ("make", "at"),
    [
        (recipe(), NOW),
        (recipe(kinds=("rsa2048", "rsa2048", "rsa3072")), NOW),
        (recipe(leaf={"not_after": NOW - DAY}), NOW),
        (recipe(leaf={"not_before": NOW + DAY}), NOW),
        (recipe(ca={"not_after": NOW - DAY}), NOW),
        (recipe(root={"not_after": NOW - DAY}), NOW),
        (recipe(ca={"ca": False, "path_length": None}), NOW),
        (recipe(root={"path_length": 0}), NOW),
        (recipe(ca={"usage": frozenset({"crl_sign"})}), NOW),
        (recipe(ca={"extras": ((UNKNOWN, True),)}), NOW),
        (recipe(ca={"extras": ((UNKNOWN, False),)}), NOW),
        (recipe(), NOW + DAY),
    ],
)
def test_openssl_comes_to_the_same_verdict(make: Recipe, at: dt.datetime) -> None:
    chain = make()
    assert (chain.appraise(at=at).verified is not None) == accepted_by_openssl(chain, at)


def test_the_forges_machine_is_certified_as_a_real_one_is() -> None:
    machine = MACHINE()
    appraisal = verify_ak_certificate(machine.certificates, spki(machine.ak), machine.trust, NOW)
    assert set(verdicts(appraisal).values()) == {"pass"}
