"""Small valid values of the card's format that nothing stands behind, to be changed."""

from types import MappingProxyType

from laminator.card import Card, ConceptualMessage
from laminator.claims import (
    Artifact,
    Claims,
    Code,
    Distributions,
    EvidenceRef,
    Interval,
    Isolation,
    Launch,
    LogSummary,
    Property,
    Run,
    Workload,
)
from laminator.claims_codec import encode_claims
from laminator.digest import sha256
from laminator.eventlog import expected_records, replay

COUNTER_ATTEST = b"stands for a TPMS_ATTEST"


def claims() -> Claims:
    """Return claims with every optional field present, and a log that does not fit yet."""
    model = Artifact("model", sha256(b"model"), 5, 1)
    data = Artifact("dataset", sha256(b"data"), 4, 1, tree=sha256(b"tree"))
    return Claims(
        kind="evaluation",
        iat=1_790_000_000,
        run=Run(b"r" * 16, 7, Launch("drtm-simulated", sha256(b"attester")), sha256(b"plan")),
        workload=Workload(
            entry=Code("evaluate.py", sha256(b"code")),
            interpreter=Code("3.11.7", sha256(b"python")),
            arguments=(b"a" * 32, "--epochs=5"),
            environment=MappingProxyType({"LANG": "C.UTF-8", "HOME": b"h" * 32}),
            distributions=Distributions(sha256(b"numpy"), 1),
        ),
        log=LogSummary(bytes(32), 0),
        evidence=(EvidenceRef("tpm", b"k" * 32),),
        isolation=Isolation("namespaces", ("user", "mount", "pid", "net"), True, False, False),
        inputs=MappingProxyType({"model": model, "test": data}),
        outputs=MappingProxyType({"predictions": Artifact("file", sha256(b"out"), 3, 1)}),
        properties=(
            Property("licence", "CC-BY-4.0", "declared", "provider"),
            Property(
                "accuracy",
                0.75,
                "measured",
                "laminator.accuracy/1",
                on=("model", "test"),
                parameters=MappingProxyType({"n": 4, "rule": "argmax"}),
                unit="1",
                interval=Interval(0.3, 0.95, 0.95, "wilson"),
                adversary=MappingProxyType({"actor": "none"}),
            ),
        ),
        nonce=b"n" * 32,
        cards=MappingProxyType({"model": b"c" * 32}),
    )


def card() -> Card:
    """Return a card whose log fits its claims; its evidence is a placeholder."""
    draft = claims()
    log = expected_records(draft, COUNTER_ATTEST)
    final = draft._replace(log=LogSummary(replay(log), len(log)))
    message = ConceptualMessage("application/x-placeholder", b"evidence")
    return Card(encode_claims(final), final, log, (message,), (message,))
