"""The claims of a card: what the hardware's evidence covers, byte for byte.

`laminator.claims_codec` reads and writes them; `docs/card.cddl` describes the encoding.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from laminator.cbor import Value
from laminator.digest import Digest

PROFILE = "tag:laminator,2026:card-v1"
KINDS = ("training", "evaluation", "datasheet", "comparison", "session", "inference")
SOURCES = ("measured", "reported", "declared", "external")
SEPARATIONS = ("namespaces", "uid", "none")
LAUNCH_TYPES = ("none", "drtm-simulated", "drtm-txt", "boot")
MODULE_METHODS = ("import-hook", "none")
NATIVE_METHODS = ("enforced", "listed")
CODE_EVENTS = (
    "bootstrap",
    "source",
    "data",
    "native",
    "exec",
    "ctypes",
    "memory",
    "pickle",
    "process",
    "kernel",
)
"""Events of code in a run's log: the first four name a file, the others code without one."""

CODE_FILES = CODE_EVENTS[:4]
ARTIFACT_TYPES = ("dataset", "model", "file")

_NONE: Mapping[str, Value] = MappingProxyType({})

Commitment = bytes | str
Seed = str | int
SEED_FROM_NONCE = "nonce"

FOUND_PARAMETERS = frozenset(
    {"n", "correct", "slices", "classes", "classes-from", "decision", "features", "seed"}
    | {"shared", "state", "holds", "format", "record"}
)
"""Parameters that a measurer finds in model, data and the run's seed rule, rather than is told."""


class Launch(NamedTuple):
    """How the attester's code was started: `digest` is its manifest's, None for type none."""

    type: str
    digest: Digest | None = None


class Run(NamedTuple):
    """One measured run: `id` 16 random bytes, `number` the run counter's value (from 1).

    `plan_token` is SHA-256 of the RFC 3161 response over the plan, which was there before the
    start. `seed` is the rule that sampling and shuffling follow: "nonce", or a number.
    """

    id: bytes
    number: int
    launch: Launch
    plan: Digest | None = None
    plan_token: Digest | None = None
    seed: Seed | None = None


class Code(NamedTuple):
    """A measured piece of code; `label` is its file name or version."""

    label: str
    digest: Digest


class Distributions(NamedTuple):
    """The installed distributions: digest of their sorted (name, version) list, and number."""

    digest: Digest
    number: int


class CodeSummary(NamedTuple):
    """How code was measured before it ran, and how many records of each event the log has.

    `modules`: "import-hook" (each file's digest was sent before it was compiled) or "none".
    `natives`: "enforced" (the kernel maps only measured copies) or "listed" (what the hook saw).
    """

    modules: str
    natives: str
    counts: Mapping[str, int]


class Workload(NamedTuple):
    """What ran. A commitment is SHA-256 over salt and value, or the public text itself."""

    entry: Code
    interpreter: Code
    arguments: tuple[Commitment, ...]
    environment: Mapping[str, Commitment]
    distributions: Distributions
    code: CodeSummary | None = None


class LogSummary(NamedTuple):
    """The run's log: `head` its hash chain's last value (32 bytes), `records` their number."""

    head: bytes
    records: int


class EvidenceRef(NamedTuple):
    """One piece of evidence: `key` is SHA-256 of the signing key's SubjectPublicKeyInfo."""

    kind: str
    key: bytes
    vouched_by: int | None = None


class Confinement(NamedTuple):
    """What the kernel refused the workload beyond namespaces.

    `landlock` is the ABI in force, 0 where the kernel has none; `limits` are resource limits by
    their names in setrlimit(2), without RLIMIT_, in its units.
    """

    landlock: int
    seccomp: bool
    limits: Mapping[str, int]


class Isolation(NamedTuple):
    """What separated the workload from the attester."""

    separation: str
    namespaces: tuple[str, ...]
    no_new_privs: bool
    attester_dumpable: bool
    network: bool
    confinement: Confinement | None = None


class Artifact(NamedTuple):
    """A measured file or folder: `size` in bytes, `files` a count."""

    type: str
    digest: Digest
    size: int
    files: int
    tree: Digest | None = None


class Interval(NamedTuple):
    """A confidence interval: `low` <= `high`, `confidence` in (0, 1)."""

    low: float
    high: float
    confidence: float
    method: str


class Property(NamedTuple):
    """One statement: `source` says whose word it is, `measurer` who computed it, `on` what."""

    name: str
    value: Value
    source: str
    measurer: str
    on: tuple[str, ...] = ()
    parameters: Mapping[str, Value] = _NONE
    unit: str | None = None
    interval: Interval | None = None
    adversary: Mapping[str, Value] | None = None


class Claims(NamedTuple):
    """All claims of a card. `iat` is the host's clock in seconds since 1970, `declared`."""

    kind: str
    iat: int
    run: Run
    workload: Workload
    log: LogSummary
    evidence: tuple[EvidenceRef, ...]
    isolation: Isolation
    inputs: Mapping[str, Artifact]
    outputs: Mapping[str, Artifact]
    properties: tuple[Property, ...]
    nonce: bytes | None = None
    cards: Mapping[str, bytes] | None = None
