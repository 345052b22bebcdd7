"""What ran and what separated it, to plain values and back: parts of the claims.

`laminator.claims_codec` reads and writes the whole; `docs/card.cddl` describes the encoding.
"""

from laminator import cbor
from laminator.cbor import Encodable, Value
from laminator.claims import (
    CODE_EVENTS,
    MODULE_METHODS,
    NATIVE_METHODS,
    SEPARATIONS,
    Code,
    CodeSummary,
    Commitment,
    Confinement,
    Distributions,
    Isolation,
    Workload,
)
from laminator.digest import Digest
from laminator.fields import (
    Fields,
    array,
    choice,
    digest,
    flag,
    malformed,
    name,
    named,
    octets,
    text,
    uint,
)

_MAX_NAMESPACES = 16


def plain_isolation(isolation: Isolation) -> dict[cbor.Key, Encodable]:
    """Return `isolation` as the map that the claims hold."""
    plain: dict[cbor.Key, Encodable] = {
        "separation": isolation.separation,
        "namespaces": isolation.namespaces,
        "no-new-privs": isolation.no_new_privs,
        "attester-dumpable": isolation.attester_dumpable,
        "network": isolation.network,
    }
    confinement = isolation.confinement
    put(plain, "confinement", None if confinement is None else confinement._asdict())
    return plain


def plain_workload(workload: Workload) -> dict[cbor.Key, Encodable]:
    """Return `workload` as the map that the claims hold."""
    plain: dict[cbor.Key, Encodable] = {
        "entry": workload.entry._asdict(),
        "interpreter": workload.interpreter._asdict(),
        "arguments": workload.arguments,
        "environment": workload.environment,
        "distributions": workload.distributions._asdict(),
    }
    put(plain, "code", None if workload.code is None else workload.code._asdict())
    return plain


def put(plain: dict[cbor.Key, Encodable], key: cbor.Key, value: Encodable) -> None:
    """Set `key` in `plain`, unless the value is None: an optional field is absent then."""
    if value is not None:
        plain[key] = value


def parse_workload(value: Value, path: str) -> Workload:
    """Parse what `plain_workload` writes. Raises MalformedError."""
    fields = Fields(value, path)
    workload = Workload(
        entry=fields.take("entry", _code),
        interpreter=fields.take("interpreter", _code),
        arguments=fields.take("arguments", array(_commitment)),
        environment=fields.take("environment", named(_commitment)),
        distributions=fields.take("distributions", _distributions),
        code=fields.optional("code", _code_summary),
    )
    fields.close()
    return workload


def parse_isolation(value: Value, path: str) -> Isolation:
    """Parse what `plain_isolation` writes. Raises MalformedError."""
    fields = Fields(value, path)
    isolation = Isolation(
        separation=fields.take("separation", choice(*SEPARATIONS)),
        namespaces=fields.take("namespaces", array(name, most=_MAX_NAMESPACES)),
        no_new_privs=fields.take("no-new-privs", flag),
        attester_dumpable=fields.take("attester-dumpable", flag),
        network=fields.take("network", flag),
        confinement=fields.optional("confinement", _confinement),
    )
    fields.close()
    return isolation


def sha256_digest(value: Value, path: str) -> Digest:
    """Parse a digest by SHA-256, and by no other algorithm. Raises MalformedError."""
    found = digest(value, path)
    if found.algorithm != "sha-256":
        raise malformed(path, "a digest by sha-256", value)
    return found


def _code_summary(value: Value, path: str) -> CodeSummary:
    fields = Fields(value, path)
    summary = CodeSummary(
        modules=fields.take("modules", choice(*MODULE_METHODS)),
        natives=fields.take("natives", choice(*NATIVE_METHODS)),
        counts=fields.take("counts", named(uint)),
    )
    fields.close()
    for event in summary.counts:
        choice(*CODE_EVENTS)(event, f"{path}.counts")
    return summary


def _code(value: Value, path: str) -> Code:
    fields = Fields(value, path)
    code = Code(fields.take("label", text), fields.take("digest", sha256_digest))
    fields.close()
    return code


def _distributions(value: Value, path: str) -> Distributions:
    fields = Fields(value, path)
    distributions = Distributions(fields.take("digest", digest), fields.take("number", uint))
    fields.close()
    return distributions


def _commitment(value: Value, path: str) -> Commitment:
    return octets(32, 32)(value, path) if isinstance(value, bytes) else text(value, path)


def _confinement(value: Value, path: str) -> Confinement:
    fields = Fields(value, path)
    confinement = Confinement(
        landlock=fields.take("landlock", uint),
        seccomp=fields.take("seccomp", flag),
        limits=fields.take("limits", named(uint)),
    )
    fields.close()
    return confinement
