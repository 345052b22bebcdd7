"""`laminator enroll`: how this machine's TPM gets a certificate for its attestation key."""

import argparse
import datetime as dt
import importlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from laminator.cli.outcome import Outcome, add_json, beside, conclude, write_output
from laminator.enroll.certificate_files import read_certificates
from laminator.enroll.places import ak_folder, certificate_folder
from laminator.errors import MachineError, UsageError, shown
from laminator.reading import read_limited

if TYPE_CHECKING:
    from laminator.enroll.response import TpmAccess

HELP = (
    "Get a certificate for this machine's attestation key, with files that travel to an authority "
    "and back: request -> (authority challenge) -> respond -> (authority issue) -> install."
)
_DEVICE = "/dev/tpmrm0"
_MAX_SECRET_FILE = 4096
_LATEST = 253402300799
"""The last second of the year 9999, beyond which there are no dates."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="request|respond|install")
    request = actions.add_parser("request", help="make the run counter and write a request")
    request.add_argument("--out", metavar="FILE", default="laminator.request", help="the request")
    request.add_argument(
        "--ak", choices=("ecc", "rsa"), default="ecc", help="ECDSA P-256 or RSASSA 2048"
    )
    request.add_argument(
        "--ek",
        choices=("ecc-p384", "ecc-p256", "rsa-2048"),
        help="which endorsement key vouches (default: the first with a certificate)",
    )
    request.add_argument(
        "--ek-certificate",
        metavar="FILE",
        action="append",
        default=[],
        help="the EK's certificate or one above it, PEM or DER, where the TPM keeps none",
    )
    respond = actions.add_parser("respond", help="have the TPM open an authority's challenge")
    respond.add_argument("challenge", metavar="CHALLENGE")
    respond.add_argument("--out", metavar="FILE", help="the response (default: CHALLENGE.response)")
    install = actions.add_parser("install", help="put the certificate where `run` finds it")
    install.add_argument("grant", metavar="GRANT")
    for action in (request, respond, install):
        _add_tpm(action)
        add_json(action)


def run(args: argparse.Namespace) -> int:
    """Do one step of the enrolment."""
    actions = {"request": _request, "respond": _respond, "install": _install}
    work = actions[args.action]
    _check_extra()
    return conclude(args, f"enroll {args.action}", lambda: work(args))


def _check_extra() -> None:
    try:
        importlib.import_module("tpm2_pytss")
    except ImportError as error:
        message = "enrolment needs the TPM's software: pip install 'laminator[tpm]'"
        raise MachineError("enrol.extra", message) from error


def _add_tpm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attester",
        metavar="auto|tpm:TCTI",
        default="auto",
        help=f"which TPM, as for `laminator run` (auto: {_DEVICE})",
    )
    parser.add_argument(
        "--label",
        metavar="LABEL",
        help="a key of its own for LABEL, a customer say; cards of two labels share no key",
    )
    for hierarchy in ("owner", "endorsement"):
        parser.add_argument(
            f"--{hierarchy}-auth-file",
            metavar="FILE",
            help=f"the {hierarchy} hierarchy's secret, as the file's bytes, if it has one",
        )


def _request(args: argparse.Namespace) -> Outcome:
    from laminator.attest.tpm import AttestationTpm
    from laminator.enroll.ak_label import labelled
    from laminator.enroll.exchange import encode_request
    from laminator.enroll.key_templates import AK_ECDSA_P256, AK_RSASSA_2048
    from laminator.enroll.request import ek_templates, make_request, prepare_counter

    template = labelled(AK_RSASSA_2048 if args.ak == "rsa" else AK_ECDSA_P256, args.label)
    given = [der for path in args.ek_certificate for der in read_certificates(path)]
    access = _access(args)
    auths = prepare_counter(access.tcti, access.auths, ak_folder())
    with AttestationTpm(access.tcti, auths, template) as tpm:
        request = make_request(tpm, ek_templates(args.ek), given)
    out = write_output(args.out, encode_request(request))
    return Outcome(
        (f"wrote {out}: {len(request.ek_certificates)} EK certificates, key {args.ak}",),
        {"request": out, "ek-certificates": len(request.ek_certificates)},
        f"bring it to the authority: laminator authority challenge {shlex.quote(out)}",
    )


def _respond(args: argparse.Namespace) -> Outcome:
    from laminator.enroll.exchange import encode_response, load_file, parse_challenge
    from laminator.enroll.response import answer_challenge

    data, challenge = load_file(args.challenge, parse_challenge)
    response = answer_challenge(_access(args), data)
    out = write_output(args.out or beside(args.challenge, ".response"), encode_response(response))
    expires = dt.datetime.fromtimestamp(min(challenge.expires, _LATEST), dt.UTC)
    authority = challenge.authority.hex()
    return Outcome(
        (
            f"wrote {out}: the TPM opened the challenge",
            f"for the authority with the fingerprint {authority}, until {expires.date()}",
        ),
        {"response": out, "authority": authority, "expires": expires.isoformat()},
        f"bring it to the authority: laminator authority issue {shlex.quote(out)}",
    )


def _install(args: argparse.Namespace) -> Outcome:
    from laminator.enroll.exchange import load_file, parse_grant
    from laminator.enroll.response import install_grant

    _, grant = load_file(args.grant, parse_grant)
    folder = certificate_folder(args.label)
    installed = install_grant(_access(args), grant, folder, dt.datetime.now(dt.UTC))
    until = installed.certificate.not_valid_after_utc
    issuer = installed.verified.anchor_subject
    options = ["run", "--attester", args.attester]
    options += [] if args.label is None else ["--label", args.label]
    options += ["--", "python", "train.py"]
    return Outcome(
        (
            f"installed {installed.path}",
            f"issued by {issuer} ({installed.verified.anchor_fingerprint}), until {until.date()}",
        ),
        {
            "certificate": str(installed.path),
            "issuer": issuer,
            "issuer-fingerprint": str(installed.verified.anchor_fingerprint),
            "expires": until.isoformat(),
        },
        f"laminator {shlex.join(options)}",
    )


def _access(args: argparse.Namespace) -> "TpmAccess":
    from laminator.attest.tpm import HierarchyAuths
    from laminator.enroll.response import TpmAccess

    auths = HierarchyAuths(
        endorsement=_secret(args.endorsement_auth_file), owner=_secret(args.owner_auth_file)
    )
    return TpmAccess(_tcti(args.attester), auths, args.label)


def _tcti(attester: str) -> str:
    if attester == "auto":
        if not Path(_DEVICE).exists():
            message = f"this machine has no TPM at {_DEVICE}; laminator doctor says what it has"
            raise MachineError("attester.none", message)
        return f"device:{_DEVICE}"
    kind, _, tcti = attester.partition(":")
    if kind != "tpm" or not tcti:
        message = f"--attester {shown(attester)}: expected auto or tpm:TCTI"
        raise UsageError("attester.kind", message)
    return tcti


def _secret(path: str | None) -> bytes:
    return b"" if path is None else read_limited(path, _MAX_SECRET_FILE)
