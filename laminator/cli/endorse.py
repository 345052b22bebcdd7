"""`laminator endorse`: say with an auditor's key that a digest is a measurer of properties."""

import argparse
import hashlib
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from laminator.cli.outcome import Outcome, add_json, conclude, write_output
from laminator.cli.passphrase import add_passphrase, read_passphrase
from laminator.digest import Digest, parse_digest
from laminator.endorsement import (
    ENDORSEMENT_TYPE,
    KINDS,
    REFERENCE_TYPE,
    REVOCATIONS_TYPE,
    Endorsement,
    Revocations,
    encode_endorsement,
    encode_revocations,
    parse_endorsement,
    parse_revocations,
)
from laminator.errors import MalformedError, UsageError, shown
from laminator.reading import read_bounded

if TYPE_CHECKING:
    from laminator.cose_signing import PrivateKey

HELP = (
    "Sign what a verifier's policy may rely on: that a digest is a measurer of properties, that "
    "such an endorsement is withdrawn, or a file of reference values. docs/endorsement.md "
    "describes the files. Exit status 1: the file to show is none of these, or its signature is "
    "wrong."
)
_DAY = 86_400
_MAX_KEY = 64 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="keygen|measurer|reference|revoke|show"
    )
    keygen = actions.add_parser("keygen", help="make an encrypted key on P-256")
    measurer = actions.add_parser("measurer", help="endorse a measurer")
    what = measurer.add_mutually_exclusive_group(required=True)
    what.add_argument("--digest", metavar="DIGEST", help="its digest, such as sha-256:…")
    what.add_argument("--file", metavar="FILE", help="the entry script itself")
    measurer.add_argument("--kind", choices=KINDS, default="entry", help="default: entry")
    measurer.add_argument("--measures", metavar="NAME", action="append", required=True)
    measurer.add_argument("--measurer", metavar="TEXT", help="the measurer's name in cards")
    measurer.add_argument("--note", metavar="TEXT")
    reference = actions.add_parser("reference", help="sign a file of reference values")
    reference.add_argument("file", metavar="FILE.ref")
    revoke = actions.add_parser("revoke", help="write the list of endorsements withdrawn")
    revoke.add_argument("--id", metavar="HEX", action="append", default=[], help="what to withdraw")
    revoke.add_argument("--reason", metavar="TEXT", default="")
    revoke.add_argument("--previous", metavar="FILE", help="the list to add to")
    show = actions.add_parser("show", help="show a signed file; checks its signature alone")
    show.add_argument("file", metavar="FILE")
    for action, days in ((measurer, 365), (revoke, 30)):
        action.add_argument("--days", type=int, default=days, help="how long it counts")
    for action in (measurer, reference, revoke):
        action.add_argument("--key", metavar="KEY.pem", required=True)
    for action in (keygen, measurer, reference, revoke):
        action.add_argument("--out", metavar="FILE", required=True)
        add_passphrase(action)
    for action in (keygen, measurer, reference, revoke, show):
        add_json(action)


def run(args: argparse.Namespace) -> int:
    """Do what the action says; return the exit status."""
    works = {
        "keygen": _keygen,
        "measurer": _measurer,
        "reference": _reference,
        "revoke": _revoke,
        "show": _show,
    }
    return conclude(args, f"endorse {args.action}", lambda: works[args.action](args))


def _keygen(args: argparse.Namespace) -> Outcome:
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ec

    from laminator.cose import spki_of
    from laminator.run.atomic import write_atomically

    if Path(args.out).exists():
        raise UsageError("endorse.key", f"{shown(args.out)} exists; name another file")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = forms.BestAvailableEncryption(read_passphrase(args, new=True))
    pem = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, secret)
    write_atomically(Path(args.out), pem, mode=0o600)
    digest = Digest("sha-256", hashlib.sha256(spki_of(key.public_key())).digest())
    return Outcome(
        (f"{args.out}: key = {str(digest)!r} under [[endorser]] in a policy",),
        {"file": args.out, "key": str(digest)},
    )


def _measurer(args: argparse.Namespace) -> Outcome:
    now = int(time.time())
    endorsement = Endorsement(
        id=secrets.token_bytes(16),
        measures=tuple(sorted(set(args.measures))),
        kind=args.kind,
        digest=_digest(args),
        not_before=now,
        not_after=now + _DAY * args.days,
        measurer=args.measurer,
        note=args.note,
    )
    try:
        payload = encode_endorsement(endorsement)
    except MalformedError as error:
        raise UsageError("endorse.content", f"no endorsement: {error.message}") from error
    _sign(args, ENDORSEMENT_TYPE, payload)
    facts = {"file": args.out, "id": endorsement.id.hex(), "digest": str(endorsement.digest)}
    following = f"laminator verify --endorsement {args.out} CARD"
    return Outcome((f"{args.out}: endorsement {facts['id']}",), facts, following)


def _digest(args: argparse.Namespace) -> Digest:
    if args.file is None:
        try:
            return parse_digest(args.digest)
        except MalformedError as error:
            raise UsageError("endorse.digest", f"--digest: {error.message}") from error
    with Path(args.file).open("rb") as file:
        return Digest("sha-256", hashlib.file_digest(file, "sha256").digest())


def _reference(args: argparse.Namespace) -> Outcome:
    from laminator.reference import MAX_REFERENCE, parse_reference

    data = read_bounded(args.file, MAX_REFERENCE)
    parse_reference(data)
    _sign(args, REFERENCE_TYPE, data)
    return Outcome((f"{args.out}: signed",), {"file": args.out})


def _revoke(args: argparse.Namespace) -> Outcome:
    from laminator.cose import parse_sign1, verify_sign1

    reasons: dict[bytes, str] = {}
    if args.previous is not None:
        previous = verify_sign1(parse_sign1(read_bounded(args.previous, 2**21)))
        if previous is None or previous.content_type != REVOCATIONS_TYPE:
            raise UsageError("endorse.previous", "--previous: name a list that revoke wrote")
        reasons.update(parse_revocations(previous.payload).reasons)
    try:
        reasons.update({bytes.fromhex(id_): args.reason for id_ in args.id})
        now = int(time.time())
        payload = encode_revocations(Revocations(now, now + _DAY * args.days, reasons))
    except (ValueError, MalformedError) as error:
        wanted = "--id takes 32 hex digits, as `laminator endorse show` prints them"
        raise UsageError("endorse.id", f"no list: {wanted}") from error
    _sign(args, REVOCATIONS_TYPE, payload)
    return Outcome(
        (f"{args.out}: {len(reasons)} withdrawn",), {"file": args.out, "revoked": len(reasons)}
    )


def _show(args: argparse.Namespace) -> Outcome:
    from laminator.cose import parse_sign1, verify_sign1

    found = verify_sign1(parse_sign1(read_bounded(args.file, 2**28)))
    if found is None:
        raise MalformedError("endorse.signature", "the signature is not its key's; do not use it")
    content = "reference values"
    if found.content_type == ENDORSEMENT_TYPE:
        each = parse_endorsement(found.payload)
        content = (
            f"{each.kind} {each.digest} measures {', '.join(each.measures)}, from "
            f"{each.not_before} to {each.not_after}, id {each.id.hex()}"
        )
    elif found.content_type == REVOCATIONS_TYPE:
        content = ", ".join(id_.hex() for id_ in parse_revocations(found.payload).reasons)
    facts = {"key": str(found.key), "type": found.content_type, "content": content}
    return Outcome((f"signed by {found.key}: {found.content_type}", content), facts)


def _sign(args: argparse.Namespace, content_type: str, payload: bytes) -> None:
    from laminator.cose_signing import sign1

    write_output(args.out, sign1(_key(args), content_type, payload))


def _key(args: argparse.Namespace) -> "PrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = read_bounded(args.key, _MAX_KEY)
    secret = read_passphrase(args) if b"ENCRYPTED" in pem else None
    try:
        key = load_pem_private_key(pem, secret)
    except (ValueError, TypeError) as error:
        message = f"{shown(args.key)}: no PEM key, or another passphrase; make one with keygen"
        raise UsageError("endorse.key", message) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise UsageError("endorse.key", "expected a key on P-256 or P-384, or an Ed25519 key")
    return key
