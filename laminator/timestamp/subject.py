"""What a token is asked for: a finished card, or a plan."""

import stat
from pathlib import Path
from typing import NamedTuple

from laminator.appraise.card_time import MAX_TOKENS
from laminator.card import MAX_ENDORSEMENTS, Card, ConceptualMessage, encode_card, timestamp_message
from laminator.digest import Digest, sha256
from laminator.endorsements import TIMESTAMP_MEDIA_TYPE, endorsements_of
from laminator.errors import MalformedError, UsageError, shown
from laminator.run.atomic import File, write_together
from laminator.timestamp.answer import is_same_token
from laminator.timestamp.query import parse_query

PLAN_SUFFIX = ".toml"
RESPONSE_SUFFIX = ".tsr"

_OWNER_WRITES = 0o200


class Subject(NamedTuple):
    """The bytes that an imprint is over, and where they are from; a plan has no `card`."""

    path: Path
    message: bytes
    card: Card | None

    @property
    def kind(self) -> str:
        """``card`` or ``plan``."""
        return "plan" if self.card is None else "card"

    @property
    def id(self) -> Digest:
        """The card's id, or the digest by which claims name the plan."""
        return sha256(self.message) if self.card is None else Digest("sha-256", self.card.id)


def card_subject(path: Path, card: Card) -> Subject:
    """Return what a token for a card is over: claims and evidence."""
    return Subject(path, timestamp_message(card), card)


def plan_subject(path: Path, content: bytes) -> Subject:
    """Return what a token for a plan is over: its plain bytes."""
    return Subject(path, content, None)


def with_token(card: Card, reply: bytes) -> Card:
    """Return the card with one more time-stamp among its endorsements; its id is the same.

    Raises UsageError where it carries this token already, and for a card with as many time-stamps
    as a verifier looks at, or as many endorsements as it may have.
    """
    present = endorsements_of(card).timestamps
    if any(is_same_token(reply, other) for other in present):
        raise UsageError("timestamp.present", "the card carries this token already")
    if len({*present}) >= MAX_TOKENS:
        detail = f"verifiers look at the first {MAX_TOKENS} time-stamps of a card, and this one "
        raise UsageError("timestamp.full", f"{detail}carries as many: another would count for none")
    if len(card.endorsements) == MAX_ENDORSEMENTS:
        detail = f"the card carries {MAX_ENDORSEMENTS} endorsements already, which is the most"
        raise UsageError("timestamp.full", detail)
    message = ConceptualMessage(TIMESTAMP_MEDIA_TYPE, reply)
    return card._replace(endorsements=(*card.endorsements, message))


def check_place(subject: Subject, out: Path | None) -> Path:
    """Return where the stamped card or the plan's response goes, before anybody is asked for one.

    A card is replaced unless `out` is another file; a response does not replace a file. Raises
    UsageError.
    """
    if subject.card is not None and (out is None or out.resolve() == subject.path.resolve()):
        _check_replaceable(subject.path)
        return subject.path
    place = out or subject.path.with_suffix(RESPONSE_SUFFIX)
    if place.exists() or place.is_symlink():
        detail = f"{shown(str(place))} is there already: name another file with --out"
        raise UsageError("timestamp.exists", detail)
    return place


def check_request_place(out: Path) -> None:
    """Refuse to write a request over anything but an older request. Raises UsageError."""
    if not out.exists() and not out.is_symlink():
        return
    try:
        parse_query(out.read_bytes() if out.is_file() else b"")
    except (OSError, MalformedError) as error:
        detail = f"{shown(str(out))} is there already, and no request: name another file with --out"
        raise UsageError("timestamp.exists", detail) from error


def write_stamped(subject: Subject, reply: bytes, place: Path) -> None:
    """Write the card with its token, or the plan's response; whole, or nothing changes.

    Raises UsageError as `with_token`, MalformedError for a card that grows too large, MachineError
    for a disk that is full or may not be written to.
    """
    if subject.card is None:
        write_together([File(place, reply, 0o644)])
        return
    content = encode_card(with_token(subject.card, reply))
    mode = stat.S_IMODE(subject.path.stat().st_mode)
    write_together([File(place.resolve(), content, mode, exact=True)])


def _check_replaceable(path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UsageError("timestamp.place", f"{shown(str(path))} is no plain file: give --out FILE")
    if not status.st_mode & _OWNER_WRITES:
        detail = f"{shown(str(path))} is read-only: chmod u+w, or give --out FILE"
        raise UsageError("timestamp.place", detail)
