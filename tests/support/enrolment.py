"""An authority, a TPM manufacturer of today and machines, for tests of enrolment that travels."""

import contextlib
import dataclasses
import datetime as dt
import io
import os
import subprocess
import sys
import unittest.mock
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from enclave_sim.adversary import forged_manufacturer as ek_pki
from laminator.cli.main import main
from laminator.enroll.ak_certificate import Authority
from laminator.evidence.tpm_key import PublicKey

DAY = dt.timedelta(days=1)
PASSPHRASE = "a passphrase of the tests"
_COMMAND = [
    sys.executable,
    "-c",
    "import sys; from laminator.cli.main import main; sys.exit(main())",
]


class Ran(NamedTuple):
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def facts(self) -> dict[str, Any]:
        import json

        parsed: dict[str, Any] = json.loads(self.stdout)
        return parsed

    @property
    def refusal(self) -> str:
        assert self.status == 1, self
        return str(self.facts["refused"]["code"])


class Manufacturer(NamedTuple):
    """A manufacturer whose certificates are valid now."""

    root: Authority
    issuer: Authority
    now: dt.datetime

    def ek_certificate(self, key: PublicKey, serial: int = 7) -> x509.Certificate:
        profile = ek_pki.ek_profile(key)
        return self._sign(dataclasses.replace(profile, serial=serial), self.issuer)

    def crl(self, authority: Authority, *revoked: int) -> x509.CertificateRevocationList:
        age = ek_pki.NOW - (self.now - DAY)
        return ek_pki.crl(authority, *revoked, age=age, lifetime=400 * DAY)

    def _sign(self, profile: ek_pki.Profile, issuer: Authority) -> x509.Certificate:
        return _signed(profile, issuer, self.now)


def manufacturer() -> Manufacturer:
    """Return a manufacturer of today: root, EK authority."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    profile = ek_pki.ca_profile(root_key.public_key(), "Maker root")
    root = Authority(_signed(profile, None, now, root_key), root_key)
    profile = ek_pki.ca_profile(key.public_key(), "Maker EK")
    return Manufacturer(root, Authority(_signed(profile, root, now), key), now)


def _signed(
    profile: ek_pki.Profile,
    issuer: Authority | None,
    now: dt.datetime,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> x509.Certificate:
    dated = dataclasses.replace(profile, not_before=now - 200 * DAY, not_after=now + 5000 * DAY)
    if issuer is None:
        assert key is not None
        return ek_pki.sign(dated, profile.subject, key)
    (name,) = issuer.certificate.subject
    return ek_pki.sign(dated, str(name.value), issuer.key)


class Desk(NamedTuple):
    """An authority's folder and what its command line sees."""

    folder: Path
    manufacturer: Manufacturer

    def run(self, *words: str, passphrase: str = PASSPHRASE) -> Ran:
        """Run `laminator authority` with --json."""
        secret = () if words[0] in ("challenge", "revoke", "list") else ("--passphrase-env=P",)
        options = (*secret, "--json", f"--authority={self.folder}")
        return laminator({"P": passphrase}, "authority", *words, *options)

    def trust(self, *revoked: int) -> None:
        """Pin the manufacturer, with CRLs that revoke these serial numbers of EK certificates."""
        place = self.folder / "manufacturers"
        (place / "simulated").mkdir(exist_ok=True)
        pem = self.manufacturer.root.certificate.public_bytes(Encoding.PEM)
        (place / "simulated" / "root.pem").write_bytes(pem)
        crls = (
            self.manufacturer.crl(self.manufacturer.root),
            self.manufacturer.crl(self.manufacturer.issuer, *revoked),
        )
        for number, crl in enumerate(crls):
            (place / "crls" / f"{number}.crl").write_bytes(crl.public_bytes(Encoding.DER))


def desk(folder: Path, maker: Manufacturer) -> Desk:
    """Make an authority that trusts `maker`."""
    made = Desk(folder / "authority", maker)
    ran = made.run("init", "--name", "Test authority", "--key", "p256")
    assert ran.status == 0, ran.stderr
    made.trust()
    return made


class Prover(NamedTuple):
    """A user on a machine with a TPM."""

    tcti: str
    home: Path

    @property
    def variables(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_STATE_HOME": str(self.home / "state"),
        }

    @property
    def keys(self) -> Path:
        return self.home / "data" / "laminator" / "ak"

    def run(self, *words: str) -> Ran:
        """Run `laminator enroll` with --json on the machine's TPM."""
        options = (f"--attester=tpm:{self.tcti}", "--json")
        return laminator(self.variables, "enroll", *words, *options)


def laminator(variables: Mapping[str, str], *words: str) -> Ran:
    """Run the command line in this process, with these environment variables."""
    out, err = io.StringIO(), io.StringIO()
    with (
        unittest.mock.patch.dict(os.environ, variables),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main(words)
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
    return Ran(status, out.getvalue(), err.getvalue())


def spawned(variables: Mapping[str, str], *words: str, cwd: Path | None = None) -> Ran:
    """Run the command line in a process of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [*_COMMAND, *words],
        env={**kept, **variables},
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
