"""The first code of ours in a workload: measures every module before it runs.

Runs isolated in the user's interpreter, without `site` and byte code (`bootstrapped.py`):

    python -I -S -B -X pycache_prefix=/nonexistent bootstrap.py DESCRIPTOR CONFIG SCRIPT [ARGS]
    python ... bootstrap.py DESCRIPTOR CONFIG -c CODE [ARGS]        a child of multiprocessing

DESCRIPTOR is a Unix socket of type SOCK_SEQPACKET. Each record is one packet: a byte that names
the event, 32 bytes of SHA-256, the file's name in UTF-8. When the send has returned, the record has
left this process, and only then is the code compiled or mapped. Children inherit the socket. CONFIG
is the hexadecimal `marshal` of a map: marshal is built in, nothing has to be imported to read it.

Until the hook is in force only built-in and frozen modules are used, and one extension module
(SHA-256), which the attester measured before the start. What this file says afterwards rests on
the code that it let in, as in measured boot: docs/adr/0008-measured-code.md.
"""

import _frozen_importlib_external as machinery
import _imp
import _io
import _thread
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # typing is a file, and brings others
try:
    from _sha2 import sha256 as _small_sha256  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from _sha256 import sha256 as _small_sha256  # type: ignore[import-not-found,unused-ignore]

EVENTS = ("source", "data", "native", "exec", "ctypes", "memory", "pickle", "process", "kernel")
NOTHING = bytes(32)
MAX_NAME = 1000
LOST = 70
"""The exit status where a record cannot be sent: nothing runs that is not in the log."""
_CHUNK, _SMALL = 1 << 20, 1 << 12
_config: dict[str, Any] = {}
_channel = -1
_sent: set[bytes] = set()
_codes: dict[int, Any] = {}
_mapped: dict[str, Any] = {}
_local = _thread._local()
_ANY = object()  # stands for sources that a loader changes after their record


def main(arguments: list[str]) -> None:
    """Put the hook in force, then run the script or the child's code as `__main__`."""
    global _channel  # noqa: PLW0603 - one process has one channel
    _channel = int(arguments[0])
    _config.update(marshal.loads(bytes.fromhex(arguments[1])))  # noqa: S302 - the attester's
    install()
    sys.warnoptions[:0] = _config["warnings"]
    sys.path[:0] = _config["path"]
    if _config["site"]:
        _run_site()
    if arguments[2] == "-c":
        sys.argv[:] = ["-c", *arguments[4:]]
        _run_main(compile(arguments[3], "<string>", "exec"), None)
        return
    script = arguments[2]
    sys.argv[:] = arguments[2:]
    if _config["script-folder"]:
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
    _run_main(_measured_code(script), os.path.abspath(script))


def install() -> None:
    """Have every loader of the standard library send a file's digest before it uses the file."""
    import atexit
    import zipimport

    machinery.SourceFileLoader.get_code = lambda self, name: _measured_code(self.get_filename(name))  # type: ignore[method-assign,assignment,attr-defined]
    machinery.SourceFileLoader.get_data = _get_data(machinery.SourceFileLoader.get_data)  # type: ignore[method-assign]
    machinery.SourcelessFileLoader.get_code = _refuse_byte_code  # type: ignore[method-assign, assignment]
    machinery.ExtensionFileLoader.create_module = _create_module(  # type: ignore[method-assign]
        machinery.ExtensionFileLoader.create_module
    )
    zipimport.zipimporter.get_data = _get_data(zipimport.zipimporter.get_data)  # type: ignore[method-assign]
    zipimport._zip_searchorder = (("/__init__.py", False, True), (".py", False, False))  # type: ignore[attr-defined]
    zipimport._compile_source = _compile_zipped(zipimport._compile_source)  # type: ignore[attr-defined]
    sys.path_hooks[:] = [
        zipimport.zipimporter,
        machinery.FileFinder.path_hook(
            (machinery.ExtensionFileLoader, _imp.extension_suffixes()),
            (machinery.SourceFileLoader, [".py"]),
        ),
    ]
    sys.path_importer_cache.clear()
    atexit.register(_list_mapped)
    sys.addaudithook(_audit)
    import _posixsubprocess  # where it is a file, the hook has to be in force

    _posixsubprocess.fork_exec = _fork_exec(_posixsubprocess.fork_exec)
    _list_mapped()


def name_of(path: str) -> str:
    """Return the name of a file in the log: its label and its path below that."""
    for label, folder in _config["roots"]:
        if path == folder:
            return f"{label}/{os.path.basename(path)}"
        if path.startswith(f"{folder}/"):
            return f"{label}/{path[len(folder) + 1 :]}"
    return f"other/{path.lstrip('/')}"


def send(event: str, name: str, digest: bytes) -> None:
    """Send one record, once; end the process where that fails."""
    clean = "".join(char if char.isprintable() else "?" for char in name[:MAX_NAME])
    packet = bytes([EVENTS.index(event)]) + digest + clean.encode("utf-8", "replace")
    if packet in _sent:
        return
    try:
        os.write(_channel, packet)
    except OSError as error:
        os.write(2, f"laminator: the log of code is out of reach ({error}); ended\n".encode())
        os._exit(LOST)
    _sent.add(packet)


def _run_main(code: Any, path: str | None) -> None:
    module = type(sys)("__main__")
    module.__dict__.update(__builtins__=__builtins__, __spec__=None, __package__=None)
    if path is not None:
        loader = machinery.SourceFileLoader("__main__", path)
        module.__dict__.update(__file__=path, __cached__=None, __loader__=loader)
    sys.modules["__laminator_bootstrap__"] = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        exec(code, module.__dict__)  # noqa: S102 - the workload itself
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


def _run_site() -> None:
    """Do what `site` does at start, with .pth files measured; sitecustomize comes by the hook."""
    import site

    site.addpackage = _add_package  # type: ignore[assignment]
    site.main()


def _add_package(folder: str, name: str, known: set[str] | None) -> set[str] | None:
    """Do as `site.addpackage`, with a file that is read once and measured."""
    import site

    path = os.path.join(folder, name)
    try:
        data = _read(path)
    except OSError:
        return known
    send("source", name_of(path), _small_sha256(data).digest())
    added = known is None
    seen = site._init_pathinfo() if known is None else known  # type: ignore[attr-defined]
    for line in data.decode("utf-8", "replace").splitlines():
        if line.startswith(("import ", "import\t")):
            try:
                exec(line)  # noqa: S102 - as site does; the audit hook sends its digest
            except Exception as error:
                sys.stderr.write(f"Error processing {path}: {error!r}; remainder ignored\n")
                break
        elif line.strip() and not line.startswith("#"):
            target = os.path.abspath(os.path.join(folder, line.rstrip()))
            if target not in seen and os.path.exists(target):
                sys.path.append(target)
                seen.add(target)
    return None if added else seen


def _measured_code(path: str) -> Any:
    """Compile bytes whose digest has been sent, and know the result again when it runs."""
    data = _read(path)
    send("source", name_of(os.path.abspath(path)), _digest(data))
    _local.source = data
    try:
        code = compile(data, path, "exec", dont_inherit=True)
    finally:
        _local.source = None
    _codes[id(code)] = code
    return code


def _refuse_byte_code(_self: Any, fullname: str) -> None:
    raise ImportError(f"{fullname} is byte code without a source: it is not run", name=fullname)


def _get_data(original: Any) -> Any:
    def get_data(self: Any, path: str) -> bytes:
        data: bytes = original(self, path)
        if not path.endswith(".py"):
            send("data", name_of(os.path.abspath(path)), _digest(data))
        return data

    return get_data


def _create_module(original: Any) -> Any:
    def create_module(self: Any, spec: Any) -> Any:
        module = original(self, spec)
        _list_mapped()
        return module

    return create_module


def _compile_zipped(original: Any) -> Any:
    def compile_zipped(path: str, source: bytes) -> Any:
        send("source", name_of(path), _digest(source))
        _local.source = _ANY
        try:
            code = original(path, source)
        finally:
            _local.source = None
        _codes[id(code)] = code
        return code

    return compile_zipped


def _fork_exec(original: Any) -> Any:
    """Start what multiprocessing spawns with this file, and name every other program.

    No audit event of Python's tells of programs that are started so, as joblib's workers are.
    """

    def fork_exec(args: Any, programs: Any, close: Any, passed: Any, *rest: Any) -> Any:
        paths = [os.fsdecode(path) for path in programs]
        path = next(filter(os.path.isfile, paths), paths[0])
        words = [os.fsdecode(word) for word in args]
        code = words.index("-c") if "-c" in words else len(words)
        ours = "".join(words[code + 1 : code + 2]).startswith("from multiprocessing.")
        if ours and os.path.realpath(path) == os.path.realpath("/proc/self/exe"):
            child = marshal.dumps({**_config, "path": [], "script-folder": False}, 2).hex()
            start = [*_config["words"], _config["bootstrap"], str(_channel), child]
            args, passed = [words[0], *start, *words[code:]], sorted({*passed, _channel})
        else:
            _saw_program("fork_exec", (path,))
        return original(args, programs, close, tuple(passed), *rest)

    return fork_exec


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if (seen := _SEEN.get(event)) is not None:
        seen(event, args)


def _saw_compile(_event: str, args: tuple[Any, ...]) -> None:
    source, filename = args
    measured = getattr(_local, "source", None)
    if measured is _ANY or source is measured or not isinstance(source, str | bytes | bytearray):
        return  # of a syntax tree, the audit event `exec` has the code
    text = source.encode("utf-8", "replace") if isinstance(source, str) else bytes(source)
    where = os.fsdecode(filename) if isinstance(filename, str | bytes) else "?"
    known = where.startswith("/")
    name = name_of(where) if known else f"compile {where}"
    send("source" if known else "exec", name, _digest(text))


def _saw_exec(_event: str, args: tuple[Any, ...]) -> None:
    code = args[0]
    if _codes.pop(id(code), None) is code:
        return
    try:
        digest = _digest(marshal.dumps(code, 2))
    except ValueError:  # constants that are objects
        digest = NOTHING
    send("exec", f"exec {os.path.basename(code.co_filename)}", digest)


def _saw_library(_event: str, args: tuple[Any, ...]) -> None:
    if args[0] is not None:
        path = os.fsdecode(args[0])
        if "/" in path and os.path.exists(path):
            _send_native(path)
        send("ctypes", os.path.basename(path), NOTHING)


def _saw_made(event: str, args: Any) -> None:
    """Send what code objects are made of that nothing compiles: byte code, as clones have it."""
    send("exec", event, _digest(args[0]) if args and isinstance(args[0], bytes) else NOTHING)


def _saw_program(event: str, args: Any) -> None:
    program = args[1] if event == "os.spawn" else args[0]
    path = os.fsdecode(program) if isinstance(program, str | bytes) else str(program)
    found = _on_path(path)
    digest = NOTHING if event == "os.system" or found is None else _digest_file(found)
    send("process", path if found is None else name_of(found), digest or NOTHING)


def _on_path(program: str) -> str | None:
    folders = [""] if "/" in program else os.environ.get("PATH", "").split(":")
    paths = (os.path.join(folder, program) for folder in folders)
    return next((os.path.realpath(path) for path in paths if os.path.isfile(path)), None)


_STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system")
_SEEN: dict[str, Any] = {
    "compile": _saw_compile,
    "exec": _saw_exec,
    "ctypes.dlopen": _saw_library,
    "pickle.find_class": lambda _, args: send("pickle", f"{args[0]}.{args[1]}", NOTHING),
    "code.__new__": _saw_made,
    "marshal.load": _saw_made,
    "marshal.loads": _saw_made,
    "import": lambda _, args: isinstance(args[1], str) and _send_native(args[1]),
    "cpython.PyInterpreterState_New": lambda *_: send("process", "sub-interpreter", NOTHING),
    **dict.fromkeys(_STARTS, _saw_program),
}


def _send_native(path: str) -> bool:
    """Send a file's record, again where it has changed; say whether it could be read."""
    real = os.path.realpath(path)
    state = _state(real)
    if state is not None and _mapped.get(real) == state:
        return True
    digest = _digest_file(real)
    if digest is None:
        return False
    _mapped[real] = state
    name = name_of(real)
    if name.startswith("run/"):
        send("kernel", name, digest)
    send("native", name, digest)
    return True


def _state(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def _list_mapped() -> None:
    """Send what is mapped for execution and was not seen before, such as libraries of libraries."""
    for line in _read("/proc/self/maps").decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(None, 5)
        path = fields[5] if len(fields) == 6 and "x" in fields[1] else ""  # noqa: PLR2004
        new = path.startswith("/") and _mapped.get(path, ()) != _state(path)
        if new and not _send_native(path):
            send("memory", os.path.basename(path), NOTHING)


def _digest(data: bytes) -> bytes:
    return bytes(_hasher(len(data))(data).digest())


def _hasher(size: int) -> Any:
    """Return OpenSSL's SHA-256 for what is large, once the workload has it."""
    loaded = sys.modules.get("_hashlib") if size > _SMALL else None
    return _small_sha256 if loaded is None else loaded.openssl_sha256


def _digest_file(path: str) -> bytes | None:
    try:
        with _io.FileIO(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _CHUNK and "_hashlib" not in sys.modules:
                _import_hashlib()
            digest = _hasher(size)()
            view = memoryview(bytearray(_CHUNK))
            while count := file.readinto(view):
                digest.update(view[:count])
    except OSError:
        return None
    return bytes(digest.digest())


def _import_hashlib() -> None:
    """Load OpenSSL's hashes, through the hook, unless they are being loaded just now."""
    if not getattr(_local, "loading", False):
        _local.loading = True
        try:
            import _hashlib  # noqa: F401
        except ImportError:
            return
        finally:
            _local.loading = False


def _read(path: str) -> bytes:
    with _io.FileIO(path) as file:
        return file.readall() or b""


if __name__ == "__main__":
    main(sys.argv[1:])
