import hashlib
from collections.abc import Callable

import forge
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_sim.adversary import forged_claims as samples
from laminator import cbor
from laminator.claims import Claims, EvidenceRef, Launch
from laminator.digest import Digest, sha256
from laminator.errors import MalformedError
from laminator.eventlog import replay
from laminator.evidence import tpm
from laminator.evidence import tpm_structures as structures
from laminator.evidence import tpm_wire as wire

Change = Callable[[forge.World], forge.World]
Attest = structures.Attest

IDS = [
    "tpm.magic",
    "tpm.type",
    "tpm.algorithm",
    "tpm.ak-attributes",
    "tpm.signature",
    "tpm.signer",
    "tpm.key",
    "tpm.start-binding",
    "tpm.binding",
    "tpm.pcr-selection",
    "tpm.start-pcr-digest",
    "tpm.pcr-digest",
    "tpm.launch",
    "tpm.clock",
    "run.counter.index",
    "run.counter.name",
    "run.counter.endorsed",
    "run.counter.value",
    "run.counter.binding",
    "run.counter.clock",
]


def with_launch(launch: Launch) -> Claims:
    claims = samples.claims()._replace(cards=None)
    return claims._replace(run=claims.run._replace(launch=launch))


def appraise(world: forge.World, endorsed: bytes | None) -> tpm.TpmAppraisal:
    card = forge.card(world)
    parsed = tpm.parse_tpm_evidence(card.evidence[0].value)
    return tpm.verify_tpm_evidence(parsed, tpm.expect(card, card.claims.evidence[0], endorsed))


def only(world: forge.World, id_: str, words: str) -> None:
    """The check `id_` alone stops this world, and says why."""
    found = forge.checks(world)
    assert forge.failing(found) == {id_}
    assert words in found[id_].detail
    endorsed = structures.name(forge.machine().counter)
    assert appraise(world, endorsed).verified is None


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ecdsa-p384", "rsassa", "rsapss"])
def test_honest_evidence_passes_every_check(algorithm: str) -> None:
    world = forge.world(forge.machine(algorithm))
    found = forge.checks(world)
    assert list(found) == IDS
    assert {check.verdict for check in found.values()} == {"pass"}


def test_honest_evidence_gives_a_verified_value() -> None:
    world = forge.world()
    appraisal = appraise(world, structures.name(world.machine.counter))
    assert appraisal.verified == tpm.VerifiedTpm(
        key=world.claims.evidence[0].key,
        launch=forge.LAUNCH,
        run_number=7,
        milliseconds=7000,
    )


def test_without_a_launch_pcr_23_alone_is_quoted() -> None:
    world = forge.world(claims=with_launch(Launch("none")))
    found = forge.checks(world)
    assert found["tpm.launch"].verdict == "not-applicable"
    assert {check.verdict for check in found.values()} == {"pass", "not-applicable"}
    assert appraise(world, structures.name(world.machine.counter)).verified is not None


def test_a_platform_defined_counter_is_a_run_counter() -> None:
    machine = forge.machine()
    attributes = structures.COUNTER_ATTRIBUTES | structures.PLATFORMCREATE
    machine = machine._replace(counter=machine.counter._replace(attributes=attributes))
    found = forge.checks(forge.world(machine))
    assert found["run.counter.index"].verdict == "pass"


def test_without_a_verified_certificate_the_counter_is_not_endorsed() -> None:
    appraisal = appraise(forge.world(), None)
    verdicts = {check.id: check.verdict for check in appraisal.checks}
    assert verdicts["run.counter.endorsed"] == "not-checked"
    assert appraisal.verified is None


ATTESTATIONS = ["counter", "start", "end"]


def changed(world: forge.World, which: str, **changes: object) -> forge.World:
    """Change one attestation of a world; the counter's goes into the log anew."""
    if which == "counter":
        return forge.world(
            world.machine,
            counter=lambda attest: attest._replace(**changes),  # type: ignore[arg-type]
        )
    attest: Attest = getattr(world, which)
    return world._replace(**{which: attest._replace(**changes)})  # type: ignore[arg-type]


def carrying(carried: tpm.TpmEvidence, which: str, signed: tpm.SignedAttest) -> tpm.TpmEvidence:
    """Put other bytes in place of one attestation."""
    return carried._replace(**{which: signed})  # type: ignore[arg-type]


@pytest.mark.parametrize("which", ATTESTATIONS)
def test_a_structure_not_made_by_a_tpm(which: str) -> None:
    only(changed(forge.world(), which, magic=0xFF544348), "tpm.magic", "0xff544348")


@pytest.mark.parametrize("which", ["start", "end"])
def test_another_kind_of_attestation_in_place_of_a_quote(which: str) -> None:
    world = changed(forge.world(), which, type=0x801A, attested=b"\x00\x00")
    found = forge.checks(world)
    assert forge.failing(found) == {"tpm.type"}
    assert found["tpm.pcr-selection"].verdict == "not-checked"


def test_a_quote_in_place_of_the_counters_certification() -> None:
    quote = forge.world().end
    world = changed(forge.world(), "counter", type=quote.type, attested=quote.attested)
    found = forge.checks(world)
    assert forge.failing(found) == {"tpm.type"}
    assert found["run.counter.name"].verdict == "not-checked"
    assert found["run.counter.value"].verdict == "not-checked"


def with_ak(**changes: object) -> forge.World:
    machine = forge.machine()
    return forge.world(machine._replace(ak=machine.ak._replace(**changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "attributes",
    [structures.AK_ATTRIBUTES_SET & ~(1 << bit) for bit in (1, 4, 5, 6, 16, 18)]
    + [structures.AK_ATTRIBUTES_SET | 1 << bit for bit in (17, 19)],
)
def test_a_key_that_is_not_a_restricted_signing_key(attributes: int) -> None:
    only(with_ak(attributes=attributes), "tpm.ak-attributes", f"{attributes:#010x}")


def test_a_key_without_a_scheme() -> None:
    parameters = forge.machine().ak.parameters._replace(scheme=None)
    only(with_ak(parameters=parameters), "tpm.algorithm", "no scheme")


def test_a_key_on_p521() -> None:
    only(forge.world(forge.machine("ecdsa-p521")), "tpm.algorithm", "not ECDSA over P-256")


def test_an_rsa_key_of_1024_bits() -> None:
    only(forge.world(forge.machine("rsassa-1024")), "tpm.algorithm", "at least 2048 bits")


def test_a_key_whose_scheme_is_sha1() -> None:
    machine = forge.machine()
    scheme = structures.Scheme(wire.ALG_ECDSA, wire.ALG_SHA1)
    parameters = machine.ak.parameters._replace(scheme=scheme)
    machine = machine._replace(ak=machine.ak._replace(parameters=parameters))  # type: ignore[arg-type]
    found = forge.checks(forge.world(machine))
    assert "no scheme with SHA-256" in found["tpm.algorithm"].detail
    assert {"tpm.algorithm", "tpm.signature"} <= forge.failing(found)


def test_an_rsa_key_for_encryption() -> None:
    machine = forge.machine("rsassa")
    parameters = machine.ak.parameters._replace(
        scheme=structures.Scheme(wire.ALG_OAEP, wire.ALG_SHA256)
    )
    ak = machine.ak._replace(parameters=parameters)  # type: ignore[arg-type]
    world = forge.world(machine)
    carried = forge.evidence(world)._replace(ak=structures.marshal_public(ak))
    found = forge.checks(world, carried)
    assert "RSA AK that is not RSASSA" in found["tpm.algorithm"].detail


def test_an_ecc_key_for_another_scheme() -> None:
    scheme = structures.Scheme(wire.ALG_ECDAA, wire.ALG_SHA256, 0)
    parameters = forge.machine().ak.parameters._replace(scheme=scheme)
    only(with_ak(parameters=parameters), "tpm.algorithm", "not ECDSA")


@pytest.mark.parametrize("which", ATTESTATIONS)
def test_a_signature_with_another_scheme_than_the_keys(which: str) -> None:
    world = forge.world()
    carried = forge.evidence(world)
    signed: tpm.SignedAttest = getattr(carried, which)
    scheme = structures.Scheme(wire.ALG_ECDSA, wire.ALG_SHA512)
    signature = forge.sign(world.machine.key, signed.attest, scheme)
    carried = carrying(carried, which, signed._replace(signature=signature))
    found = forge.checks(world, carried)
    assert forge.failing(found) >= {"tpm.algorithm"}
    assert "tpm.signature" not in forge.failing(found)


@pytest.mark.parametrize("which", ATTESTATIONS)
def test_a_signature_by_another_key(which: str) -> None:
    world = forge.world()
    carried = forge.evidence(world)
    signed: tpm.SignedAttest = getattr(carried, which)
    other = forge.machine(label="another machine")
    scheme = world.machine.ak.parameters.scheme
    assert scheme is not None
    signature = forge.sign(other.key, signed.attest, scheme)
    carried = carrying(carried, which, signed._replace(signature=signature))
    assert forge.failing(forge.checks(world, carried)) == {"tpm.signature"}


@pytest.mark.parametrize("which", ATTESTATIONS)
def test_an_attestation_that_names_another_signer(which: str) -> None:
    other = structures.qualified_name(forge.machine(label="another machine").ak)
    only(changed(forge.world(), which, qualified_signer=other), "tpm.signer", "qualifiedSigner")


def test_a_public_area_dressed_up_after_the_fact() -> None:
    world = forge.world()
    dressed = world.machine.ak._replace(auth_policy=bytes(32))
    carried = forge.evidence(world)._replace(ak=structures.marshal_public(dressed))
    assert forge.failing(forge.checks(world, carried)) == {"tpm.signer"}


@pytest.mark.parametrize("reference", [EvidenceRef("tpm", bytes(32)), None])
def test_claims_that_announce_another_key_or_kind(reference: EvidenceRef | None) -> None:
    world = forge.world()
    reference = reference or world.claims.evidence[0]._replace(kind="snp")
    card = forge.card(world)
    parsed = tpm.parse_tpm_evidence(card.evidence[0].value)
    expected = tpm.expect(card, reference, structures.name(world.machine.counter))
    found = {check.id: check for check in tpm.check_tpm_evidence(parsed, expected)}
    assert forge.failing(found) == {"tpm.key"}


def test_a_start_quote_of_another_run() -> None:
    only(changed(forge.world(), "start", extra_data=bytes(32)), "tpm.start-binding", "00" * 32)


def test_an_end_quote_over_other_claims() -> None:
    only(changed(forge.world(), "end", extra_data=bytes(32)), "tpm.binding", "00" * 32)


def test_a_binding_with_a_trailing_byte() -> None:
    extra = forge.world().end.extra_data + b"\x00"
    only(changed(forge.world(), "end", extra_data=extra), "tpm.binding", "not")


@pytest.mark.parametrize(
    "selections",
    [
        (),
        (forge.selection(23),),
        (forge.selection(16, 17, 23),),
        (forge.selection(17, 23, algorithm=wire.ALG_SHA1),),
        (forge.selection(17, 23), forge.selection(17, 23, algorithm=wire.ALG_SHA1)),
        (forge.selection(17, 23), forge.selection()),
    ],
)
@pytest.mark.parametrize("which", ["start", "end"])
def test_a_quote_of_other_pcrs(which: str, selections: tuple[structures.PcrSelection, ...]) -> None:
    world = forge.world()
    quote = getattr(world, which).attested._replace(selections=selections)
    only(changed(world, which, attested=quote), "tpm.pcr-selection", f"{which} quote selects")


@pytest.mark.parametrize(
    ("which", "id_"), [("start", "tpm.start-pcr-digest"), ("end", "tpm.pcr-digest")]
)
def test_pcrs_that_the_log_does_not_give(which: str, id_: str) -> None:
    world = forge.world()
    digest = forge.pcr_digest(world.machine, tpm.launch_pcr(bytes(32)) + replay(world.log))
    quote = getattr(world, which).attested._replace(pcr_digest=digest)
    only(changed(world, which, attested=quote), id_, "not what log and launch give")


def test_an_unwanted_selection_is_told_in_words() -> None:
    world = forge.world()
    for selections, words in (((), "selects nothing,"), ((forge.selection(5),), "0x000b (5,),")):
        attested = structures.Quote(selections, bytes(32))
        changed_ = changed(world, "end", attested=attested)
        assert words in forge.checks(changed_)["tpm.pcr-selection"].detail


def test_a_log_with_a_record_dropped() -> None:
    world = forge.world()
    shorter = world._replace(log=world.log[:-1])
    assert forge.failing(forge.checks(shorter)) == {"tpm.pcr-digest"}


@pytest.mark.parametrize("unlaunched", [b"\xff" * 32, bytes(32)])
def test_a_claimed_launch_that_never_was(unlaunched: bytes) -> None:
    world = forge.world()
    for which, head in (("start", replay(world.log[:2])), ("end", replay(world.log))):
        digest = forge.pcr_digest(world.machine, unlaunched + head)
        quote = getattr(world, which).attested._replace(pcr_digest=digest)
        world = changed(world, which, attested=quote)
    found = forge.checks(world)
    assert forge.failing(found) == {"tpm.start-pcr-digest", "tpm.pcr-digest", "tpm.launch"}
    assert "no dynamic launch" in found["tpm.launch"].detail


def test_a_launch_whose_digest_is_not_sha256() -> None:
    launch = Launch("drtm-simulated", Digest("sha-384", bytes(48)))
    found = forge.checks(forge.world(claims=with_launch(launch)))
    assert forge.failing(found) == {"tpm.launch"}
    assert found["tpm.pcr-digest"].verdict == "not-checked"


@pytest.mark.parametrize("type_", ["drtm-txt", "boot"])
def test_launches_that_nobody_can_judge_yet(type_: str) -> None:
    found = forge.checks(forge.world(claims=with_launch(Launch(type_, sha256(b"x")))))
    assert found["tpm.launch"].verdict == "not-checked"
    assert forge.failing(found) == set()
    if type_ == "drtm-txt":
        assert found["tpm.pcr-digest"].verdict == "not-checked"


def test_a_launch_without_a_digest() -> None:
    world = forge.world()
    card = forge.card(world)
    parsed = tpm.parse_tpm_evidence(card.evidence[0].value)
    expected = tpm.expect(card, card.claims.evidence[0], structures.name(world.machine.counter))
    expected = expected._replace(launch=Launch("drtm-simulated"))
    found = {check.id: check for check in tpm.check_tpm_evidence(parsed, expected)}
    assert forge.failing(found) == {"tpm.launch"}
    assert found["tpm.pcr-digest"].verdict == "not-checked"


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        (structures.ClockInfo(9000, 4, 1, safe=True), "boot (3, 1) at the start and (4, 1)"),
        (structures.ClockInfo(9000, 3, 2, safe=True), "boot (3, 1) at the start and (3, 2)"),
        (structures.ClockInfo(9000, 3, 1, safe=False), "safe is NO"),
        (structures.ClockInfo(2000, 3, 1, safe=True), "is not after"),
        (structures.ClockInfo(1999, 3, 1, safe=True), "is not after"),
    ],
)
def test_an_end_that_is_not_after_the_start_in_one_boot(
    clock: structures.ClockInfo, words: str
) -> None:
    only(changed(forge.world(), "end", clock_info=clock), "tpm.clock", words)


def test_a_start_whose_clock_is_not_safe() -> None:
    clock = structures.ClockInfo(2000, 3, 1, safe=False)
    only(changed(forge.world(), "start", clock_info=clock), "tpm.clock", "safe is NO")


def with_counter(**changes: object) -> forge.Machine:
    machine = forge.machine()
    return machine._replace(counter=machine.counter._replace(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"nv_index": structures.RUN_COUNTER_INDEX + 1},
        {"name_alg": wire.ALG_SHA384},
        {"auth_policy": bytes(32)},
        {"data_size": 16},
        *({"attributes": structures.COUNTER_ATTRIBUTES ^ 1 << bit} for bit in range(30)),
        {"attributes": structures.COUNTER_ATTRIBUTES | 1 << 31},
    ],
)
def test_an_index_that_is_no_run_counter(changes: dict[str, int | bytes]) -> None:
    machine = with_counter(**changes)
    world = forge.world(machine)
    appraisal = appraise(world, structures.name(machine.counter))
    failed = {check.id for check in appraisal.checks if check.verdict == "fail"}
    assert failed == {"run.counter.index"}


def test_another_index_than_the_carried_public_area() -> None:
    other = structures.name(with_counter(nv_index=0x01801A4E).counter)
    certified = structures.NvCertification(other, 0, (7).to_bytes(8, "big"))
    only(changed(forge.world(), "counter", attested=certified), "run.counter.name", other.hex())


def test_another_counter_than_the_endorsed_one() -> None:
    other = structures.name(with_counter(nv_index=0x01801A4E).counter)
    appraisal = appraise(forge.world(), other)
    failed = {check.id for check in appraisal.checks if check.verdict == "fail"}
    assert failed == {"run.counter.endorsed"}


@pytest.mark.parametrize(
    ("offset", "contents", "words"),
    [
        (0, (8).to_bytes(8, "big"), "shows 8, the claims say run 7"),
        (1, (7).to_bytes(8, "big"), "8 bytes at 1"),
        (0, (7).to_bytes(7, "big"), "7 bytes at 0"),
        (0, (7).to_bytes(9, "big"), "9 bytes at 0"),
        (0, b"", "0 bytes at 0"),
    ],
)
def test_contents_that_are_not_the_runs_number(offset: int, contents: bytes, words: str) -> None:
    name = structures.name(forge.machine().counter)
    certified = structures.NvCertification(name, offset, contents)
    only(changed(forge.world(), "counter", attested=certified), "run.counter.value", words)


def test_the_certification_of_another_run() -> None:
    world = changed(forge.world(), "counter", extra_data=bytes(32))
    only(world, "run.counter.binding", "00" * 32)


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        (structures.ClockInfo(1000, 2, 1, safe=True), "not of the start quote's boot"),
        (structures.ClockInfo(1000, 3, 0, safe=True), "not of the start quote's boot"),
        (structures.ClockInfo(1000, 3, 1, safe=False), "not of the start quote's boot"),
        (structures.ClockInfo(2001, 3, 1, safe=True), "is after the start"),
    ],
)
def test_a_certification_of_another_time(clock: structures.ClockInfo, words: str) -> None:
    only(changed(forge.world(), "counter", clock_info=clock), "run.counter.clock", words)


def test_a_certification_in_the_start_quotes_millisecond() -> None:
    clock = structures.ClockInfo(2000, 3, 1, safe=True)
    found = forge.checks(changed(forge.world(), "counter", clock_info=clock))
    assert forge.failing(found) == set()


@settings(deadline=None)
@given(bit=st.integers(min_value=0), which=st.sampled_from(ATTESTATIONS))
def test_any_flipped_bit_of_an_attestation_is_rejected(bit: int, which: str) -> None:
    world = forge.world()
    carried = forge.evidence(world)
    signed: tpm.SignedAttest = getattr(carried, which)
    flipped = bytearray(signed.attest)
    flipped[bit // 8 % len(flipped)] ^= 1 << bit % 8
    try:
        changed_ = signed._replace(attest=bytes(flipped))
        found = forge.checks(world, carrying(carried, which, changed_))
    except MalformedError:
        return
    assert "tpm.signature" in forge.failing(found)


def test_the_encoding_is_read_back() -> None:
    world = forge.world()
    carried = forge.evidence(world)
    parsed = tpm.parse_tpm_evidence(tpm.encode_tpm_evidence(carried))
    assert parsed.ak == world.machine.ak
    assert parsed.certificates == world.machine.certificates
    assert parsed.nv_public == world.machine.counter
    for attestation, attest in zip(
        parsed.attestations, (world.counter, world.start, world.end), strict=True
    ):
        assert attestation.attest == attest
        assert attestation.message == structures.marshal_attest(attest)


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_malformed_evidence(data: bytes) -> None:
    with pytest.raises(MalformedError):
        tpm.parse_tpm_evidence(data)


@settings(deadline=None)
@given(position=st.integers(min_value=0), value=st.integers(0, 255))
def test_arbitrary_changes_raise_only_malformed(position: int, value: int) -> None:
    data = bytearray(tpm.encode_tpm_evidence(forge.evidence(forge.world())))
    data[position % len(data)] = value
    try:
        tpm.parse_tpm_evidence(bytes(data))
    except MalformedError:
        return


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("certificates",), ()),
        (("certificates",), (b"x",) * 9),
        (("certificates",), (b"x" * 8193,)),
        (("ak",), b""),
        (("end", "attest"), b"x" * 2049),
        (("end", "surplus"), b""),
        (("counter", "surplus"), b""),
        (("surplus",), b""),
        (("start",), b"not a map"),
    ],
)
def test_evidence_outside_its_bounds_is_malformed(path: tuple[str, ...], value: object) -> None:
    plain = cbor.decode(tpm.encode_tpm_evidence(forge.evidence(forge.world())))
    place = plain
    for key in path[:-1]:
        assert isinstance(place, dict)
        place = place[key]
    assert isinstance(place, dict)
    place[path[-1]] = value
    with pytest.raises(MalformedError):
        tpm.parse_tpm_evidence(cbor.encode(plain))


def test_evidence_beyond_its_size_is_malformed() -> None:
    with pytest.raises(MalformedError, match="limit 131072"):
        tpm.parse_tpm_evidence(bytes(tpm.MAX_TPM_EVIDENCE + 1))


def test_pcr_17_after_a_launch_is_an_extend_from_zero() -> None:
    assert tpm.launch_pcr(b"d" * 32) == hashlib.sha256(bytes(32) + b"d" * 32).digest()
