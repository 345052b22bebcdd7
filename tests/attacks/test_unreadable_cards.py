"""Bytes that are almost a card: refused where they are read, before anything is believed."""

from collections.abc import Callable

import forge
import pytest
from verifying import judge, obstacles, verdict_of, world

from laminator import cbor
from laminator.card import ConceptualMessage, encode_card, parse_card
from laminator.evidence.tpm import TPM_MEDIA_TYPE

Edit = Callable[[bytes], bytes]


def honest() -> bytes:
    card = forge.card_bytes(world())
    assert judge(card).accepted
    return card


def reencoded(change: Callable[[dict[cbor.Key, cbor.Value]], dict[cbor.Key, cbor.Value]]) -> Edit:
    """Return an edit of the card's map that is deterministic CBOR again."""

    def edit(card: bytes) -> bytes:
        fields = cbor.decode(card)
        assert isinstance(fields, dict)
        return cbor.encode(change(fields))

    return edit


def with_longer_head(card: bytes) -> bytes:
    """Write the number of the map's entries in two bytes where one would do."""
    assert card[0] >> 5 == 5
    return bytes([0xB8, card[0] & 31]) + card[1:]


def indefinite(card: bytes) -> bytes:
    return b"\xbf" + card[1:] + b"\xff"


def twice_in_one_map(card: bytes) -> bytes:
    """Carry every entry twice: a lenient reader would keep the last of each."""
    count = card[0] & 31
    assert count * 2 < 24
    return bytes([0xA0 | count * 2]) + card[1:] * 2


@pytest.mark.parametrize(
    "edit",
    [
        lambda card: card[:-1],
        lambda card: card + b"\0",
        lambda card: card + card,
        lambda card: b"\xd9\xd9\xf7" + card,
        with_longer_head,
        indefinite,
        twice_in_one_map,
        reencoded(lambda fields: {**fields, "x-remark": "trust me"}),
        reencoded(lambda fields: {key: fields[key] for key in list(fields)[1:]}),
        reencoded(lambda fields: {**fields, "endorsements": ()}),
        lambda _: cbor.encode({}),
        lambda _: b"\x81" * 100 + b"\0",
        lambda _: b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        lambda _: b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        lambda _: b"",
    ],
    ids=[
        *("cut", "trailing", "two", "tagged", "longer head", "indefinite", "twice"),
        *("unknown field", "missing field", "empty endorsements", "empty map", "deep"),
        *("endless array", "endless bytes", "nothing"),
    ],
)
def test_another_encoding_is_no_card(edit: Edit) -> None:
    card = honest()
    forged = edit(card)
    assert forged != card
    result = judge(forged)
    assert obstacles(result) >= {"card.parse"}
    assert [check.id for check in result.checks if check.verdict == "fail"] == ["card.parse"]
    assert (result.card, result.statements, result.trust.root) == (None, (), "none")


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value[:-1],
        lambda value: value + b"\0",
        lambda _: cbor.encode({}),
        lambda _: b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
    ids=["cut", "trailing", "empty", "endless"],
)
def test_evidence_that_cannot_be_read(edit: Edit) -> None:
    card = parse_card(honest())
    (message,) = card.evidence
    assert message.media_type == TPM_MEDIA_TYPE
    forged = edit(message.value)
    assert forged != message.value
    result = judge(encode_card(card._replace(evidence=(message._replace(value=forged),))))
    assert verdict_of(result, "tpm.parse") == "fail"
    assert result.trust.root == "none"


@pytest.mark.parametrize("which", ["ak", "counter", "start", "end", "nv_public"])
@pytest.mark.parametrize("edit", [lambda octets: octets[:-1], lambda octets: octets + b"\0"])
def test_evidence_whose_structures_do_not_end_where_they_should(which: str, edit: Edit) -> None:
    made = world()
    carried = forge.evidence(made)
    part = getattr(carried, which)
    lie = edit(part) if isinstance(part, bytes) else part._replace(attest=edit(part.attest))
    forged = carried._replace(**{which: lie})  # type: ignore[arg-type]
    assert forged != carried
    assert verdict_of(judge(forge.card_bytes(made, forged)), "tpm.parse") == "fail"


def test_an_endorsement_is_never_a_pass() -> None:
    card = parse_card(honest())
    praise = ConceptualMessage("application/x-endorsement", b"all is well")
    result = judge(encode_card(card._replace(endorsements=(praise,))))
    assert verdict_of(result, "card.endorsements") == "not-checked"
    assert "endorsements.not-checked" in {caveat.code for caveat in result.caveats}
