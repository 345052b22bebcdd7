"""What a policy asks of the code that ran: `unknown-code` and `[code]`."""

from typing import NamedTuple

from laminator.appraise.policy_fields import digest_set, distinct
from laminator.cbor import Value
from laminator.claims import CODE_EVENTS, CODE_FILES
from laminator.digest import Digest
from laminator.fields import Fields, choice, malformed

REFUSE, ALLOW, REFUSE_MEASURED = "refuse", "allow", "refuse-measured"
UNKNOWN_CODE = (REFUSE, ALLOW)
"""What a policy file may say; without a word it is REFUSE_MEASURED."""

FILELESS = CODE_EVENTS[len(CODE_FILES) :]

UNMEASURED = "the card does not say which modules ran: its attester did not measure them"


class CodeRules(NamedTuple):
    """What is asked of code; `unknown` of files that nothing approves.

    `unknown` is "refuse" (also a card that does not measure its code), "allow", or
    "refuse-measured" (only of cards that say that they measure it). `allow` and `forbid` are
    digests of files, `forbid_events` are events of code without a file.
    """

    unknown: str = REFUSE_MEASURED
    allow: frozenset[Digest] = frozenset()
    forbid: frozenset[Digest] = frozenset()
    forbid_events: frozenset[str] = frozenset()


def take_code_rules(fields: Fields) -> CodeRules:
    """Take `unknown-code` and `[code]` from a policy's fields. Raises MalformedError."""
    unknown = fields.optional("unknown-code", choice(*UNKNOWN_CODE)) or REFUSE_MEASURED
    rules = fields.optional("code", _lists) or CodeRules()
    return rules._replace(unknown=unknown)


def _lists(value: Value, path: str) -> CodeRules:
    fields = Fields(value, path)
    rules = CodeRules(
        allow=fields.optional("allow", _file_digests) or frozenset(),
        forbid=fields.optional("forbid", _file_digests) or frozenset(),
        forbid_events=frozenset(
            fields.optional("forbid-events", distinct(choice(*FILELESS))) or ()
        ),
    )
    fields.close()
    if both := rules.allow & rules.forbid:
        raise malformed(f"{path}.forbid", "no digest that allow names too", str(min(both)))
    return rules


def _file_digests(value: Value, path: str) -> frozenset[Digest]:
    """Parse digests of files; a log holds no other than SHA-256, so others would never match."""
    digests = digest_set(value, path)
    if others := [digest for digest in digests if digest.algorithm != "sha-256"]:
        raise malformed(path, "digests by sha-256, as a log has them", str(min(others)))
    return digests
