"""Worlds whose attester measured the workload's code, and the reference values for it."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from enclave_sim.adversary import forged_world
from enclave_sim.adversary.forged_tpm import certification, machine
from enclave_sim.adversary.forged_world import World, attested
from laminator.claims import CodeSummary, EvidenceRef
from laminator.digest import Digest, sha256
from laminator.eventlog import NOTHING, Record, begin_record, count_code, expected_records
from laminator.evidence import tpm_structures as structures
from laminator.evidence.tpm_key import key_digest
from laminator.reference import ReferencePackage, ReferenceValues

ENTRY = forged_world.claims().workload.entry
INTERPRETER = forged_world.claims().workload.interpreter


def file(name: str, content: bytes, event: str = "source") -> Record:
    """Return the record of a file of code."""
    return Record(event, name, sha256(content).value)


BOOTSTRAP = file("run/bootstrap.py", b"the attester's own", "bootstrap")
OS = file("stdlib/os.py", b"os")
TORCH = file("site/torch/__init__.py", b"torch")
LIBRARY = file("site/torch/lib/libtorch.so", b"libtorch", "native")
NUMPY = file("site/numpy/__init__.py", b"numpy")
VERSION = file("site/numpy/version.txt", b"2", "data")
SCRIPT = Record("source", f"script/{ENTRY.label}", ENTRY.digest.value)
TEXT = Record("exec", "stdlib/collections/__init__.py", sha256(b"namedtuple's").value)
FOREIGN = Record("ctypes", "libc.so.6", NOTHING)
RECORDS = (BOOTSTRAP, OS, SCRIPT, TORCH, LIBRARY, TEXT, NUMPY, VERSION, FOREIGN)


def summary(records: Iterable[Record]) -> CodeSummary:
    """Return what an honest attester claims of `records`."""
    return CodeSummary("import-hook", "enforced", MappingProxyType(count_code(records)))


def ran(
    *records: Record, code: CodeSummary | None = None, changes: Mapping[str, object] | None = None
) -> World:
    """Return a world whose log holds these records of code after `begin`.

    `code` is claimed of them, by default what is true; `changes` are of other claims.
    """
    draft = forged_world.claims(**(changes or {}))
    draft = draft._replace(workload=draft.workload._replace(code=code or summary(records)))
    draft = draft._replace(evidence=(EvidenceRef("tpm", key_digest(machine().ak).value),))
    certified = certification(machine(), draft)
    log = expected_records(draft, structures.marshal_attest(certified))
    place = log.index(begin_record()) + 1
    return attested(machine(), draft, (*log[:place], *records, *log[place:]), certified)


def package(
    name: str, version: str, records: Iterable[Record], kind: str = "wheel"
) -> ReferencePackage:
    """Return the reference values of a package that has the files of `records`."""
    files = sorted((record.name, record.digest) for record in records)
    return ReferencePackage(
        name=name,
        version=version,
        kind=kind,
        origin=sha256(f"{name}-{version}".encode()),
        paths=tuple(path for path, _ in files),
        digests=b"".join(digest for _, digest in files),
    )


def references() -> ReferenceValues:
    """Return reference values for every file of RECORDS but the entry script and the bootstrap."""
    binary = Record("native", "interpreter/python3.11", INTERPRETER.digest.value)
    return ReferenceValues(
        "published",
        (
            package("CPython", "3.11.7", (OS, binary), "interpreter"),
            package("numpy", "2.3.1", (NUMPY, VERSION)),
            package("torch", "2.13.0", (TORCH, LIBRARY)),
        ),
    )


def approved() -> frozenset[Digest]:
    """Return what the verifier approves itself: the entry script."""
    return frozenset({ENTRY.digest})
