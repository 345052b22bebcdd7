"""The attester's confinement: namespaces in which the machine's folder is not there.

bubblewrap gives the attester user, mount, pid, ipc and uts namespaces, no capability, no disk or
TPM device. An empty read-only folder lies over the machine's, and in it the copy of the attester's
code and a folder for private copies that do not fit into memory. The attester may make further
namespaces for its workload; nothing in them uncovers what is hidden, because mounts that come from
a more privileged namespace are locked.

Linux maps user id 0 into a nested namespace only for holders of CAP_SETFCAP, so that root's
attester has another user id inside. It is root's outside, without capabilities: what root may
write without any, such as kernel parameters in a fresh /proc, stays writable to it.
"""

import os
import subprocess
from pathlib import Path

from enclave_sim.folder import Folder
from laminator.errors import MachineError
from laminator.programs import find_program
from laminator.run.filesystem import GPU_DEVICES
from laminator.run.private_copy import DISK_NAME

CODE_NAME = "code"
"""The copy of the attester's code in a launch's place."""

_INSIDE_ID = 1000
_PROBE_SECONDS = 20.0
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_PRELOAD = Path("/etc/ld.so.preload")


def seen_at(folder: Folder) -> Path:
    """Return where the attester sees the copy of its code."""
    return folder.root / "attester"


def words(folder: Folder, place: Path, status_fd: int) -> list[str]:
    """Return the words that run a command confined, with the code and the disk in `place`.

    bubblewrap is the system's, whatever PATH the client has. It writes JSON lines to `status_fd`:
    the confined process group's id, the exit status. Raises MachineError where there is none.
    """
    program = find_program("bwrap")
    if program is None:
        raise MachineError("machine.bwrap", "no bubblewrap: install bubblewrap")
    hidden, code = str(folder.root), str(seen_at(folder))
    disk = str(folder.root / DISK_NAME)
    options = ["--bind", "/", "/", *_devices()]
    options += ["--tmpfs", hidden, "--ro-bind", str(place / CODE_NAME), code]
    options += ["--bind", str(place / DISK_NAME), disk, "--remount-ro", hidden]
    if _PRELOAD.exists():  # code for every process, by the host's owner
        options += ["--ro-bind", os.devnull, str(_PRELOAD)]
    options += [f"--unshare-{name}" for name in ("user", "pid", "ipc", "uts")]
    if os.geteuid() == 0:
        options += ["--uid", str(_INSIDE_ID), "--gid", str(_INSIDE_ID)]
    options += ["--proc", "/proc", "--cap-drop", "ALL", "--die-with-parent", "--new-session"]
    return [program, *options, "--json-status-fd", str(status_fd), "--chdir", "/", "--"]


def _devices() -> list[str]:
    """Return options for a /dev of harmless devices and, for the workload, GPUs.

    bubblewrap's own ``--dev`` would cover parts of /proc, after which Linux lets no nested
    namespace mount a fresh /proc. /dev/shm is the attester's own: private copies of what was
    measured lie there and end with it. Nobody finds them by a path, but another process of the same
    user outside may look in through /proc (docs/threat-model.md).
    """
    options = ["--tmpfs", "/dev"]
    gpus = [str(path) for glob in GPU_DEVICES for path in sorted(Path("/dev").glob(glob))]
    for device in (*(f"/dev/{name}" for name in _DEVICES), *gpus):
        options += ["--dev-bind-try", device, device]
    for name, target in _LINKS.items():
        options += ["--symlink", target, f"/dev/{name}"]
    return [*options, "--tmpfs", "/dev/shm"]  # noqa: S108


def is_possible(folder: Folder, place: Path) -> bool:
    """Say whether a process can be confined here, by trying it."""
    try:
        command = [*words(folder, place, 2), "/bin/true"]
        done = subprocess.run(
            command, check=False, capture_output=True, timeout=_PROBE_SECONDS, env={}
        )
    except (OSError, subprocess.TimeoutExpired, MachineError):
        return False
    return done.returncode == 0
