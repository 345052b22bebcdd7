"""Claims to bytes and back: one encoding, strictly read.

Integer keys are registered CWT and EAT claims (RFC 8392, RFC 9711): 10 eat_nonce, 6 iat,
265 eat_profile.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from laminator import cbor
from laminator.cbor import Encodable, Value
from laminator.claims import (
    ARTIFACT_TYPES,
    KINDS,
    LAUNCH_TYPES,
    PROFILE,
    SEED_FROM_NONCE,
    SOURCES,
    Artifact,
    Claims,
    EvidenceRef,
    Interval,
    Launch,
    LogSummary,
    Property,
    Run,
    Seed,
)
from laminator.errors import MalformedError
from laminator.fields import (
    Fields,
    array,
    choice,
    digest,
    finite,
    malformed,
    name,
    named,
    octets,
    text,
    uint,
)
from laminator.workload_codec import (
    parse_isolation,
    parse_workload,
    plain_isolation,
    plain_workload,
    put,
    sha256_digest,
)

MAX_CLAIMS = 8 * 1024 * 1024
MAX_METRIC_INTEGER = 2**53
MODEL = "model"
MIN_NONCE_BYTES, MAX_NONCE_BYTES = 8, 64

_NONCE_KEY, _IAT_KEY, _PROFILE_KEY = 10, 6, 265
_MAX_ARTIFACTS = 1000
_MAX_EVIDENCE = 16


def parse_claims(data: bytes) -> Claims:
    """Parse the claims' deterministic CBOR. Raises MalformedError."""
    fields = Fields(cbor.decode(data, max_bytes=MAX_CLAIMS), "claims")
    fields.take(_PROFILE_KEY, choice(PROFILE))
    claims = Claims(
        kind=fields.take("kind", choice(*KINDS)),
        iat=fields.take(_IAT_KEY, uint),
        run=fields.take("run", parse_run),
        workload=fields.take("workload", parse_workload),
        log=fields.take("log", _log),
        evidence=fields.take("evidence", array(parse_evidence, least=1, most=_MAX_EVIDENCE)),
        isolation=fields.take("isolation", parse_isolation),
        inputs=fields.take("inputs", named(_artifact, most=_MAX_ARTIFACTS)),
        outputs=fields.take("outputs", named(_artifact, most=_MAX_ARTIFACTS)),
        properties=fields.take("properties", array(_property)),
        nonce=fields.optional(_NONCE_KEY, octets(MIN_NONCE_BYTES, MAX_NONCE_BYTES)),
        cards=fields.optional("cards", named(octets(32, 32), most=_MAX_ARTIFACTS)),
    )
    fields.close()
    _check_references(claims)
    return claims


def encode_claims(claims: Claims) -> bytes:
    """Return the claims' one encoding.

    Raises MalformedError where `parse_claims` would refuse them: what is written can be read.
    """
    encoded = cbor.encode(_plain_claims(claims))
    parse_claims(encoded)
    return encoded


def plain_run(run: Run) -> dict[cbor.Key, Encodable]:
    """Return `run` as the map that the claims hold."""
    launch: dict[cbor.Key, Encodable] = {"type": run.launch.type}
    put(launch, "digest", run.launch.digest)
    plain: dict[cbor.Key, Encodable] = {"id": run.id, "number": run.number, "launch": launch}
    put(plain, "plan", run.plan)
    put(plain, "plan-token", run.plan_token)
    put(plain, "seed", run.seed)
    return plain


def plain_artifact(artifact: Artifact) -> dict[cbor.Key, Encodable]:
    """Return `artifact` as the map that the claims hold."""
    plain: dict[cbor.Key, Encodable] = {
        "type": artifact.type,
        "digest": artifact.digest,
        "size": artifact.size,
        "files": artifact.files,
    }
    put(plain, "tree", artifact.tree)
    return plain


def plain_property(item: Property) -> dict[cbor.Key, Encodable]:
    """Return `item` as the map that the claims hold."""
    plain: dict[cbor.Key, Encodable] = {
        "name": item.name,
        "value": item.value,
        "source": item.source,
        "measurer": item.measurer,
        "on": item.on,
        "parameters": item.parameters,
    }
    put(plain, "unit", item.unit)
    put(plain, "interval", None if item.interval is None else item.interval._asdict())
    put(plain, "adversary", item.adversary)
    return plain


def statement_subject(item: Property) -> bytes:
    """Return what `item` is about and by whose word; no two properties of a card share one."""
    about = sorted(set(item.on))
    whose = (item.source, item.measurer)
    return cbor.encode([item.name, *whose, about, item.parameters, item.adversary])


def parse_property(value: Value, path: str) -> Property:
    """Parse one property. Raises MalformedError."""
    return _property(value, path)


def parse_run(value: Value, path: str) -> Run:
    """Parse what `plain_run` writes. Raises MalformedError."""
    fields = Fields(value, path)
    run = Run(
        id=fields.take("id", octets(16, 16)),
        number=fields.take("number", uint),
        launch=fields.take("launch", _launch),
        plan=fields.optional("plan", digest),
        plan_token=fields.optional("plan-token", sha256_digest),
        seed=fields.optional("seed", parse_seed),
    )
    fields.close()
    return run


def plain_evidence(ref: EvidenceRef) -> dict[cbor.Key, Encodable]:
    """Return `ref` as the map that the claims hold."""
    plain: dict[cbor.Key, Encodable] = {"kind": ref.kind, "key": ref.key}
    put(plain, "vouched-by", ref.vouched_by)
    return plain


def parse_evidence(value: Value, path: str) -> EvidenceRef:
    """Parse what `plain_evidence` writes. Raises MalformedError."""
    fields = Fields(value, path)
    ref = EvidenceRef(
        kind=fields.take("kind", name),
        key=fields.take("key", octets(32, 32)),
        vouched_by=fields.optional("vouched-by", uint),
    )
    fields.close()
    return ref


def _plain_claims(claims: Claims) -> dict[cbor.Key, Encodable]:
    plain: dict[cbor.Key, Encodable] = {
        _IAT_KEY: claims.iat,
        _PROFILE_KEY: PROFILE,
        "kind": claims.kind,
        "run": plain_run(claims.run),
        "workload": plain_workload(claims.workload),
        "log": claims.log._asdict(),
        "evidence": tuple(plain_evidence(ref) for ref in claims.evidence),
        "isolation": plain_isolation(claims.isolation),
        "inputs": {key: plain_artifact(item) for key, item in claims.inputs.items()},
        "outputs": {key: plain_artifact(item) for key, item in claims.outputs.items()},
        "properties": tuple(plain_property(item) for item in claims.properties),
    }
    put(plain, _NONCE_KEY, claims.nonce)
    put(plain, "cards", claims.cards)
    return plain


def parse_seed(value: Value, path: str) -> Seed:
    """Parse a seed's rule: "nonce", or a number. Raises MalformedError."""
    if value == SEED_FROM_NONCE:
        return SEED_FROM_NONCE
    number = uint(value, path)
    if number > MAX_METRIC_INTEGER:
        raise malformed(path, f"at most {MAX_METRIC_INTEGER}", value)
    return number


def _launch(value: Value, path: str) -> Launch:
    fields = Fields(value, path)
    launch = Launch(fields.take("type", choice(*LAUNCH_TYPES)), fields.optional("digest", digest))
    fields.close()
    if (launch.type == "none") != (launch.digest is None):
        raise MalformedError("launch.digest", "a digest, except for type none", path=path)
    return launch


def _log(value: Value, path: str) -> LogSummary:
    fields = Fields(value, path)
    summary = LogSummary(fields.take("head", octets(32, 32)), fields.take("records", uint))
    fields.close()
    return summary


def _artifact(value: Value, path: str) -> Artifact:
    fields = Fields(value, path)
    artifact = Artifact(
        type=fields.take("type", choice(*ARTIFACT_TYPES)),
        digest=fields.take("digest", digest),
        size=fields.take("size", uint),
        files=fields.take("files", uint),
        tree=fields.optional("tree", digest),
    )
    fields.close()
    return artifact


def _property(value: Value, path: str) -> Property:
    fields = Fields(value, path)
    item = Property(
        name=fields.take("name", name),
        value=fields.take("value", _metric),
        source=fields.take("source", choice(*SOURCES)),
        measurer=fields.take("measurer", text),
        on=fields.take("on", array(name, most=_MAX_ARTIFACTS)),
        parameters=fields.take("parameters", _details),
        unit=fields.optional("unit", text),
        interval=fields.optional("interval", _interval),
        adversary=fields.optional("adversary", _details),
    )
    fields.close()
    if item.interval is not None and not _holds(item.interval, item.value):
        raise malformed(f"{path}.interval", "an interval that holds the value", item.value)
    return item


def _holds(interval: Interval, value: Value) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return interval.low <= value <= interval.high


def _interval(value: Value, path: str) -> Interval:
    fields = Fields(value, path)
    interval = Interval(
        low=fields.take("low", finite),
        high=fields.take("high", finite),
        confidence=fields.take("confidence", finite),
        method=fields.take("method", name),
    )
    fields.close()
    if not (interval.low <= interval.high and 0 < interval.confidence < 1):
        raise malformed(path, "low <= high and 0 < confidence < 1", tuple(interval))
    return interval


def _details(value: Value, path: str) -> Mapping[str, Value]:
    return named(_metric)(value, path)


def _metric(value: Value, path: str) -> Value:
    """Parse a value of a property: finite, and exact in every JSON reader (RFC 8259 section 6)."""
    match value:
        case bool() | None:
            return value
        case str():
            return text(value, path)
        case int() if abs(value) <= MAX_METRIC_INTEGER:
            return value
        case float() if math.isfinite(value):
            return value
        case tuple():
            return array(_metric)(value, path)
        case dict():
            return MappingProxyType(dict[cbor.Key, Value](named(_metric)(value, path).items()))
        case _:
            raise malformed(path, "text, a truth value, a finite number, or these nested", value)


def _check_references(claims: Claims) -> None:
    for target in claims.inputs.keys() & claims.outputs.keys():
        raise malformed("claims.outputs", "a name that no input has", target)
    known = {**claims.inputs, **claims.outputs}
    if MODEL in known and known[MODEL].type != MODEL:
        raise malformed(f"claims.{MODEL}", f"the type {MODEL}", known[MODEL].type)
    for target in claims.cards or ():
        if target not in claims.inputs:
            raise malformed("claims.cards", "the name of an input", target)
    _check_statements(claims.properties, known)


def _check_statements(properties: tuple[Property, ...], known: Mapping[str, Artifact]) -> None:
    seen: set[bytes] = set()
    for index, item in enumerate(properties):
        path = f"claims.properties[{index}]"
        for target in item.on:
            if target not in known:
                raise malformed(f"{path}.on", "the name of an input or output", target)
        if (subject := statement_subject(item)) in seen:
            raise malformed(path, "each thing stated once by each source", item.name)
        seen.add(subject)
