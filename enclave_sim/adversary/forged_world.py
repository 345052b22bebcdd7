"""A whole valid card in memory, and the verifier who judges it: to alter in one place.

Typical use::

    honest = world()                           # everything valid and consistent
    bad = honest._replace(end=honest.end._replace(extra_data=bytes(32)))
    failing(checks(bad))                       # only tpm.binding
    failures(judge(bad))                       # the same, by the whole verifier

`world(machine, claims, counter)` makes everything anew and consistent after a change further up;
`deviations` holds the changes that come up again and again.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from enclave_sim.adversary import forged_claims
from enclave_sim.adversary import forged_pki as pki
from enclave_sim.adversary.forged_tpm import Machine, certification, machine, quote, signed
from laminator.appraise.check import Check
from laminator.appraise.policy import Policy, References
from laminator.appraise.result import VerificationResult
from laminator.appraise.verify import verify
from laminator.card import Card, ConceptualMessage, binding, encode_card
from laminator.claims import Claims, EvidenceRef, Launch, LogSummary
from laminator.claims_codec import encode_claims
from laminator.digest import sha256
from laminator.eventlog import (
    START_QUOTE_RECORDS,
    Record,
    expected_records,
    replay,
    start_quote_binding,
)
from laminator.evidence import tpm
from laminator.evidence import tpm_structures as structures
from laminator.evidence.tpm_key import key_digest

NOW = pki.NOW
LAUNCH = Launch("drtm-simulated", sha256(b"the attester's manifest"))
IAT = int(NOW.timestamp()) - 3600
POLICY = Policy(
    name="test",
    roots=("simulated",),
    coverage="launch",
    coverage_named=True,
    references=References(launch=frozenset({sha256(b"the attester's manifest")})),
    data_chosen_by="provider",
)


class World(NamedTuple):
    """Everything a card is made of, unsigned; `card` and `evidence` sign it.

    `carried` is evidence that the card has in place of what the machine signs, `endorsements` what
    is added to the finished card.
    """

    machine: Machine
    claims: Claims
    log: tuple[Record, ...]
    counter: structures.Attest
    start: structures.Attest
    end: structures.Attest
    carried: tpm.TpmEvidence | None = None
    endorsements: tuple[ConceptualMessage, ...] = ()


def claims(**changes: object) -> Claims:
    """Return claims as of an hour before NOW, launched, without other cards."""
    draft = forged_claims.claims()._replace(cards=None, iat=IAT)
    draft = draft._replace(run=draft.run._replace(launch=LAUNCH))
    return draft._replace(**changes)  # type: ignore[arg-type]


def world(
    machine_: Machine | None = None,
    claims: Claims | None = None,
    counter: Callable[[structures.Attest], structures.Attest] = lambda attest: attest,
) -> World:
    """Return a consistent world, of the default machine with the sample's claims.

    `counter` changes the counter's certification before its digest goes into the log.
    """
    machine_ = machine_ or machine()
    draft = claims or forged_claims.claims()._replace(cards=None)
    if claims is None:
        draft = draft._replace(run=draft.run._replace(launch=LAUNCH))
    certified = counter(certification(machine_, draft))
    log = expected_records(draft, structures.marshal_attest(certified))
    key = key_digest(machine_.ak).value
    draft = draft._replace(evidence=(EvidenceRef("tpm", key),))
    return attested(machine_, draft, log, certified)


def attested(
    machine_: Machine, claims: Claims, log: tuple[Record, ...], counter: structures.Attest
) -> World:
    """Return the world of this log, whatever it says: head, count and quotes are made for it."""
    final = claims._replace(log=LogSummary(replay(log), len(log)))
    head = replay(log[:START_QUOTE_RECORDS])
    start = quote(machine_, final, head, start_quote_binding(head), 2000)
    return World(machine_, final, log, counter, start, end_quote(machine_, final, log))


def end_quote(machine_: Machine, claims: Claims, log: tuple[Record, ...]) -> structures.Attest:
    """Return the end quote over `claims`, at the end of `log`."""
    return quote(machine_, claims, replay(log), binding(encode_claims(claims)), 9000)


def evidence(world_: World) -> tpm.TpmEvidence:
    """Return the world's evidence as carried, everything signed."""
    if world_.carried is not None:
        return world_.carried
    machine_ = world_.machine
    return tpm.TpmEvidence(
        structures.marshal_public(machine_.ak),
        machine_.certificates,
        signed(machine_, world_.start),
        signed(machine_, world_.end),
        signed(machine_, world_.counter),
        structures.marshal_nv_public(machine_.counter),
    )


def card(world_: World, carried: tpm.TpmEvidence | None = None) -> Card:
    """Return the world's card, with `carried` in place of its own evidence if given."""
    value = tpm.encode_tpm_evidence(carried or evidence(world_))
    message = ConceptualMessage(tpm.TPM_MEDIA_TYPE, value)
    claims_bytes = encode_claims(world_.claims)
    return Card(claims_bytes, world_.claims, world_.log, (message,), world_.endorsements)


def card_bytes(world_: World, carried: tpm.TpmEvidence | None = None) -> bytes:
    """Return the encoded card."""
    return encode_card(card(world_, carried))


def checks(world_: World, carried: tpm.TpmEvidence | None = None) -> dict[str, Check]:
    """Return the checks of the world's TPM evidence by id, the counter's Name endorsed."""
    made = card(world_, carried)
    endorsed = structures.name(machine().counter)
    parsed = tpm.parse_tpm_evidence(made.evidence[0].value)
    expected = tpm.expect(made, made.claims.evidence[0], endorsed)
    return {check.id: check for check in tpm.check_tpm_evidence(parsed, expected)}


def failing(found: Mapping[str, Check]) -> set[str]:
    """Return the ids of the checks that failed."""
    return {check.id for check in found.values() if check.verdict == "fail"}


def judge(judged: World | bytes, policy: Policy = POLICY, **given: Any) -> VerificationResult:  # noqa: ANN401
    """Verify a world's card, or a card's bytes, at NOW with the machine's trust.

    `given` are the arguments of `laminator.verify`, in place of these or more.
    """
    made = judged if isinstance(judged, bytes) else card_bytes(judged)
    trust = machine().trust if isinstance(judged, bytes) else judged.machine.trust
    return verify(made, policy, **{"trust": trust, "now": NOW, **given})


def obstacles(result: VerificationResult) -> set[str]:
    """Return the ids of the checks that forbid acceptance."""
    return {check.id for check in result.failures()}


def failures(result: VerificationResult) -> set[str]:
    """Return the ids of the checks that failed, without what follows for the policy."""
    failed = {check.id for check in result.checks if check.verdict == "fail"}
    return {id_ for id_ in failed if not id_.startswith("policy.")}


def verdict_of(result: VerificationResult, id_: str) -> str:
    """Return the verdict of the one check with that id."""
    (verdict,) = (check.verdict for check in result.checks if check.id == id_)
    return verdict
