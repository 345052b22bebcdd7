"""Verifiable machine-learning property cards.

The verifier's public names, each imported when it is first used, so that the package costs
nothing to import. In a script started by `laminator run`, `from laminator import workload`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laminator.appraise.artifacts import measure_artifact
    from laminator.appraise.check import Caveat, Check, Statement
    from laminator.appraise.ledger import verify_ledger
    from laminator.appraise.ledger_result import LedgerResult
    from laminator.appraise.nonce_rules import IssuedNonce
    from laminator.appraise.policy import Policy, load_policy, parse_policy
    from laminator.appraise.result import AsOf, VerificationResult
    from laminator.appraise.trust import TrustStore, load_crls, load_trust
    from laminator.appraise.verify import verify, verify_all
    from laminator.card import Card, parse_card
    from laminator.digest import Digest, parse_digest
    from laminator.errors import LaminatorError, MachineError, MalformedError, UsageError
    from laminator.reference import ReferenceValues, parse_reference

__all__ = [
    "AsOf",
    "Card",
    "Caveat",
    "Check",
    "Digest",
    "IssuedNonce",
    "LaminatorError",
    "LedgerResult",
    "MachineError",
    "MalformedError",
    "Policy",
    "ReferenceValues",
    "Statement",
    "TrustStore",
    "UsageError",
    "VerificationResult",
    "load_crls",
    "load_policy",
    "load_trust",
    "measure_artifact",
    "parse_card",
    "parse_digest",
    "parse_policy",
    "parse_reference",
    "verify",
    "verify_all",
    "verify_ledger",
]

_MODULES = {
    "laminator.appraise.artifacts": ("measure_artifact",),
    "laminator.appraise.check": ("Caveat", "Check", "Statement"),
    "laminator.appraise.ledger": ("verify_ledger",),
    "laminator.appraise.ledger_result": ("LedgerResult",),
    "laminator.appraise.nonce_rules": ("IssuedNonce",),
    "laminator.appraise.policy": ("Policy", "load_policy", "parse_policy"),
    "laminator.appraise.result": ("AsOf", "VerificationResult"),
    "laminator.appraise.trust": ("TrustStore", "load_crls", "load_trust"),
    "laminator.appraise.verify": ("verify", "verify_all"),
    "laminator.card": ("Card", "parse_card"),
    "laminator.digest": ("Digest", "parse_digest"),
    "laminator.errors": ("LaminatorError", "MachineError", "MalformedError", "UsageError"),
    "laminator.reference": ("ReferenceValues", "parse_reference"),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            import importlib

            value: object = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
