"""Files of the verifier's and the authority's own: anchors and revocation lists, PEM or DER."""

import tempfile

from cryptography.hazmat.primitives.serialization import Encoding

from harnesses.harness import VECTORS, Harness, parsed
from laminator.appraise.trust import load_crls, load_trust, parse_certificate, parse_crl
from laminator.enroll.certificate_files import read_certificates
from laminator.errors import UsageError

WORDS = ("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", "-----BEGIN X509 CRL-----")


def check(data: bytes) -> bool:
    """No block of a file is passed over: as many are read as begin in it, or none."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        store = parsed(lambda _: load_trust(file.name), data, UsageError)
        crls = parsed(lambda _: load_crls(file.name), data, UsageError)
        certificates = parsed(lambda _: read_certificates(file.name), data, UsageError)
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


HARNESS = Harness(check, seeds, words=WORDS)
