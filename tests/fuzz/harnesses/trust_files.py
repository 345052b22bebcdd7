"""Files of the verifier's and the authority's own: anchors and revocation lists, PEM or DER."""

import base64
import re
import tempfile
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.serialization import Encoding

from harnesses.der_mutation import mutate_as_der
from harnesses.harness import VECTORS, Harness, parsed
from harnesses.mutation import Change
from laminator.appraise.trust import load_crls, load_trust, parse_certificate, parse_crl
from laminator.enroll.authority_key import load_authority
from laminator.enroll.certificate_files import read_certificates
from laminator.errors import LaminatorError, UsageError
from laminator.run.attestation import _matching as matching
from laminator.run.local_tpm import load_certificates

WORDS = ("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", "-----BEGIN X509 CRL-----")


_BLOCK = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----\n(.*?)-----END", re.DOTALL)


def check(data: bytes) -> bool:
    """No block of a file is passed over: as many are read as begin in it, or none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "file.pem")
        file.write_bytes(data)
        store = parsed(lambda _: load_trust(str(file)), data, UsageError)
        crls = parsed(lambda _: load_crls(str(file)), data, UsageError)
        certificates = parsed(lambda _: read_certificates(str(file)), data, UsageError)
        own = parsed(lambda _: load_certificates(Path(folder)), data, LaminatorError)
    parsed(lambda given: load_authority(given, b"no key", b"no passphrase"), data, LaminatorError)
    parsed(lambda _: matching(own or (data,), b"no key"), data, LaminatorError)
    blocks = max(data.count(b"-----BEGIN "), 1)
    if store is not None:
        ders = {anchor.certificate.public_bytes(Encoding.DER) for anchor in store.anchors}
        assert len(ders) == len(store.anchors) <= blocks
        assert ders <= set(certificates or ())
        assert [parse_certificate(der).public_bytes(Encoding.DER) for der in ders] == list(ders)
    if crls is not None:
        assert len(crls) == blocks
        assert tuple(parse_crl(crl.public_bytes(Encoding.DER)) for crl in crls) == crls
    return bool(store and store.anchors) or bool(crls)


def seeds() -> list[bytes]:
    """Return files of one and of two anchors, and revocation lists in both forms."""
    pems = [path.read_bytes() for path in sorted(VECTORS.glob("trust/simulated/*.pem"))]
    lists = sorted(VECTORS.glob("trust/crls/*.crl"))
    store = load_trust(str(VECTORS / "trust"))
    forms = [store.crls[0].public_bytes(form) for form in (Encoding.DER, Encoding.PEM)]
    anchor = store.anchors[0].certificate.public_bytes(Encoding.DER)
    return [*pems, b"".join(pems), anchor, lists[0].read_bytes(), *forms]


def mutate(data: bytes, random: Random, change: Change) -> bytes:
    """Change what a block of a PEM file holds, or else the bytes."""
    blocks = list(_BLOCK.finditer(data))
    if not blocks or random.random() < 0.2:
        return change(data) if blocks else mutate_as_der(data, random, change)
    block = random.choice(blocks)
    try:
        der = base64.b64decode(block[1], validate=False)
    except ValueError:
        return change(data)
    body = base64.encodebytes(mutate_as_der(der, random, change))
    return data[: block.start(1)] + body + data[block.end(1) :]


HARNESS = Harness(check, seeds, mutate, WORDS)
