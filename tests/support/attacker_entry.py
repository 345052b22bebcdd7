"""What a hostile attester tries from its place; launched as an entry text by tests.

It finds the owner's setup in `setup`, the machine's folder in `sys.argv[1]`, and prints one JSON
object: the name of each attempt with "refused: …" or "succeeded: …".
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2B_NV_PUBLIC,
    TPMA_NV,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
    TPMS_NV_PUBLIC,
    TPMT_HA,
    TPMU_HA,
    TSS2_Exception,
)

from laminator.attest.tcti import RelayTcti
from laminator.run.bubblewrap import bubblewrap
from laminator.run.setup import Setup

OWNED_NV = 0x01801A55
PLATFORM_NV = 0x01801A56
SOCKET = "owner.sock"

Attempt = Callable[[], object]


def try_all(setup: Setup, machine: Path) -> dict[str, str]:
    """Try everything; the TPM last, because the last attempt breaks the relay."""
    attempts: dict[str, Attempt] = {
        "folder": lambda: _list(machine),
        "owner-socket": lambda: _connect(machine / SOCKET),
        "unix-sockets": lambda: _known_sockets(machine),
        "processes": _other_processes,
        "unmount": lambda: _in_namespace(f"umount {machine}; ls {machine}/tpm"),
        "control-namespace": lambda: _in_namespace("mount -t tmpfs none /mnt"),
        "bind-below": lambda: _in_namespace(f"mount --bind / /mnt && ls /mnt{machine}/tpm"),
        "bwrap-below": lambda: _through_bubblewrap(machine),
        "code": _write_code,
        "disk": _open_disk,
    }
    said = {name: _outcome(attempt) for name, attempt in attempts.items()}
    assert isinstance(setup.tpm, int)
    relay = os.dup(setup.tpm)
    with ESAPI(RelayTcti(setup.tpm)) as esapi:
        said.update(_try_tpm(esapi, setup))
    said["control-channel"] = _outcome(lambda: _speak_control(relay))
    return said


def _outcome(attempt: Attempt) -> str:
    try:
        result = attempt()
    except subprocess.CalledProcessError as error:
        return f"refused: {error.stderr}"
    except (OSError, TSS2_Exception) as error:
        return f"refused: {error}"
    return f"succeeded: {result!r}"


# --- files, sockets, processes


def _list(machine: Path) -> list[str]:
    found = sorted(path.name for path in machine.iterdir())
    if found == ["attester", "disk"]:
        raise FileNotFoundError("only the code's copy and the disk are there")
    return found


def _connect(path: Path) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(path))
    return str(path)


def _known_sockets(machine: Path) -> str:
    """Try each socket that the kernel lists under the machine's folder or the owner's name."""
    with Path("/proc/net/unix").open() as table:
        paths = [line.split()[-1] for line in table if SOCKET in line or str(machine) in line]
    for path in {*paths, str(machine / SOCKET)}:
        with contextlib.suppress(OSError):
            return _connect(Path(path))
    raise ConnectionRefusedError("none of them")


def _other_processes() -> list[str]:
    """Look for processes with a swtpm or an owner, and for other roots than ours."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if b"swtpm" in words or b"enclave_sim.owner" in words:
                found.append(entry.name)
    if not found:
        raise ProcessLookupError("no process of the owner's is visible")
    return found


def _in_namespace(script: str) -> str:
    """Run a script as root of nested user and mount namespaces."""
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout


def _through_bubblewrap(machine: Path) -> str:
    words = [*bubblewrap(), "--unshare-user", "--bind", "/", "/", "--", "ls", f"{machine}/tpm"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _write_code() -> str:
    """Change the measured copy that runs now."""
    path = Path(__file__)
    path.chmod(0o600)
    path.write_text("")
    return str(path)


def _open_disk() -> list[str]:
    """Look for block devices, which would show the folder without its mounts."""
    found = [path.name for path in Path("/dev").iterdir() if path.is_block_device()]
    if not found:
        raise FileNotFoundError("no disk in /dev")
    return found


# --- the TPM


def _try_tpm(esapi: ESAPI, setup: Setup) -> dict[str, str]:
    attempts: dict[str, Attempt] = {
        "pcr17-reset": lambda: esapi.pcr_reset(ESYS_TR.PCR17),
        "pcr17-extend": lambda: esapi.pcr_extend(ESYS_TR.PCR17, _digests()),
        "pcr17-event": lambda: esapi.pcr_event(ESYS_TR.PCR17, b"launch"),
    }
    said = {name: _outcome(attempt) for name, attempt in attempts.items()}
    counter = esapi.tr_from_tpmpublic(setup.counter_index)
    for kind, auth in _known_auths(setup).items():
        esapi.tr_set_auth(ESYS_TR.PLATFORM, auth)
        esapi.tr_set_auth(ESYS_TR.LOCKOUT, auth)
        esapi.tr_set_auth(ESYS_TR.OWNER, setup.auths.owner)
        said |= {
            f"clear-platform-{kind}": _outcome(lambda: esapi.clear(ESYS_TR.PLATFORM)),
            f"change-eps-{kind}": _outcome(lambda: esapi.change_eps(ESYS_TR.PLATFORM)),
            f"change-pps-{kind}": _outcome(lambda: esapi.change_pps(ESYS_TR.PLATFORM)),
            f"platform-nv-{kind}": _outcome(
                lambda: _define(esapi, PLATFORM_NV, ESYS_TR.PLATFORM, TPMA_NV.PLATFORMCREATE)
            ),
            f"undefine-platform-{kind}": _outcome(
                lambda: esapi.nv_undefine_space(counter, auth_handle=ESYS_TR.PLATFORM)
            ),
            f"undefine-owner-{kind}": _outcome(
                lambda: esapi.nv_undefine_space(counter, auth_handle=ESYS_TR.OWNER)
            ),
        }
    said["clear-lockout"] = _outcome(lambda: esapi.clear(ESYS_TR.LOCKOUT))
    said["redefine-counter"] = _outcome(
        lambda: _define(esapi, setup.counter_index, ESYS_TR.OWNER, TPMA_NV(0))
    )
    said["control-owner-nv"] = _outcome(lambda: _define(esapi, OWNED_NV, ESYS_TR.OWNER, TPMA_NV(0)))
    said["pcr17"] = _read_pcr(esapi, 17)
    return said


def _known_auths(setup: Setup) -> dict[str, bytes]:
    return {
        "empty": b"",
        "owner": setup.auths.owner,
        "endorsement": setup.auths.endorsement,
        "counter": setup.auths.counter,
    }


def _digests() -> TPML_DIGEST_VALUES:
    return TPML_DIGEST_VALUES([TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=bytes(32)))])


def _define(esapi: ESAPI, index: int, hierarchy: ESYS_TR, attribute: TPMA_NV) -> str:
    """Define an ordinary index, as anyone with the hierarchy's auth can."""
    public = TPMS_NV_PUBLIC(
        nvIndex=index,
        nameAlg=TPM2_ALG.SHA256,
        attributes=TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERWRITE | attribute,
        dataSize=8,
    )
    handle = esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public), auth_handle=hierarchy)
    esapi.nv_undefine_space(handle, auth_handle=hierarchy)
    return hex(index)


def _read_pcr(esapi: ESAPI, pcr: int) -> str:
    _, _, digests = esapi.pcr_read(TPML_PCR_SELECTION.parse(f"sha256:{pcr}"))
    return bytes(digests[0]).hex()


def _speak_control(relay: int) -> str:
    """Send what starts a dynamic launch on the control channel."""
    with socket.socket(fileno=relay) as channel:
        channel.sendall((6).to_bytes(4, "big") + (8).to_bytes(4, "big") + bytes(8))
        channel.settimeout(10)
        answer = channel.recv(100)
    if answer == b"":
        raise ConnectionResetError("the relay hung up")
    return answer.hex()


def report(setup: Setup) -> None:
    """Try everything and print what happened."""
    os.environ["TSS2_LOG"] = "all+NONE"
    said = try_all(setup, Path(sys.argv[1]))
    json.dump({"digest": str(setup.launch.digest), "said": said}, sys.stdout)


if __name__ == "__main__":
    report(globals()["setup"])
