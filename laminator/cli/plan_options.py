"""The options of a run that follows a plan or a seed, and what they add to its request."""

import argparse
import os
from pathlib import Path
from typing import Any

from laminator.appraise.trust import (
    SIMULATED_TSA,
    TSA,
    TrustStore,
    default_store,
    load_trust,
    parse_certificate,
)
from laminator.claims import SEED_FROM_NONCE, Seed
from laminator.errors import MalformedError, UsageError, shown
from laminator.evidence.timestamp_reply import MAX_REPLY, parse_timestamp_reply
from laminator.plan import MAX_SEED
from laminator.reading import read_bounded

TOKEN_SUFFIX = ".tsr"  # noqa: S105 - a file's suffix


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("--plan", metavar="PLAN.toml", help="the plan (pre-registration) that this run follows")
    add(
        "--plan-token",
        metavar="PLAN.tsr",
        help="the RFC 3161 time-stamp over the plan (default: PLAN.tsr beside the plan, if it is "
        "there)",
    )
    add(
        "--plan-trust",
        metavar="DIR",
        help="a trust folder with the time-stamping authority's anchor (tsa/) and CRLs (default: "
        "your own store, and with --simulated the machine's)",
    )
    add(
        "--seed",
        metavar="nonce|N",
        help="what sampling and shuffling follow: the verifier's nonce, or a number (default: the "
        "plan's rule)",
    )


def plan_fields(args: argparse.Namespace) -> dict[str, Any]:
    """Return the request's fields that these options make. Raises UsageError."""
    seed = _parse_seed(args.seed)
    if args.plan is None:
        for option in ("plan_token", "plan_trust"):
            if getattr(args, option) is not None:
                name = f"--{option.replace('_', '-')}"
                raise UsageError("option.plan", f"{name} without --plan: which plan is it for?")
        return {"seed": seed}
    plan = Path(os.path.abspath(args.plan))  # noqa: PTH100 - keeps links as they are
    fields: dict[str, Any] = {"plan": str(plan), "seed": seed}
    token = plan.with_suffix(TOKEN_SUFFIX) if args.plan_token is None else Path(args.plan_token)
    if args.plan_token is None and not token.exists():
        return fields
    trust = _needed(_trust(args), token)
    return {
        **fields,
        "plan_token": os.path.abspath(token),  # noqa: PTH100 - as above
        "tsa_anchors": tuple((each.kind, _der(each.certificate)) for each in trust.anchors),
        "tsa_crls": tuple(map(_der, trust.crls)),
    }


def _parse_seed(text: str | None) -> Seed | None:
    if text is None or text == SEED_FROM_NONCE:
        return text
    if not (text.isascii() and text.isdecimal() and int(text[:20]) <= MAX_SEED):
        message = f"--seed: expected nonce or a number of at most {MAX_SEED}, got {shown(text)}"
        raise UsageError("option.seed", message)
    return int(text)


def _trust(args: argparse.Namespace) -> TrustStore:
    if args.plan_trust is not None:
        return load_trust(args.plan_trust)
    folders = [default_store()]
    if args.simulated is not None:
        from enclave_sim.client import default_folder
        from enclave_sim.folder import Folder

        machine = Path(args.simulated) if args.simulated else default_folder()
        folders.append(str(Folder(machine.absolute()).trust))
    stores = [load_trust(folder) for folder in folders if Path(folder).is_dir()]
    anchors = dict.fromkeys(anchor for store in stores for anchor in store.anchors)
    return TrustStore(tuple(anchors), tuple(crl for store in stores for crl in store.crls))


def _needed(trust: TrustStore, token: Path) -> TrustStore:
    """Return the authorities' anchors, and the CRLs of who certified what the token carries."""
    anchors = tuple(each for each in trust.anchors if each.kind in (TSA, SIMULATED_TSA))
    try:
        reply = parse_timestamp_reply(read_bounded(str(token), MAX_REPLY))
        certificates = [parse_certificate(der) for der in reply.certificates]
    except MalformedError as error:
        message = f"{shown(str(token))} is no RFC 3161 response: {error.message}"
        raise UsageError("plan.token", message) from error
    issuers = {each.issuer for each in (*certificates, *(a.certificate for a in anchors))}
    return TrustStore(anchors, tuple(crl for crl in trust.crls if crl.issuer in issuers))


def _der(item: Any) -> bytes:  # noqa: ANN401 - certificates and CRLs alike
    from cryptography.hazmat.primitives.serialization import Encoding

    encoded: bytes = item.public_bytes(Encoding.DER)
    return encoded
