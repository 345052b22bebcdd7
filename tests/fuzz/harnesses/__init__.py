"""Fuzzing harnesses, one a parser: each says what its parser may do with arbitrary bytes."""

import importlib

from harnesses.harness import Harness

NAMES = (
    "authority",
    "bundle",
    "card",
    "cbor",
    "channel",
    "claims",
    "dataset",
    "ek_certificate",
    "endorsement",
    "endorsements",
    "environment",
    "exchange",
    "leaves",
    "ledger",
    "log",
    "nonce",
    "plan",
    "policy",
    "reference",
    "request",
    "scores",
    "setup",
    "signed_x509",
    "timestamp",
    "tpm_evidence",
    "tpm_structures",
    "trust_files",
    "verify",
    "world",
    "x509",
)


def load(name: str) -> Harness:
    """Return the harness called `name`."""
    harness = importlib.import_module(f"harnesses.{name}").HARNESS
    assert isinstance(harness, Harness)
    return harness
