"""Attestations that no honest TPM made for this card: in a whole card, one check says no.

The key is certified and every structure is signed again, except where the signature is the lie.
"""

import forge
import pytest
from verifying import claims, judge, obstacles, verdict_of, world

from laminator.card import binding
from laminator.claims import Launch
from laminator.claims_codec import encode_claims
from laminator.digest import Digest
from laminator.eventlog import replay
from laminator.evidence import tpm
from laminator.evidence import tpm_structures as structures
from laminator.evidence import tpm_wire as wire

ATTESTATIONS = ["counter", "start", "end"]
QUOTES = ["start", "end"]
TPM_IDS = ("tpm.", "run.counter.", "log.")


def changed(which: str, **changes: object) -> forge.World:
    """Return the honest world with one attestation changed, and really another one then."""
    honest = world()
    attest: structures.Attest = getattr(honest, which)
    lie = attest._replace(**changes)  # type: ignore[arg-type]
    assert lie != attest
    if which == "counter":
        return forge.world(claims=claims(), counter=lambda _: lie)
    return honest._replace(**{which: lie})  # type: ignore[arg-type]


def of_evidence(found: set[str]) -> set[str]:
    """Leave out what follows for the policy."""
    return {id_ for id_ in found if id_.startswith(TPM_IDS)}


def test_the_honest_world_is_accepted() -> None:
    result = judge(world())
    assert result.accepted, result.failures()


@pytest.mark.parametrize("which", ATTESTATIONS)
def test_a_structure_that_no_tpm_generated(which: str) -> None:
    forged = changed(which, magic=structures.TPM_GENERATED_VALUE + 1)
    assert of_evidence(obstacles(judge(forged))) == {"tpm.magic"}


@pytest.mark.parametrize("which", QUOTES)
def test_a_statement_of_another_kind_in_place_of_a_quote(which: str) -> None:
    result = judge(changed(which, type=0x801A, attested=b"\x00\x00"))
    assert verdict_of(result, "tpm.type") == "fail"
    assert verdict_of(result, "tpm.pcr-selection") == "not-checked"


@pytest.mark.parametrize("which", QUOTES)
def test_the_counters_certification_in_place_of_a_quote(which: str) -> None:
    counter = world().counter
    result = judge(changed(which, type=counter.type, attested=counter.attested))
    id_ = {"start": "tpm.start-pcr-digest", "end": "tpm.pcr-digest"}[which]
    assert of_evidence(obstacles(result)) == {"tpm.type", "tpm.pcr-selection", id_}
    assert verdict_of(result, "tpm.type") == "fail"
    assert verdict_of(result, id_) == "not-checked"


def test_a_quote_in_place_of_the_counters_certification() -> None:
    quote = world().start
    result = judge(changed("counter", type=quote.type, attested=quote.attested))
    assert of_evidence(obstacles(result)) == {"tpm.type", "run.counter.name", "run.counter.value"}
    assert verdict_of(result, "tpm.type") == "fail"
    assert verdict_of(result, "run.counter.name") == "not-checked"
    assert verdict_of(result, "run.counter.value") == "not-checked"


@pytest.mark.parametrize("which", ATTESTATIONS)
def test_a_signature_by_another_key(which: str) -> None:
    honest = world()
    other = forge.machine(label="another machine").key
    assert other.public_key() != honest.machine.key.public_key()
    signed = forge.signed(honest.machine, getattr(honest, which), other)
    carried = forge.evidence(honest)._replace(**{which: signed})  # type: ignore[arg-type]
    assert of_evidence(obstacles(judge(forge.card_bytes(honest, carried)))) == {"tpm.signature"}


@pytest.mark.parametrize("which", ATTESTATIONS)
def test_an_attestation_of_another_key(which: str) -> None:
    other = structures.qualified_name(forge.machine(label="another machine").ak)
    assert of_evidence(obstacles(judge(changed(which, qualified_signer=other)))) == {"tpm.signer"}


def test_claims_that_announce_another_key() -> None:
    honest = world()
    (reference,) = honest.claims.evidence
    lie = reference._replace(key=bytes(32))
    assert lie != reference
    final = honest.claims._replace(evidence=(lie,))
    bound = honest.end._replace(extra_data=binding(encode_claims(final)))
    result = judge(honest._replace(claims=final, end=bound))
    assert of_evidence(obstacles(result)) == {"tpm.key"}


def test_a_start_quote_made_over_another_log() -> None:
    found = obstacles(judge(changed("start", extra_data=bytes(32))))
    assert of_evidence(found) == {"tpm.start-binding"}


def test_an_end_quote_made_over_other_claims() -> None:
    assert of_evidence(obstacles(judge(changed("end", extra_data=bytes(32))))) == {"tpm.binding"}


@pytest.mark.parametrize("which", QUOTES)
@pytest.mark.parametrize(
    "selections",
    [(), (forge.selection(23),), (forge.selection(17, 23, algorithm=wire.ALG_SHA1),)],
    ids=["nothing", "without the launch", "sha-1"],
)
def test_a_quote_that_leaves_pcrs_out(
    which: str, selections: tuple[structures.PcrSelection, ...]
) -> None:
    quote = getattr(world(), which).attested._replace(selections=selections)
    found = of_evidence(obstacles(judge(changed(which, attested=quote))))
    assert found == {"tpm.pcr-selection"}


@pytest.mark.parametrize(
    ("which", "id_"), [("start", "tpm.start-pcr-digest"), ("end", "tpm.pcr-digest")]
)
def test_pcrs_of_another_log(which: str, id_: str) -> None:
    honest = world()
    launched = tpm.launch_pcr(forge.LAUNCH.digest.value) if forge.LAUNCH.digest else b""
    digest = forge.pcr_digest(honest.machine, launched + replay(honest.log[:1]))
    quote = getattr(honest, which).attested._replace(pcr_digest=digest)
    assert of_evidence(obstacles(judge(changed(which, attested=quote)))) == {id_}


@pytest.mark.parametrize("unlaunched", [b"\xff" * 32, bytes(32)], ids=["never", "failed"])
@pytest.mark.parametrize("which", QUOTES)
def test_a_launch_that_never_was(unlaunched: bytes, which: str) -> None:
    honest = world()
    head, id_ = (
        (replay(honest.log[:2]), "tpm.start-pcr-digest")
        if which == "start"
        else (replay(honest.log), "tpm.pcr-digest")
    )
    digest = forge.pcr_digest(honest.machine, unlaunched + head)
    quote = getattr(honest, which).attested._replace(pcr_digest=digest)
    result = judge(changed(which, attested=quote))
    assert of_evidence(obstacles(result)) == {id_, "tpm.launch"}
    assert verdict_of(result, "tpm.launch") == "fail"


@pytest.mark.parametrize(
    ("launch", "verdict"),
    [
        (Launch("drtm-simulated", Digest("sha-384", bytes(48))), "fail"),
        (Launch("drtm-txt", forge.LAUNCH.digest), "not-checked"),
    ],
    ids=["sha-384", "txt"],
)
def test_a_launch_that_no_pcr_can_show(launch: Launch, verdict: str) -> None:
    run = claims().run._replace(launch=launch)
    result = judge(forge.world(claims=claims()._replace(run=run)))
    assert verdict_of(result, "tpm.launch") == verdict
    assert verdict_of(result, "tpm.start-pcr-digest") == "not-checked"
    assert verdict_of(result, "tpm.pcr-digest") == "not-checked"
    assert result.trust.coverage == "none"
    assert not result.accepted


START = structures.ClockInfo(2000, 3, 1, safe=True)


@pytest.mark.parametrize(
    "clock",
    [
        START,
        START._replace(clock=1),
        START._replace(clock=9000, reset_count=4),
        START._replace(clock=9000, restart_count=2),
        START._replace(clock=9000, safe=False),
    ],
    ids=["at once", "before", "reset", "restart", "unsafe"],
)
def test_an_end_that_is_not_after_the_start(clock: structures.ClockInfo) -> None:
    assert world().start.clock_info == START
    assert of_evidence(obstacles(judge(changed("end", clock_info=clock)))) == {"tpm.clock"}


@pytest.mark.parametrize(
    "change",
    [{"offset": 1}, {"contents": bytes(8)}, {"contents": bytes(8) + b"\x07"}, {"contents": b""}],
    ids=["offset", "number", "longer", "empty"],
)
def test_a_certification_of_other_contents(change: dict[str, object]) -> None:
    attested = world().counter.attested
    assert isinstance(attested, structures.NvCertification)
    lie = attested._replace(**change)  # type: ignore[arg-type]
    found = of_evidence(obstacles(judge(changed("counter", attested=lie))))
    assert found == {"run.counter.value"}


def test_a_certification_of_another_index() -> None:
    attested = world().counter.attested
    assert isinstance(attested, structures.NvCertification)
    lie = attested._replace(index_name=attested.index_name[:2] + bytes(32))
    found = of_evidence(obstacles(judge(changed("counter", attested=lie))))
    assert found == {"run.counter.name"}


def test_a_certification_made_for_another_run() -> None:
    found = of_evidence(obstacles(judge(changed("counter", extra_data=bytes(32)))))
    assert found == {"run.counter.binding"}


@pytest.mark.parametrize(
    "clock",
    [START._replace(reset_count=2), START._replace(restart_count=0), START._replace(clock=2001)],
    ids=["reset", "restart", "after"],
)
def test_a_certification_of_another_time(clock: structures.ClockInfo) -> None:
    found = of_evidence(obstacles(judge(changed("counter", clock_info=clock))))
    assert found == {"run.counter.clock"}


@pytest.mark.parametrize(
    "change",
    [
        {"nv_index": structures.RUN_COUNTER_INDEX + 1},
        {"attributes": structures.COUNTER_ATTRIBUTES ^ 1 << 4},
        {"auth_policy": bytes(32)},
        {"data_size": 16},
    ],
    ids=["another", "ordinary", "with a policy", "longer"],
)
def test_an_endorsed_index_that_is_no_run_counter(change: dict[str, object]) -> None:
    machine = forge.machine()
    index = machine.counter._replace(**change)  # type: ignore[arg-type]
    assert index != machine.counter
    endorsed = forge.certified(machine._replace(counter=index))
    found = obstacles(judge(forge.world(endorsed, claims())))
    assert of_evidence(found) == {"run.counter.index"}
