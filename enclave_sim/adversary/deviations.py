"""One deviation from a valid card, and everything signed again that its prover could sign again.

Each function takes a world and returns another. What a prover with a TPM signs (quotes, the
counter's certification, with its own key over its own log) is made anew for the lie; what its
authority signs is made anew only where a function says that the authority helps.
"""

from collections.abc import Callable
from typing import Literal

from cryptography import x509

from enclave_sim.adversary import forged_pki as pki
from enclave_sim.adversary.forged_tpm import certified, signed
from enclave_sim.adversary.forged_world import World, attested, end_quote, evidence, world
from laminator.card import ConceptualMessage
from laminator.eventlog import Record
from laminator.evidence import tpm_structures as structures

Which = Literal["counter", "start", "end"]
Log = tuple[Record, ...]


def other_claims(world_: World, **changes: object) -> World:
    """Change the claims after the run: the end quote is over them, log and start are as they were.

    `forged_world.world(claims=...)` makes a whole run for its claims instead.
    """
    final = world_.claims._replace(**changes)  # type: ignore[arg-type]
    end = end_quote(world_.machine, final, world_.log)
    return world_._replace(claims=final, end=end)


def other_log(world_: World, edit: Callable[[Log], Log]) -> World:
    """Extend PCR 23 with another log: head, count and both quotes are made for it."""
    return attested(world_.machine, world_.claims, edit(world_.log), world_.counter)


def carried_log(world_: World, edit: Callable[[Log], Log]) -> World:
    """Carry another log than the one that PCR 23 was extended with; nothing is signed again."""
    return world_._replace(log=edit(world_.log))


def other_attest(world_: World, which: Which, **changes: object) -> World:
    """Change one attestation; the certification's digest goes into the log of a new run."""
    if which == "counter":
        lied = world_.counter._replace(**changes)  # type: ignore[arg-type]
        return world(world_.machine, world_.claims, lambda _: lied)
    attest: structures.Attest = getattr(world_, which)
    lie = attest._replace(**changes)  # type: ignore[arg-type]
    return world_._replace(**{which: lie})  # type: ignore[arg-type]


def other_bytes(world_: World, which: Which, edit: Callable[[bytes], bytes]) -> World:
    """Sign other bytes in place of one attestation's."""
    honest: structures.Attest = getattr(world_, which)
    lie = signed(world_.machine, edit(structures.marshal_attest(honest)))
    return world_._replace(
        carried=evidence(world_)._replace(**{which: lie})  # type: ignore[arg-type]
    )


def other_signature(
    world_: World, which: Which, edit: Callable[[structures.Signature], structures.Signature]
) -> World:
    """Change one signature after it was made."""
    carried = evidence(world_)
    honest = getattr(carried, which)
    lie = structures.marshal_signature(edit(structures.parse_signature(honest.signature)))
    return world_._replace(carried=carried._replace(**{which: honest._replace(signature=lie)}))


def other_key(world_: World, **changes: object) -> World:
    """Carry another public area than the AK's own; what the AK signed stays as it was."""
    carried = evidence(world_)
    lie = world_.machine.ak._replace(**changes)  # type: ignore[arg-type]
    return world_._replace(carried=carried._replace(ak=structures.marshal_public(lie)))


def other_certificates(world_: World, *certificates: bytes) -> World:
    """Carry other certificates, DER, the AK's first."""
    machine = world_.machine._replace(certificates=certificates)
    return world_._replace(machine=machine)


def helped_by_the_authority(world_: World, **changes: object) -> World:
    """Have the authority certify the AK with other contents: the fields of `forged_pki.Spec`."""
    return world_._replace(machine=certified(world_.machine, **changes))


def other_lists(world_: World, *crls: x509.CertificateRevocationList) -> World:
    """Let the verifier hold these revocation lists and no others."""
    trust = world_.machine.trust._replace(crls=crls)
    return world_._replace(machine=world_.machine._replace(trust=trust))


def revoking(world_: World, spec: pki.CrlSpec | None = None) -> x509.CertificateRevocationList:
    """Return the authority's list that revokes the AK's certificate."""
    leaf = x509.load_der_x509_certificate(world_.machine.certificates[0])
    entry = pki.Revoked(leaf.serial_number)
    return pki.crl(world_.machine.authority, (spec or pki.CrlSpec())._replace(revoked=(entry,)))


def endorsed(world_: World, *messages: ConceptualMessage) -> World:
    """Add endorsements to the finished card."""
    return world_._replace(endorsements=(*world_.endorsements, *messages))
