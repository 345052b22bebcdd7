"""The checks that every path of certificates has to pass, whatever it is for."""

import datetime as dt
from typing import NamedTuple

from cryptography import x509

from laminator.appraise.algorithms import chain_weakness
from laminator.appraise.chain import Chain, ChainSearch
from laminator.appraise.check import Check, failed, not_checked, passed
from laminator.appraise.crl import Crls, check_revocation
from laminator.errors import shown


class PathIds(NamedTuple):
    """The ids of the checks of one kind of path."""

    chain: str
    algorithm: str
    validity: str
    revocation: str


def check_path(ids: PathIds, search: ChainSearch, crls: Crls, at: dt.datetime) -> tuple[Check, ...]:
    """Return the checks of the path that was found, or why there is none."""
    chain = search.chain
    if chain is None:
        rest = (not_checked(id_, "there is no chain") for id_ in ids[1:])
        return (failed(ids.chain, f"no chain to a pinned anchor: {search.detail}"), *rest)
    return (
        passed(ids.chain, f"{len(chain.certificates)} certificates, to {chain.anchor.fingerprint}"),
        _check_algorithms(ids.algorithm, chain),
        _check_validity(ids.validity, search, chain, at),
        check_revocation(ids.revocation, chain.certificates, crls, at),
    )


def name_of(certificate: x509.Certificate) -> str:
    """Return the certificate's subject, fit for a sentence."""
    return shown(certificate.subject.rfc4514_string())


def _check_algorithms(id_: str, chain: Chain) -> Check:
    weakness = chain_weakness(chain.certificates)
    if weakness:
        return failed(id_, weakness)
    return passed(id_, "RSA of 2048 bits or ECDSA over P-256 at least, with SHA-2")


def _check_validity(id_: str, search: ChainSearch, chain: Chain, at: dt.datetime) -> Check:
    if search.in_time:
        end = min(item.not_valid_after_utc for item in chain.certificates)
        return passed(id_, f"valid at {at.isoformat()}, until {end.isoformat()}")
    outside = [
        f"{name_of(item)} is valid from {item.not_valid_before_utc} to {item.not_valid_after_utc}"
        for item in chain.certificates
        if not item.not_valid_before_utc <= at <= item.not_valid_after_utc
    ]
    return failed(id_, f"at {at.isoformat()}: {'; '.join(outside)}")
