"""`laminator trust`: the verifier's own store of trust anchors."""

import argparse
import os
import sys

from laminator.appraise.trust import STORE_KINDS, add_anchor, default_store, load_trust
from laminator.report.text import safe

HELP = "Pin trust anchors in your own store, or list them."

_WIDTH = max(map(len, STORE_KINDS))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--trust", metavar="DIR", help="another store than your own")
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|list")
    add = actions.add_parser("add", help="pin a certificate as an anchor")
    add.add_argument(
        "--kind",
        choices=STORE_KINDS,
        default="simulated",
        help="what kind of root it is: the verifier says so, not the certificate; tsa and "
        "tsa-simulated are for time-stamping authorities, the others for attestation keys",
    )
    add.add_argument("file", metavar="FILE", help="one certificate in PEM or DER")
    actions.add_parser("list", help="list anchors and revocation lists")


def run(args: argparse.Namespace) -> int:
    """Add an anchor, or list the store."""
    store: str = args.trust or default_store()
    if args.action == "add":
        anchor = add_anchor(store, args.kind, args.file)
        print(f"pinned {anchor.kind} {anchor.fingerprint} {safe(anchor.subject)}")
        return 0
    return _list(store)


def _list(store: str) -> int:
    if not os.path.exists(store):  # noqa: PTH110 - as the rest of the verifier's half
        print(f"laminator trust: no store at {safe(store)} yet", file=sys.stderr)
        return 0
    trust = load_trust(store)
    for anchor in trust.anchors:
        end = anchor.certificate.not_valid_after_utc.date()
        print(f"{anchor.kind:<{_WIDTH}}  {anchor.fingerprint}  until {end}  {safe(anchor.subject)}")
    for crl in trust.crls:
        issuer, issued = safe(crl.issuer.rfc4514_string()), crl.last_update_utc.date()
        print(f"{'crl':<{_WIDTH}}  issued {issued}  {issuer}")
    return 0
