"""Which endorsements of measurers count for a card: one function a check.

An endorsement that is wrong, foreign or for another measurer counts for nothing, and never makes a
card worse than without it: each check passes where it does for one endorsement, and is
`not-checked`, never failed, where it does for none.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from laminator.appraise.check import PASS, Check, not_checked, passed
from laminator.appraise.policy import Policy
from laminator.claims import Property
from laminator.cose import Sign1, VerifiedSign1, parse_sign1, verify_sign1
from laminator.digest import Digest, sha256
from laminator.endorsement import (
    ENDORSEMENT_TYPE,
    MAX_PAYLOAD,
    REVOCATIONS_TYPE,
    Endorsement,
    Revocations,
    parse_endorsement,
    parse_revocations,
)
from laminator.errors import MalformedError

MAX_MESSAGE = MAX_PAYLOAD + 4096
REVOCATION = "endorsement.revocation"


class Subject(NamedTuple):
    """What an endorsement may be about in one card: proven launch and entry script, at `now`."""

    now: int
    launch: Digest | None
    entry: Digest


class Unverified(NamedTuple):
    """A message and what its payload says, before anybody checked who signed it."""

    message: Sign1
    content: Endorsement | Revocations


class Signed(NamedTuple):
    """What a key that the policy names signed."""

    key: Digest
    content: Endorsement | Revocations


def judge_endorsements(
    messages: Sequence[bytes], policy: Policy, subject: Subject
) -> tuple[tuple[Check, ...], tuple[Endorsement, ...]]:
    """Return the checks of `messages`, and the endorsements of this card that count."""
    read = [_read(data) for data in dict.fromkeys(messages)]
    named = [(check_parse(each), each) for each in read]
    foreign = [(check_endorser(each, policy), each) for each in _unverified(named)]
    signed = [(check_signature(each), each) for each in _unverified(foreign)]
    kept = [message for each in _unverified(signed) if (message := _signed(each)) is not None]
    about, counting = _judge_all(kept, policy, subject)
    stages = [[check for check, _ in stage] for stage in (named, foreign)]
    stages += [[check for check, _ in signed], *about]
    return tuple(check for stage in stages for check in _summary(stage)), counting


def _judge_all(
    signed: Sequence[Signed], policy: Policy, subject: Subject
) -> tuple[list[list[Check]], tuple[Endorsement, ...]]:
    """Return the checks of signed endorsements, by id, and those that count."""
    made: dict[str, list[Check]] = {}
    counting = []
    for key, content in signed:
        if isinstance(content, Revocations):
            continue
        lists = [other.content for other in signed if other.key == key]
        revocations = [each for each in lists if isinstance(each, Revocations)]
        for check in _judge(content, revocations, subject):
            made.setdefault(check.id, []).append(check)
            if not _goes_on(check, policy):
                break
        else:
            counting.append(content)
    return list(made.values()), tuple(counting)


def check_parse(read: Unverified | MalformedError) -> Check:
    """`endorsement.parse`: it is an endorsement, or a list of revocations, in its one encoding."""
    if isinstance(read, MalformedError):
        return not_checked("endorsement.parse", f"counts for nothing: {read.message}")
    return passed("endorsement.parse", "it is the one encoding of its content")


def check_endorser(read: Unverified, policy: Policy) -> Check:
    """`endorsement.endorser`: the policy names the key that it says it is signed with."""
    key = sha256(read.message.spki)
    names = [each.name for each in policy.endorsers if each.key == key]
    if names:
        return passed("endorsement.endorser", f"{names[0]} ({key})")
    detail = f"counts for nothing: the policy names no endorser with the key {key}"
    return not_checked("endorsement.endorser", detail)


def check_signature(read: Unverified) -> Check:
    """`endorsement.signature`: its key signed it (RFC 9052, section 4.4)."""
    if _signed(read) is None:
        detail = "counts for nothing: the signature is not its key's"
        return not_checked("endorsement.signature", detail)
    return passed("endorsement.signature", "its key signed it")


def check_subject(endorsement: Endorsement, subject: Subject) -> Check:
    """`endorsement.subject`: it is about the attester's proven launch, or the entry script."""
    own = subject.launch if endorsement.kind == "launch" else subject.entry
    if endorsement.digest == own:
        return passed("endorsement.subject", f"about this card's {endorsement.kind} {own}")
    detail = f"about {endorsement.kind} {endorsement.digest}, found {own or 'none proven'}"
    return not_checked("endorsement.subject", f"counts for nothing: {detail}")


def check_validity(endorsement: Endorsement, subject: Subject) -> Check:
    """`endorsement.validity`: the time of judging is in its time."""
    first, last = endorsement.not_before, endorsement.not_after
    detail = f"valid from {first} to {last} (seconds since 1970), judged at {subject.now}"
    if first <= subject.now <= last:
        return passed("endorsement.validity", detail)
    return not_checked("endorsement.validity", f"counts for nothing: {detail}")


def check_revocation(
    endorsement: Endorsement, lists: Sequence[Revocations], subject: Subject
) -> Check:
    """`endorsement.revocation`: a current list of its endorser's does not name it, nor any list.

    Without a current list it is `not-checked`, and counts unless the policy requires the check.
    """
    if _reason(endorsement, lists) is not None:
        detail = f"counts for nothing: withdrawn, {_reason(endorsement, lists) or 'no reason'}"
        return not_checked(REVOCATION, detail)
    if any(each.issued <= subject.now <= each.next_update for each in lists):
        return passed(REVOCATION, "its endorser's current list does not name it")
    return not_checked(REVOCATION, _NO_LIST)


_NO_LIST = "no current list of its endorser's revocations was given"


def endorses(endorsement: Endorsement, item: Property) -> bool:
    """Tell whether an endorsement that counts for a card is about the measurer of `item`.

    A measured value is the attester's, a reported one the entry script's.
    """
    kind = {"measured": "launch", "reported": "entry"}.get(item.source)
    return (
        endorsement.kind == kind
        and item.name in endorsement.measures
        and endorsement.measurer in (None, item.measurer)
    )


def _read(data: bytes) -> Unverified | MalformedError:
    try:
        message = parse_sign1(data, max_bytes=MAX_MESSAGE)
        if message.content_type == ENDORSEMENT_TYPE:
            return Unverified(message, parse_endorsement(message.payload))
        if message.content_type == REVOCATIONS_TYPE:
            return Unverified(message, parse_revocations(message.payload))
    except MalformedError as error:
        return error
    return MalformedError("endorsement.type", "neither an endorsement nor a list of revocations")


def _signed(read: Unverified) -> Signed | None:
    try:
        found: VerifiedSign1 | None = verify_sign1(read.message)
    except MalformedError:
        return None
    return None if found is None else Signed(found.key, read.content)


def _judge(
    endorsement: Endorsement, lists: Sequence[Revocations], subject: Subject
) -> Iterator[Check]:
    yield check_subject(endorsement, subject)
    yield check_validity(endorsement, subject)
    yield check_revocation(endorsement, lists, subject)


def _goes_on(check: Check, policy: Policy) -> bool:
    lenient = check.detail == _NO_LIST and REVOCATION not in policy.require
    return check.verdict == PASS or lenient


def _reason(endorsement: Endorsement, lists: Iterable[Revocations]) -> str | None:
    reasons = (each.reasons.get(endorsement.id) for each in lists)
    return next((reason for reason in reasons if reason is not None), None)


def _unverified(
    judged: Iterable[tuple[Check, Unverified | MalformedError]],
) -> list[Unverified]:
    return [
        each for check, each in judged if check.verdict == PASS and isinstance(each, Unverified)
    ]


def _summary(made: Sequence[Check]) -> tuple[Check, ...]:
    """Return the check of one endorsement that passes, else of the first."""
    return tuple(next(([each] for each in made if each.verdict == PASS), made[:1]))
