"""A verifier's folder with trust anchors and a policy, and its command line."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import forge
from cryptography.hazmat.primitives.serialization import Encoding
from verifying import LAUNCH_DIGEST, claims, world

import laminator

LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
POLICY = f"""\
version = 1
roots = ["simulated"]
coverage = "launch"
data-chosen-by = "provider"
[reference]
launch = ["{LAUNCH_DIGEST}"]
"""


def lay_out(folder: Path) -> list[str]:
    """Write trust/ and policy.toml to `folder`; return the options of `verify` for them."""
    (folder / "trust/crls").mkdir(parents=True)
    trust = forge.machine().trust
    (anchor,) = trust.anchors
    (folder / "trust/root.pem").write_bytes(anchor.certificate.public_bytes(Encoding.PEM))
    for number, crl in enumerate(trust.crls):
        (folder / f"trust/crls/{number}.crl").write_bytes(crl.public_bytes(Encoding.DER))
    (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    trusted = ["--trust", str(folder / "trust"), "--policy", str(folder / "policy.toml")]
    return [*trusted, "--at", forge.NOW.isoformat()]


def card_with(nonce: bytes, number: int = 7) -> bytes:
    """Return a whole card that holds `nonce`, another one for each run number."""
    return forge.card_bytes(world(nonce=nonce, run=claims().run._replace(number=number)))


def start(*words: str, data: Path) -> "subprocess.Popen[str]":
    """Start `laminator` as a process, with `data` as the user's data folder."""
    environment = {**os.environ, "XDG_DATA_HOME": str(data)}
    environment["PYTHONPATH"] = str(Path(laminator.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "laminator", *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
