"""Quotes that say almost the right thing: other banks, another order, a byte more.

Every structure is signed by the AK as it is.
"""

from collections.abc import Callable

import pytest

from enclave_sim.adversary import deviations
from enclave_sim.adversary.deviations import Which
from enclave_sim.adversary.forged_tpm import selection
from enclave_sim.adversary.forged_world import World, claims, failures, judge, world
from laminator.evidence import tpm_wire as wire
from laminator.evidence.tpm_structures import PcrSelection, Quote

BOTH = selection(17, 23)
SHA1, SHA384 = wire.ALG_SHA1, wire.ALG_SHA384


def honest() -> World:
    made = world(claims=claims())
    assert judge(made).accepted
    return made


def selecting(which: Which, *banks: PcrSelection) -> World:
    made = honest()
    quote = getattr(made, which).attested
    assert isinstance(quote, Quote)
    assert quote.selections == (BOTH,)
    return deviations.other_attest(made, which, attested=quote._replace(selections=banks))


@pytest.mark.parametrize("which", ["start", "end"])
@pytest.mark.parametrize(
    "banks",
    [
        (selection(17), selection(23)),
        (selection(23), selection(17)),
        (BOTH, BOTH),
        (BOTH, selection()),
        (BOTH, selection(algorithm=SHA1)),
        (BOTH, selection(17, algorithm=SHA1)),
        (selection(0, algorithm=SHA1), BOTH),
        (BOTH, selection(17, 23, algorithm=SHA384)),
        (selection(17, 23, algorithm=SHA384),),
        (selection(16, 17, 23),),
        (selection(17),),
        (PcrSelection(wire.ALG_SHA256, b""),),
        (PcrSelection(wire.ALG_NULL, BOTH.bitmap),),
    ],
    ids=[
        *("parted", "parted, reordered", "twice", "and nothing", "and an empty bank"),
        *("and SHA-1", "after SHA-1", "and SHA-384", "SHA-384 alone", "and PCR 16"),
        *("PCR 17 alone", "no PCR", "no bank"),
    ],
)
def test_a_selection_that_is_not_the_one(which: Which, banks: tuple[PcrSelection, ...]) -> None:
    assert failures(judge(selecting(which, *banks))) == {"tpm.pcr-selection"}


@pytest.mark.parametrize("which", ["start", "end"])
def test_a_selection_in_more_octets_is_the_same(which: Which) -> None:
    longer = BOTH._replace(bitmap=BOTH.bitmap + b"\0")
    assert judge(selecting(which, longer)).accepted
    assert failures(judge(selecting(which, BOTH._replace(bitmap=BOTH.bitmap + b"\1")))) == {
        "tpm.pcr-selection"
    }


@pytest.mark.parametrize("which", ["counter", "start", "end"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda octets: octets + b"\0",
        lambda octets: octets + octets,
        lambda octets: octets[:-1],
    ],
    ids=["a byte more", "twice", "a byte less"],
)
def test_a_signed_structure_that_does_not_end_where_it_should(
    which: Which, edit: Callable[[bytes], bytes]
) -> None:
    assert failures(judge(deviations.other_bytes(honest(), which, edit))) == {"tpm.parse"}


@pytest.mark.parametrize("which", ["counter", "start", "end"])
@pytest.mark.parametrize("safe", [2, 255])
def test_a_clock_that_is_safe_in_a_way_of_its_own(which: Which, safe: int) -> None:
    made = honest()
    assert getattr(made, which).clock_info.safe is True
    flag = wire.uint32(1) + b"\1"

    def edit(octets: bytes) -> bytes:
        assert octets.count(flag) == 1
        return octets.replace(flag, flag[:-1] + bytes([safe]))

    assert failures(judge(deviations.other_bytes(made, which, edit))) == {"tpm.parse"}
