"""An authority's core: a request of any content is refused, or is the machine's own."""

from functools import cache

import authority_desk

from enclave_sim.adversary import forged_manufacturer as ek_pki
from harnesses.der_mutation import mutate_as_cbor_of_der
from harnesses.harness import Harness, parsed
from laminator.enroll.authority import (
    PendingChallenge,
    accept_response,
    challenge,
    check_ak,
    check_counter,
    check_ek,
    verify_endorsement,
)
from laminator.enroll.exchange import EnrolmentRequest, encode_request, parse_request
from laminator.errors import LaminatorError

WORDS = ("tag:laminator,2026:ak-request-v1", "ek-certificates", "counter")


def check(data: bytes) -> bool:
    """A challenge is posed for the certified EK alone, and no guess answers it."""
    request = parsed(parse_request, data)
    if request is None:
        return False
    pending = parsed(lambda _: _pose(request), data, LaminatorError)
    if pending is None:
        return False
    assert request.ek == _request().ek
    assert pending.ak == request.ak
    guess = parsed(lambda _: accept_response(pending, bytes(32), ek_pki.NOW), data, LaminatorError)
    assert guess is None
    return True


def seeds() -> list[bytes]:
    """Return the request of a machine."""
    return [encode_request(_request())]


def _pose(request: EnrolmentRequest) -> PendingChallenge:
    ak, ek = check_ak(request.ak), check_ek(request.ek)
    counter = check_counter(request.counter)
    trust = ek_pki.manufacturer().trust
    verified = verify_endorsement(ek, request.ek_certificates, trust, ek_pki.NOW)
    _, pending = challenge(ak, verified, counter, ek_pki.NOW)
    return pending


@cache
def _request() -> EnrolmentRequest:
    return authority_desk.machine().request()


HARNESS = Harness(check, seeds, mutate_as_cbor_of_der, WORDS)
