"""A card's claims: integer keys, references between fields, finite numbers."""

from enclave_sim.adversary import forged_claims as samples
from harnesses.harness import Harness, golden_cards, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.card import parse_card
from laminator.claims import Run
from laminator.claims_codec import encode_claims, parse_claims
from laminator.digest import sha256
from laminator.eventlog import encode_log, expected_records, parse_log
from laminator.report.export import value_to_json

WORDS = ("sha-256", "sha-384", "measured", "reported", "declared", "external", "drtm-simulated")


def check(data: bytes) -> bool:
    """What parses encodes to the same bytes, and has a log that can be read back."""
    claims = parsed(parse_claims, data)
    if claims is None:
        return False
    assert encode_claims(claims) == data
    known = {*claims.inputs, *claims.outputs}
    assert all(known.issuperset(item.on) for item in claims.properties)
    log = expected_records(claims, b"counter")
    assert parse_log(encode_log(log)) == log
    assert value_to_json(claims)
    return True


def seeds() -> list[bytes]:
    """Return claims with every optional field, claims with few, and those of real runs."""
    full = samples.claims()
    run = Run(
        b"r" * 16, 7, full.run.launch, sha256(b"plan"), plan_token=sha256(b"token"), seed="nonce"
    )
    least = full._replace(
        nonce=None, cards=None, properties=(), outputs={}, run=run._replace(plan=None, seed=2**53)
    )
    real = [parse_card(card).claims_bytes for card in golden_cards()]
    return [*map(encode_claims, (full, full._replace(run=run), least)), *real]


HARNESS = Harness(check, seeds, mutate_as_cbor, WORDS)
