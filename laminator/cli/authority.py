"""`laminator authority`: certify attestation keys of other machines, without a network."""

import argparse
import datetime as dt
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laminator.cli.outcome import Outcome, add_json, beside, conclude, write_output
from laminator.cli.passphrase import add_passphrase, read_passphrase
from laminator.enroll.certificate_files import read_certificates
from laminator.enroll.places import own_authority
from laminator.errors import UsageError

if TYPE_CHECKING:
    from laminator.enroll.authority_folder import AuthorityFolder
    from laminator.enroll.authority_store import EkIdentity, IssuedCertificate
    from laminator.enroll.ek_certificate import EkTrust

HELP = (
    "Certify attestation keys: an authority that may stay offline, with an encrypted key, a "
    "memory of what it did, and TPM manufacturers that it trusts. Requests and responses come "
    "from `laminator enroll`."
)
_REASONS = (
    "unspecified",
    "key-compromise",
    "privilege-withdrawn",
    "cessation-of-operation",
    "superseded",
)
_DIGEST = re.compile("[0-9a-fA-F]{64}")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="init|challenge|issue|revoke|crl|list"
    )
    init = actions.add_parser("init", help="make an authority: key, certificate, empty memory")
    init.add_argument("--name", required=True, help="the certificate's common name")
    init.add_argument("--key", choices=("p384", "p256", "rsa3072"), default="p384")
    _add_days(init, 3650, "the certificate's lifetime")
    challenge = actions.add_parser("challenge", help="check a request and pose a challenge")
    challenge.add_argument("request", metavar="REQUEST")
    issue = actions.add_parser("issue", help="check a response and issue the certificate")
    issue.add_argument("response", metavar="RESPONSE")
    _add_days(issue, 365, "the certificate's lifetime")
    revoke = actions.add_parser("revoke", help="revoke a certificate, or an endorsement key")
    _configure_revoke(revoke)
    crl = actions.add_parser("crl", help="write a revocation list, manufacturers' included")
    _add_days(crl, 30, "until when the list counts")
    listing = actions.add_parser("list", help="list certificates, or take one out again")
    listing.add_argument("--certificate", metavar="SERIAL", help="write this one's grant to --out")
    for action in (init, issue, crl):
        add_passphrase(action)
    for action in (challenge, issue, crl):
        action.add_argument(
            "--manufacturers",
            metavar="DIR",
            help="TPM manufacturers' roots and CRLs (default: manufacturers/ of the authority)",
        )
    for action in (challenge, issue, crl, listing):
        action.add_argument("--out", metavar="FILE", help="where to write")
    for action in (init, challenge, issue, revoke, crl, listing):
        action.add_argument("--authority", metavar="DIR", help="another authority than your own")
        add_json(action)


def run(args: argparse.Namespace) -> int:
    """Do one thing of an authority's."""
    actions = {
        "init": _init,
        "challenge": _challenge,
        "issue": _issue,
        "revoke": _revoke,
        "crl": _crl,
        "list": _list,
    }
    work = actions[args.action]
    return conclude(args, f"authority {args.action}", lambda: work(args))


def _add_days(parser: argparse.ArgumentParser, default: int, what: str) -> None:
    parser.add_argument(
        "--days", type=_days, default=default, metavar="N", help=f"{what} (default: {default} days)"
    )


def _days(word: str) -> int:
    days = int(word)
    if not 1 <= days <= 36500:  # noqa: PLR2004 - a century
        raise ValueError
    return days


def _configure_revoke(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--certificate", metavar="SERIAL", help="one certificate, by serial number")
    what.add_argument(
        "--ek",
        metavar="FILE|SHA256",
        help="an endorsement key, by its certificate (PEM or DER) or that one's digest in hex, "
        "and all that it earned",
    )
    parser.add_argument(
        "--reason",
        choices=_REASONS,
        default="unspecified",
        help="the first two condemn at every time, the others from today on",
    )


def _init(args: argparse.Namespace) -> Outcome:
    from cryptography.hazmat.primitives.hashes import SHA256

    from laminator.enroll.authority_folder import NewAuthority, create_authority
    from laminator.enroll.authority_key import RootTerms

    now = _now()
    passphrase = read_passphrase(args, new=True)
    terms = RootTerms(args.name, now - dt.timedelta(days=1), now + dt.timedelta(days=args.days))
    new = NewAuthority(args.key, passphrase, terms, dt.timedelta(days=30))
    path = _path(args)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = create_authority(path, new, now)
    fingerprint = folder.certificate().fingerprint(SHA256()).hex()
    store = shlex.quote(str(folder.manufacturers))
    return Outcome(
        (
            f"made an authority in {folder.path}",
            f"verifiers pin its certificate: laminator trust add --kind tpm {folder.root}",
            f"SHA-256 fingerprint {fingerprint}: tell it on another way than the file",
        ),
        {"authority": str(folder.path), "certificate": str(folder.root), "sha-256": fingerprint},
        "pin the TPM manufacturers that you trust, CRLs into crls/ there: "
        f"laminator trust --trust {store} add --kind tpm ROOT.pem",
    )


def _challenge(args: argparse.Namespace) -> Outcome:
    from laminator.enroll.exchange import load_file, parse_request
    from laminator.enroll.issuance import Judged, pose_challenge

    folder = _folder(args)
    data, _ = load_file(args.request, parse_request)
    judged = Judged(_trust(args, folder), _now())
    with folder.store() as store:
        file = pose_challenge(store, folder.certificate(), data, judged)
    out = write_output(args.out or beside(args.request, ".challenge"), file)
    return Outcome(
        (f"wrote {out}: the request passed; the machine has 30 days to answer",),
        {"challenge": out},
        f"bring it back to the machine: laminator enroll respond {shlex.quote(out)}",
    )


def _issue(args: argparse.Namespace) -> Outcome:
    from laminator.enroll.exchange import load_file, parse_response
    from laminator.enroll.issuance import Judged, issue

    folder = _folder(args)
    _, response = load_file(args.response, parse_response)
    trust = _trust(args, folder)
    authority = folder.unlock(read_passphrase(args))
    lifetime = dt.timedelta(days=args.days)
    with folder.store() as store:
        issued = issue(store, authority, response, Judged(trust, _now()), lifetime)
    out = write_output(args.out or beside(args.response, ".grant"), _grant(folder, issued))
    return Outcome(
        (f"issued certificate {issued.serial} (root {issued.anchor_kind}) and wrote {out}",),
        {"grant": out, **_facts(issued)},
        f"bring it back to the machine: laminator enroll install {shlex.quote(out)}",
    )


def _revoke(args: argparse.Namespace) -> Outcome:
    from laminator.enroll.issuance import revoke_certificate, revoke_ek

    folder, now = _folder(args), _now()
    serials: tuple[str, ...]
    with folder.store() as store:
        if args.certificate is not None:
            serials = (_serial(args.certificate),)
            revoke_certificate(store, serials[0], now, args.reason)
        else:
            serials = revoke_ek(store, _ek(args.ek, store.certificates()), now, args.reason)
    named = ", ".join(serials) or "none had been issued"
    return Outcome(
        (f"revoked certificates: {named}",),
        {"revoked": list(serials), "reason": args.reason},
        "tell verifiers: laminator authority crl",
    )


def _crl(args: argparse.Namespace) -> Outcome:
    from cryptography.hazmat.primitives.serialization import Encoding

    from laminator.enroll.issuance import Judged, make_crl, revoke_by_manufacturers

    folder, now = _folder(args), _now()
    trust = _trust(args, folder)
    authority = folder.unlock(read_passphrase(args))
    with folder.store() as store:
        judged = revoke_by_manufacturers(store, Judged(trust, now))
        crl = make_crl(store, authority, now, dt.timedelta(days=args.days))
        revoked = sum(item.revoked is not None for item in store.certificates())
    fresh = len(judged.revoked)
    folder.publish(crl)
    out = str(folder.crl)
    if args.out is not None:
        out = write_output(args.out, crl.public_bytes(Encoding.PEM))
    for serial in judged.unjudged:
        message = f"the EK of certificate {serial} cannot be judged by today's manufacturers' files"
        print(f"laminator authority crl: {message}", file=sys.stderr)
    return Outcome(
        (f"wrote {out}: revoked certificates: {revoked}, {fresh} just now by manufacturers",),
        {
            "crl": out,
            "revoked": revoked,
            "revoked-by-manufacturers": list(judged.revoked),
            "not-judged": list(judged.unjudged),
        },
        f"verifiers take it: laminator verify CARD --collateral {shlex.quote(out)}",
    )


def _list(args: argparse.Namespace) -> Outcome:
    if (args.certificate is None) != (args.out is None):
        raise UsageError("authority.list", "--certificate SERIAL and --out FILE go together")
    folder = _folder(args)
    with folder.store() as store:
        issued = store.certificates()
        waiting = store.open_challenges(int(_now().timestamp()))
        banned = store.revoked_eks()
    if args.certificate is not None:
        serial = _serial(args.certificate)
        found = next((item for item in issued if item.serial == serial), None)
        if found is None:
            raise UsageError("authority.serial", f"no certificate has the serial number {serial}")
        out = write_output(args.out, _grant(folder, found))
        return Outcome((f"wrote {out}",), {"grant": out, **_facts(found)})
    facts: dict[str, Any] = {
        "certificates": [_facts(item) for item in issued],
        "open-challenges": waiting,
        "revoked-ek-certificates": [ek.certificate.hex() for ek in banned],
    }
    lines = tuple(map(_line, issued)) or ("no certificate has been issued",)
    return Outcome((*lines, f"challenges that wait for a response: {waiting}"), facts)


def _line(item: "IssuedCertificate") -> str:
    facts = _facts(item)
    state = "valid" if item.revoked is None else f"revoked {facts['revoked']} ({item.reason})"
    dates = f"{facts['issued']} to {facts['expires']}"
    ek = item.ek_certificate_digest.hex()
    return f"{item.serial}  {dates}  root {item.anchor_kind}  EK certificate {ek}  {state}"


def _facts(item: "IssuedCertificate") -> Mapping[str, Any]:
    return {
        "serial": item.serial,
        "ak-name": item.ak_name.hex(),
        "ek-certificate": item.ek_certificate_digest.hex(),
        "root": item.anchor_kind,
        "issued": _date(item.issued),
        "expires": _date(item.expires),
        "revoked": None if item.revoked is None else _date(item.revoked),
        "reason": item.reason,
    }


def _serial(word: str) -> str:
    return word.lower().replace(":", "").lstrip("0")


def _date(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).date().isoformat()


def _grant(folder: "AuthorityFolder", issued: "IssuedCertificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    from laminator.enroll.exchange import EnrolmentGrant, encode_grant

    own = folder.certificate().public_bytes(Encoding.DER)
    return encode_grant(EnrolmentGrant((issued.der, own)))


def _ek(word: str, issued: "tuple[IssuedCertificate, ...]") -> "EkIdentity":
    """Return the endorsement key of a certificate's file, or by its digest."""
    from laminator.enroll.authority_store import EkIdentity
    from laminator.enroll.ek_certificate import parse_certificate
    from laminator.enroll.issuance import ek_identity

    if _DIGEST.fullmatch(word):
        digest = bytes.fromhex(word)
        known = (item for item in issued if digest in (item.ek_certificate_digest, item.ek_key))
        item = next(known, None)
        return EkIdentity(digest, digest if item is None else item.ek_key)
    return ek_identity(parse_certificate(read_certificates(word)[0]))


def _trust(args: argparse.Namespace, folder: "AuthorityFolder") -> "EkTrust":
    from laminator.enroll.ek_trust import load_ek_trust

    return load_ek_trust(args.manufacturers or str(folder.manufacturers))


def _folder(args: argparse.Namespace) -> "AuthorityFolder":
    from laminator.enroll.authority_folder import AuthorityFolder

    return AuthorityFolder(_path(args))


def _path(args: argparse.Namespace) -> Path:
    return own_authority() if args.authority is None else Path(args.authority)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
