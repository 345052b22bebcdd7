"""tpm2-tools on a software TPM."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from raw_swtpm import RawSwtpm

from laminator.enroll.credential import Credential
from laminator.enroll.key_templates import (
    EK_ECC_P256,
    EK_ECC_P384,
    EK_RSA_2048,
    EkTemplate,
)
from laminator.evidence.tpm_structures import RsaPublic
from laminator.evidence.tpm_wire import sized

BLOB_HEADER = bytes.fromhex("badcc0de00000001")
_TOOLS_ALGORITHM = {
    EK_RSA_2048.name: "rsa2048:null:aes128cfb",
    EK_ECC_P256.name: "ecc256:null:aes128cfb",
    EK_ECC_P384.name: "ecc384:null:aes256cfb",
}


class Tools:
    """tpm2-tools in a folder of their own, flushing what they leave loaded."""

    def __init__(self, swtpm: RawSwtpm, folder: Path) -> None:
        self._environment = {**os.environ, "TPM2TOOLS_TCTI": swtpm.tcti}
        self._folder = folder

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def create_primary(self, context: str, *arguments: str) -> None:
        self.run("tpm2_createprimary", "-Q", "-C", "e", "-c", context, *arguments)
        self.run("tpm2_flushcontext", "-t")

    def create_ek(self, template: EkTemplate) -> None:
        public = template.public
        # The file is the C structure: each size in the machine's order, each buffer in full.
        unique = [public.modulus] if isinstance(public, RsaPublic) else [public.x, public.y]
        data = b"".join(len(part).to_bytes(2, "little") + part.ljust(128, b"\0") for part in unique)
        (self._folder / "unique").write_bytes(data)
        (self._folder / "policy").write_bytes(public.auth_policy)
        attributes = "fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|restricted|decrypt"
        if not template.takes_policy:
            attributes += "|userwithauth"
        name_algorithm = "sha384" if template is EK_ECC_P384 else "sha256"
        arguments = ["-G", _TOOLS_ALGORITHM[template.name], "-g", name_algorithm]
        arguments += ["-a", attributes, "-L", "policy", "-u", "unique"]
        self.create_primary("ek.ctx", *arguments)

    def create_ak(self) -> None:
        attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign|noda"
        self.create_primary("ak.ctx", "-G", "ecc256:ecdsa-sha256:null", "-a", attributes)

    def activate(self, template: EkTemplate, credential: str, opened: str) -> None:
        """Open the credential file by the EK and AK that were created."""
        command = ["tpm2_activatecredential", "-Q", "-c", "ak.ctx", "-C", "ek.ctx"]
        command += ["-i", credential, "-o", opened]
        if template.takes_policy:
            self.run("tpm2_startauthsession", "--policy-session", "-S", "session")
            self.run("tpm2_policysecret", "-Q", "-S", "session", "-c", "e")
            command += ["-P", "session:session"]
        self.run(*command)

    def read_public(self, context: str) -> bytes:
        """Return the TPMT_PUBLIC of a created key."""
        self.run("tpm2_readpublic", "-Q", "-c", context, "-f", "tss", "-o", "public")
        self.run("tpm2_flushcontext", "-t")
        return (self._folder / "public").read_bytes()[2:]


@contextlib.contextmanager
def tools_for(swtpm: RawSwtpm, folder: Path) -> Iterator[Tools]:
    """Give tools in `folder`, and flush what they leave."""
    tools = Tools(swtpm, folder)
    yield tools
    tools.run("tpm2_flushcontext", "--transient-object")
    tools.run("tpm2_flushcontext", "--loaded-session")


def from_tools(data: bytes) -> Credential:
    assert data.startswith(BLOB_HEADER)
    rest = data[len(BLOB_HEADER) :]
    end = 2 + int.from_bytes(rest[:2], "big")
    blob, secret = rest[2:end], rest[end + 2 :]
    assert len(secret) == int.from_bytes(rest[end : end + 2], "big")
    return Credential(blob, secret)


def to_tools(credential: Credential) -> bytes:
    """Return the file that tpm2_activatecredential reads."""
    return BLOB_HEADER + sized(credential.blob) + sized(credential.secret)
