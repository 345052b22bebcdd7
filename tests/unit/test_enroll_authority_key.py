"""The authority's key on disk, and its certificate."""

import base64
import functools
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from enclave_sim.adversary.forged_manufacturer import DAY, NOW
from laminator.enroll.ak_certificate import AuthorityKey
from laminator.enroll.authority_key import (
    KEY_KINDS,
    RootTerms,
    decrypt_key,
    encrypt_key,
    generate_key,
    load_authority,
    make_root,
)
from laminator.errors import MalformedError, UsageError

PASSPHRASE = b"correct horse"
TERMS = RootTerms("An authority", NOW, NOW + 100 * DAY)


@functools.cache
def key_of(kind: str) -> AuthorityKey:
    return generate_key(kind)


@pytest.fixture(scope="module")
def encrypted() -> bytes:
    return encrypt_key(generate_key("p256"), PASSPHRASE)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_key_comes_back(kind: str) -> None:
    key = key_of(kind)
    again = decrypt_key(encrypt_key(key, PASSPHRASE), PASSPHRASE)
    assert again.private_numbers() == key.private_numbers()


def test_an_unknown_kind_is_misuse() -> None:
    with pytest.raises(UsageError) as caught:
        generate_key("rsa1024")
    assert caught.value.code == "authority.key-kind"


def test_openssl_opens_the_key_and_sees_scrypt(encrypted: bytes) -> None:
    command = ["openssl", "pkey", "-noout", "-passin", f"pass:{PASSPHRASE.decode()}"]
    assert subprocess.run(command, input=encrypted, check=False).returncode == 0
    parsed = subprocess.run(
        ["openssl", "asn1parse"], input=encrypted, capture_output=True, check=True
    ).stdout
    assert b"PBES2" in parsed
    assert b"scrypt" in parsed
    # The cost: 2^14 blocks of 1 KiB, five times.
    assert b"INTEGER           :4000" in parsed


def test_the_key_is_nowhere_in_clear() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    pem = encrypt_key(key, PASSPHRASE)
    der = base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))
    assert secret in plain
    assert secret not in der
    assert encrypt_key(key, PASSPHRASE) != pem


@pytest.mark.parametrize("passphrase", [b"", b"wrong", b"correct hors\xff", b"correct horse\n"])
def test_another_passphrase_is_refused(encrypted: bytes, passphrase: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        decrypt_key(encrypted, passphrase)
    assert caught.value.code == "authority.passphrase"


@pytest.mark.parametrize("passphrase", [b"", b"seven77", bytes(1025)])
def test_a_passphrase_has_a_length(passphrase: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        encrypt_key(generate_key("p256"), passphrase)
    assert caught.value.code == "authority.passphrase"


def test_a_key_that_openssl_encrypted_is_read(encrypted: bytes) -> None:
    command = ["openssl", "pkcs8", "-topk8", "-scrypt", "-passout", "pass:another one"]
    command += ["-passin", f"pass:{PASSPHRASE.decode()}"]
    again = subprocess.run(command, input=encrypted, capture_output=True, check=True).stdout
    assert decrypt_key(again, b"another one").key_size == 256


def test_a_key_in_clear_is_malformed() -> None:
    for encryption in (NoEncryption(), BestAvailableEncryption(PASSPHRASE)):
        pem = generate_key("p256").private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption
        )
        with pytest.raises(MalformedError):
            decrypt_key(pem, PASSPHRASE)


def test_a_key_of_another_kind_is_malformed() -> None:
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE)
    )
    with pytest.raises(MalformedError) as caught:
        decrypt_key(pem, PASSPHRASE)
    assert caught.value.code == "authority.key"


def test_a_key_on_a_curve_of_its_own_is_malformed() -> None:
    command = "openssl ecparam -name brainpoolP160r1 -genkey -noout | "
    command += "openssl pkcs8 -topk8 -passout pass:passphrase"
    pem = subprocess.run(command, shell=True, capture_output=True, check=True).stdout  # noqa: S602
    with pytest.raises((MalformedError, UsageError)):
        decrypt_key(pem, b"passphrase")


def test_a_truncated_key_raises_our_errors_alone(encrypted: bytes) -> None:
    lines = encrypted.split(b"\n")
    for data in (b"", b"x", b"\n".join([*lines[:2], *lines[-2:]]), encrypted[:100]):
        with pytest.raises((MalformedError, UsageError)):
            decrypt_key(data, PASSPHRASE)


@pytest.mark.parametrize("kind", ["p384", "rsa3072"])
def test_the_root_issues_keys_and_lists_but_no_authority(kind: str) -> None:
    key = key_of(kind)
    root = make_root(key, TERMS)
    root.verify_directly_issued_by(root)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    assert (root.not_valid_before_utc, root.not_valid_after_utc) == TERMS[1:]
    assert root.signature_hash_algorithm is not None
    expected = "sha384" if isinstance(key, ec.EllipticCurvePrivateKey) else "sha256"
    assert root.signature_hash_algorithm.name == expected
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)


@pytest.mark.parametrize("name", ["", "x" * 65, "with\nlines", "\u202eevil"])
def test_a_name_is_printable_and_short(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_root(generate_key("p256"), TERMS._replace(common_name=name))
    assert caught.value.code == "authority.name"


def test_an_authority_is_loaded_from_its_files(encrypted: bytes) -> None:
    key = decrypt_key(encrypted, PASSPHRASE)
    pem = make_root(key, TERMS).public_bytes(Encoding.PEM)
    authority = load_authority(pem, encrypted, PASSPHRASE)
    assert authority.certificate.public_key() == authority.key.public_key()
    with pytest.raises(MalformedError):
        load_authority(b"no certificate", encrypted, PASSPHRASE)
