"""The one process that may change what a workload can execute.

It is a child of the attester's that enters the user and mount namespaces which bubblewrap made for
the workload, and no pid namespace: the workload has no name for it, and can neither signal nor
trace it, nor find its socket. Linux lets it in because who makes a user namespace has every
capability there (user_namespaces(7)); nobody within the sandbox gets any.

First it makes every mount noexec (mount_setattr(2), Linux 5.12 and later). Then it serves orders:
put the attester's copy NAME, executable and read-only, over a file that is handed over open. The
target is a descriptor and never a path, so that no link can lead elsewhere.
"""

import ctypes
import errno
import os
import signal
import socket
import struct

COPIES = "/run/laminator/native"
"""Where the workload's root has the folder of the attester's copies."""

READY = b"ready"

_NEWUSER, _NEWNS, _NEWPID = 0x10000000, 0x20000, 0x20000000
_NS_GET_USERNS = 0xB701
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_RDONLY, _NOEXEC = 1, 8
_OPEN_TREE_FLAGS = 1 | os.O_CLOEXEC
_MOVE_FLAGS = 0x4 | 0x40
_SET_PDEATHSIG = 1
_MESSAGE_BYTES = 256
_NO_MEMFD_EXEC = b"2"

_LIBRARY = ctypes.CDLL(None, use_errno=True)


def start_agent(first: int) -> tuple[socket.socket, int, int]:
    """Start the agent of the namespaces of process `first`; everything there is noexec then.

    Returns the socket for `bind`, a descriptor of the workload's root, and the agent's pid.
    Raises OSError where the kernel refuses, BlockingIOError while bubblewrap has not made the
    root yet.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _serve(first, theirs)
    theirs.close()
    message, descriptors, _, _ = socket.recv_fds(ours, _MESSAGE_BYTES, 1)
    if message != READY or len(descriptors) != 1:
        ours.close()
        os.waitpid(pid, 0)
        number = int(message or b"0")
        raise OSError(number, os.strerror(number))
    return ours, descriptors[0], pid


def bind(agent: socket.socket, name: str, target: int) -> None:
    """Put the copy `name` over the open file `target`. Raises OSError."""
    socket.send_fds(agent, [name.encode()], [target])
    number = int(agent.recv(_MESSAGE_BYTES) or b"32")
    if number:
        raise OSError(number, os.strerror(number), name)


def _serve(first: int, orders: socket.socket) -> None:
    """Be the agent until the attester hangs up. Never returns."""
    try:
        _called(_LIBRARY.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _keep_only(orders.fileno())
        socket.send_fds(orders, [READY], [_enter(first)])
        while _answer(orders):
            pass
    except OSError as error:
        orders.send(str(error.errno or 1).encode())
    finally:
        os._exit(0)


def _answer(orders: socket.socket) -> bool:
    name, descriptors, _, _ = socket.recv_fds(orders, _MESSAGE_BYTES, 1)
    if not name:
        return False
    try:
        _bind(name, descriptors[0])
        orders.send(b"0")
    except OSError as error:
        orders.send(str(error.errno or 1).encode())
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return True


def _keep_only(descriptor: int) -> None:
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))


def _enter(first: int) -> int:
    """Enter the namespaces, forbid execution, and return a descriptor of the root there."""
    mounts = os.open(f"/proc/{first}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    processes = os.open(f"/proc/{first}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    owner = _called(_LIBRARY.ioctl(mounts, _NS_GET_USERNS, 0))
    _called(_LIBRARY.setns(owner, _NEWUSER))
    _forbid_memory_files(processes)
    _called(_LIBRARY.setns(mounts, _NEWNS))
    if not _is_there(COPIES):
        raise BlockingIOError(errno.EAGAIN, "the root is not made yet")
    _set_attributes(_AT_FDCWD, b"/", _AT_RECURSIVE, add=_NOEXEC)
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_there(path: str) -> bool:
    return os.access(path, os.F_OK)


def _forbid_memory_files(processes: int) -> None:
    """Have memfds of the pid namespace not executable, where we may (vm.memfd_noexec, 6.3).

    Only root's user id may write the setting; it holds for the pid namespace of the writer.
    """
    try:
        setting = os.open("/proc/sys/vm/memfd_noexec", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    _called(_LIBRARY.setns(processes, _NEWPID))
    child = os.fork()
    if child == 0:
        try:
            os.write(setting, _NO_MEMFD_EXEC)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(setting)


def _bind(name: bytes, target: int) -> None:
    path = f"{COPIES}/".encode() + name
    tree = _called(_LIBRARY.syscall(_OPEN_TREE, _AT_FDCWD, path, _OPEN_TREE_FLAGS))
    try:
        _set_attributes(tree, b"", _AT_EMPTY_PATH, add=_RDONLY, remove=_NOEXEC)
        _called(_LIBRARY.syscall(_MOVE_MOUNT, tree, b"", target, b"", _MOVE_FLAGS))
    finally:
        os.close(tree)


def _set_attributes(folder: int, path: bytes, flags: int, *, add: int, remove: int = 0) -> None:
    attributes = struct.pack("<QQQQ", add, remove, 0, 0)
    _called(_LIBRARY.syscall(_MOUNT_SETATTR, folder, path, flags, attributes, len(attributes)))


def _called(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
