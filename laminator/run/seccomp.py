"""System calls that a workload may not make: a seccomp program for bubblewrap to load.

A deny list, since an unmodified training script may need any other call. What is denied reaches
beyond a sandbox or has no use in one, and much of it has been a way to a kernel's bugs:

- other processes' memory and descriptors: ptrace, process_vm_*, pidfd_getfd, kcmp;
- mounts and namespaces: mount(2) and its successors, unshare, setns, clone with CLONE_NEW*;
- what no namespace divides: keyrings, BPF, perf events, kernel modules, kexec, the clock, swap;
- io_uring, which makes calls that no filter sees; userfaultfd; files by handle;
- terminals: TIOCSTI and TIOCLINUX put words into the mouth of who is at the terminal;
- sockets of families other than Unix, IPv4, IPv6 and netlink: VSOCK reaches the host.

A `strict` program also denies new processes, other sockets than Unix and System V objects. clone3
holds its flags where no filter can look: it does not exist (ENOSYS), and the C library uses clone.

The program is classic BPF over `struct seccomp_data` (seccomp(2)), for x86-64.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_AUDIT_ARCH_X86_64 = 0xC000003E
_X32 = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16
_NEW_NAMESPACES = 0x7E020080
_THREAD = 0x10000
_READ_IMPLIES_EXEC = 0x400000
_FAMILIES, _STRICT_FAMILIES = (1, 2, 10, 16), (1,)
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_CLONE, _PERSONALITY, _IOCTL, _SOCKETS = 56, 135, 16, (41, 53)
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

DENIED = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_getfd": 438,
    "process_madvise": 440, "kcmp": 312,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "open_tree_attr": 467, "unshare": 272, "setns": 308,
    "add_key": 248, "request_key": 249, "keyctl": 250,
    "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "open_by_handle_at": 304,
    "fanotify_init": 300, "lookup_dcookie": 212,
    "init_module": 175, "finit_module": 313, "delete_module": 176,
    "kexec_load": 246, "kexec_file_load": 320, "reboot": 169,
    "swapon": 167, "swapoff": 168, "acct": 163, "quotactl": 179, "quotactl_fd": 443,
    "settimeofday": 164, "clock_settime": 227, "syslog": 103, "vhangup": 153,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "modify_ldt": 154,
}  # fmt: skip
"""Refused with EPERM, by number on x86-64."""

ABSENT = {"clone3": 435, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
"""Refused with ENOSYS: who uses these has another way."""

DENIED_STRICTLY = {
    "fork": 57, "vfork": 58, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240,
}  # fmt: skip
"""Refused with EPERM in a strict program."""


def program(*, strict: bool = False) -> bytes:
    """Return the BPF program, eight bytes an instruction."""
    refuse = _answer(_ERRNO | errno.EPERM)
    absent = _answer(_ERRNO | errno.ENOSYS)
    denied = {**DENIED, **(DENIED_STRICTLY if strict else {})}
    parts = [
        _load(_ARCH),
        _instruction(_JUMP_EQUAL, _AUDIT_ARCH_X86_64, 1, 0),
        refuse,
        _load(_NUMBER),
        _unless_below(_X32, refuse),
        *(_if_equal(number, refuse) for number in denied.values()),
        *(_if_equal(number, absent) for number in ABSENT.values()),
        _call(_CLONE, _clone_rules(strict=strict)),
        _call(_PERSONALITY, _load(_ARGUMENT) + _if_bits(_READ_IMPLIES_EXEC, refuse)),
        _call(_IOCTL, _load(_ARGUMENT + 8) + _if_equal(_TIOCSTI, refuse)
              + _if_equal(_TIOCLINUX, refuse)),
        *(_call(number, _family_rules(strict=strict)) for number in _SOCKETS),
        _answer(_ALLOW),
    ]  # fmt: skip
    return b"".join(parts)


@contextmanager
def filter_files(*, strict: bool = False) -> Iterator[tuple[int, ...]]:
    """Yield a descriptor of the program for bubblewrap, or none where the kernel takes no filter.

    The descriptor lives until the block is left.
    """
    if not is_available():
        yield ()
        return
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, program(strict=strict))
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield (descriptor,)
    finally:
        os.close(descriptor)


def is_available() -> bool:
    """Say whether this kernel takes filters, and this module has one for this processor.

    A filter at address 0 is refused with EFAULT where filters are known at all (seccomp(2)).
    """
    if platform.machine() != "x86_64":
        return False
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0)
    return ctypes.get_errno() == errno.EFAULT


def _clone_rules(*, strict: bool) -> bytes:
    refuse = _answer(_ERRNO | errno.EPERM)
    rules = _load(_ARGUMENT) + _if_bits(_NEW_NAMESPACES, refuse)
    return rules + (_instruction(_JUMP_BITS, _THREAD, 1, 0) + refuse if strict else b"")


def _family_rules(*, strict: bool) -> bytes:
    allowed = _STRICT_FAMILIES if strict else _FAMILIES
    rules = b"".join(_if_equal(family, _answer(_ALLOW)) for family in allowed)
    return _load(_ARGUMENT) + rules + _answer(_ERRNO | errno.EAFNOSUPPORT)


def _call(number: int, rules: bytes) -> bytes:
    """Return `rules` for one call; they may end by themselves, what they leave is allowed."""
    body = rules + _answer(_ALLOW)
    return _instruction(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _if_equal(value: int, then: bytes) -> bytes:
    return _instruction(_JUMP_EQUAL, value, 0, 1) + then


def _if_bits(bits: int, then: bytes) -> bytes:
    return _instruction(_JUMP_BITS, bits, 0, 1) + then


def _unless_below(value: int, then: bytes) -> bytes:
    return _instruction(_JUMP_AT_LEAST, value, 0, 1) + then


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset, 0, 0)


def _answer(action: int) -> bytes:
    return _instruction(_RETURN, action, 0, 0)


def _instruction(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
