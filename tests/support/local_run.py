"""Measured runs on a software TPM of the tests' own: quick, and without a measured launch."""

import contextlib
import datetime as dt
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cddl import fitting_card
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from raw_swtpm import RawSwtpm

from enclave_sim.adversary import forged_pki as pki
from laminator import TrustStore, VerificationResult, parse_policy, verify
from laminator.attest.tpm import AttestationTpm, HierarchyAuths
from laminator.card import Card
from laminator.evidence.tpm_key import public_key
from laminator.evidence.tpm_structures import (
    RUN_COUNTER_INDEX,
    name,
    parse_nv_public,
    parse_public,
)
from laminator.run.attestation import AK_TEMPLATES
from laminator.run.request import RunRequest, encode_request

COUNTER_SECRET = b"counter secret"
PYTHON = sys.executable
LAMINATOR = (PYTHON, "-c", "import sys; from laminator.cli.main import main; sys.exit(main())")
REQUEST = (
    "import sys; from laminator.run.local_tpm import LocalTpm; "
    "sys.exit(LocalTpm(sys.argv[1]).run(sys.stdin.buffer.read()).status)"
)
POLICY = b"""
version = 1
roots = ["simulated"]
coverage = "none"
data-chosen-by = "provider"
unknown-code = "allow"
"""


class Ran(NamedTuple):
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


class Attester(NamedTuple):
    """A TPM whose key is enrolled for this user; `home` is what the commands think is theirs."""

    tcti: str
    home: Path
    trust: TrustStore
    variables: Mapping[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            **self.variables,
            "HOME": str(self.home),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_STATE_HOME": str(self.home / "state"),
        }

    def ran(self, words: Sequence[str], folder: Path, timeout: float = 60) -> Ran:
        """Run a command in `folder` to its end."""
        done = subprocess.run(
            words,
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


class Workshop:
    """A folder with a script, from which commands are run."""

    def __init__(self, attester: Attester, folder: Path, prefix: Sequence[str] = ()) -> None:
        self.attester = attester
        self.folder = folder
        self.prefix = prefix

    def write(self, path: str, content: str) -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        return target

    def read(self, path: str) -> str:
        return (self.folder / path).read_text()

    def command(self, script: str, *options: str, arguments: Sequence[str] = ()) -> list[str]:
        """Write `script` as train.py and return the command that runs it under measurement."""
        self.write("train.py", script)
        attester = f"--attester=tpm:{self.attester.tcti}"
        run = [*LAMINATOR, "run", attester, *options]
        return [*self.prefix, *run, "--", PYTHON, "train.py", *arguments]

    def run(self, script: str, *options: str, arguments: Sequence[str] = ()) -> Ran:
        """Run `script` under measurement."""
        return self.attester.ran(self.command(script, *options, arguments=arguments), self.folder)

    def start(self, script: str, *options: str) -> "subprocess.Popen[str]":
        """Start `script` under measurement, with its output in pipes."""
        return subprocess.Popen(
            self.command(script, *options),
            cwd=self.folder,
            env=self.attester.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def request(self, request: RunRequest) -> Ran:
        """Have the attester work on `request`, as somebody with a client of his own may."""
        ledger = self.attester.home / "state" / "laminator" / "runs.jsonl"
        done = subprocess.run(
            [PYTHON, "-c", REQUEST, self.attester.tcti],
            input=encode_request(request._replace(ledger=str(ledger), ticket="own")),
            cwd=self.folder,
            env=self.attester.environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def card(self, path: str = "train.card") -> Card:
        return fitting_card((self.folder / path).read_bytes())

    @property
    def has_card(self) -> bool:
        return (self.folder / "train.card").exists()

    def verify(self, path: str = "train.card", **given: Any) -> VerificationResult:
        """Verify a card against the tests' own anchor."""
        return verify(
            (self.folder / path).read_bytes(),
            parse_policy(POLICY, name="tests"),
            trust=self.attester.trust,
            now=dt.datetime.now(tz=dt.UTC),
            **given,
        )

    def ledger(self) -> list[dict[str, Any]]:
        """Return the lines of the list of runs, none before the first run."""
        import json

        path = self.attester.home / "state" / "laminator" / "runs.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]


@contextlib.contextmanager
def enrolled(swtpm: RawSwtpm, home: Path) -> Iterator[Attester]:
    """Define the run counter of `swtpm` and certify its attestation keys for a user."""
    now = dt.datetime.now(tz=dt.UTC)
    dates: dict[str, Any] = {"not_before": now - pki.DAY, "not_after": now + pki.YEAR}
    anchor = pki.root("local run root", **dates)
    issuer = pki.authority(anchor, "local run authority", **dates)
    folder = home / "data" / "laminator" / "ak"
    folder.mkdir(parents=True)
    (folder / "counter.auth").write_text(COUNTER_SECRET.hex())
    pem = io.BytesIO()
    for key in AK_TEMPLATES.values():
        spec = _certified(swtpm, key)._replace(**dates)
        certificate = pki.sign(spec, issuer, issuer.key)
        pem.write(certificate.public_bytes(Encoding.PEM))
    pem.write(issuer.certificate.public_bytes(Encoding.PEM))
    (folder / "ak.pem").write_bytes(pem.getvalue())
    crls = [
        pki.crl(one, pki.CrlSpec(issued=now - pki.DAY, expires=now + pki.YEAR))
        for one in (anchor, issuer)
    ]
    yield Attester(swtpm.tcti, home, pki.store(anchor, *crls))


def _certified(swtpm: RawSwtpm, template: Any) -> pki.Spec:
    with AttestationTpm(swtpm.tcti, HierarchyAuths(counter=COUNTER_SECRET), template) as tpm:
        if not tpm.has_nv_index(RUN_COUNTER_INDEX):
            tpm.define_counter(RUN_COUNTER_INDEX)
            tpm.increment_counter(RUN_COUNTER_INDEX)
        key = public_key(parse_public(tpm.ak_public))
        counter = name(parse_nv_public(tpm.counter_public(RUN_COUNTER_INDEX)))
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return pki.ak_spec(key, counter)
