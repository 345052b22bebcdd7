"""Failure records and ledgers: read back as written, and every number accounted for or named."""

from functools import cache

from enclave_sim.adversary import forged_ledger
from harnesses.harness import Harness, check_json, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.appraise.ledger_result import LedgerResult
from laminator.failure import OUTCOMES, encode_failure, expected_records, parse_failure
from laminator.ledger import Ledger, encode_ledger, parse_entry, parse_ledger

WORDS = ("tag:laminator,2026:ledger-v1", "tag:laminator,2026:run-failure-v1", *OUTCOMES)
MAX_DETAIL = 4000


def check(data: bytes) -> bool:
    """What parses encodes to the same bytes; no entry is accepted but what the machine signed."""
    failure = parsed(parse_failure, data)
    if failure is not None:
        assert encode_failure(failure) == data
        assert len(expected_records(failure.claims, b"counter")) == 3
    ledger = parsed(parse_ledger, data)
    result = forged_ledger.judge(data)
    check_json(result.to_json(), "ledger-result.schema.json")
    assert all(len(check.detail) < MAX_DETAIL for check in result.checks)
    if ledger is None:
        assert not result.accepted
    else:
        assert encode_ledger(*ledger) == data
        _check_accounts(ledger, result)
    return failure is not None or result.accepted


@cache
def seeds() -> list[bytes]:
    """Return a failure record, and ledgers of both kinds of entry."""
    failures = [
        forged_ledger.failure_bytes(forged_ledger.failed_run(number, outcome))
        for number, outcome in enumerate(OUTCOMES, start=1)
    ]
    card = forged_ledger.card_of(5)
    return [
        failures[0],
        forged_ledger.ledger(1, 4, *failures),
        forged_ledger.ledger(4, 5, failures[3], card),
        forged_ledger.ledger(5, 5, card),
    ]


def _check_accounts(ledger: Ledger, result: LedgerResult) -> None:
    numbers = [each.number for each in result.numbers if each.number is not None]
    if result.accepted:
        assert numbers == list(range(ledger.first, ledger.last + 1))
        for entry in map(parse_entry, ledger.entries):
            assert entry.claims_bytes in _signed()
    for account in result.numbers:
        assert account.verdict == "rejected" or account.failures == ()


@cache
def _signed() -> frozenset[bytes]:
    entries = [entry for seed in seeds()[1:] for entry in parse_ledger(seed).entries]
    return frozenset(parse_entry(entry).claims_bytes for entry in entries)


HARNESS = Harness(check, seeds, mutate_as_cbor, WORDS)
