"""Whom a policy lets say that a digest is a measurer of a property: `[[endorser]]`."""

from typing import TYPE_CHECKING, NamedTuple

from laminator.appraise.policy_fields import digest_text
from laminator.cbor import Value
from laminator.digest import Digest
from laminator.errors import MalformedError
from laminator.fields import Fields, array, malformed, name

if TYPE_CHECKING:
    from laminator.appraise.policy import Policy

ENDORSABLE = frozenset({"measured", "reported"})
MAX_ENDORSERS = 100


class Endorser(NamedTuple):
    """An auditor whose endorsements count; `key` is the SHA-256 of its SubjectPublicKeyInfo."""

    name: str
    key: Digest


def take_endorsers(fields: Fields) -> tuple[Endorser, ...]:
    """Take `[[endorser]]` from a policy's fields. Raises MalformedError."""
    endorsers = fields.optional("endorser", array(_endorser, most=MAX_ENDORSERS)) or ()
    for part in Endorser._fields:
        if len({getattr(each, part) for each in endorsers}) != len(endorsers):
            raise MalformedError("policy.endorser", f"one {part} twice", path="policy.endorser")
    return endorsers


def check_endorsed_rules(policy: "Policy") -> None:
    """Refuse `measurer-endorsed` where no card could meet it. Raises MalformedError."""
    for rule in policy.properties:
        if not rule.measurer_endorsed:
            continue
        if not policy.endorsers:
            wanted = "an [[endorser]] whose endorsements count"
            raise malformed(f"{rule.id}.measurer-endorsed", wanted, "none")
        if not ENDORSABLE.issuperset(rule.sources):
            wanted = 'source "measured" or "reported" beside it'
            raise malformed(f"{rule.id}.measurer-endorsed", wanted, rule.sources)


def _endorser(value: Value, path: str) -> Endorser:
    fields = Fields(value, path)
    endorser = Endorser(fields.take("name", name), fields.take("key", _key))
    fields.close()
    return endorser


def _key(value: Value, path: str) -> Digest:
    digest = digest_text(value, path)
    if digest.algorithm != "sha-256":
        raise malformed(path, "the SHA-256 of a key, as `laminator endorse show` prints it", value)
    return digest
