"""Logs that are not what happened: records dropped, repeated, reordered, renamed, added.

Once as a prover without a TPM would do it (the log that was quoted is another), and once with PCR
23 extended, head and count stated, and both quotes made for the lie.
"""

from collections.abc import Callable

import pytest

from enclave_sim.adversary import deviations
from enclave_sim.adversary.deviations import Log
from enclave_sim.adversary.forged_world import World, claims, failures, judge, obstacles, world
from laminator.claims import LogSummary
from laminator.eventlog import START_QUOTE_RECORDS, Record, begin_record, end_record, replay

EVENTS = [
    *("counter", "start", "entry", "interpreter", "arguments", "environment", "distributions"),
    *("isolation", "input", "input", "property", "begin", "property", "end", "output"),
]
Edit = Callable[[Log], Log]
PLACES = range(len(EVENTS))
LATER = range(START_QUOTE_RECORDS, len(EVENTS))
OTHER = Record("input", "another", bytes(32))


def honest() -> World:
    made = world(claims=claims())
    assert judge(made).accepted
    assert [record.event for record in made.log] == EVENTS
    return made


def dropped(place: int) -> Edit:
    return lambda log: (*log[:place], *log[place + 1 :])


def repeated(place: int) -> Edit:
    return lambda log: (*log[: place + 1], log[place], *log[place + 1 :])


def swapped(place: int) -> Edit:
    return lambda log: (*log[:place], log[place + 1], log[place], *log[place + 2 :])


def renamed(place: int) -> Edit:
    return lambda log: (*log[:place], log[place]._replace(name="other"), *log[place + 1 :])


def of_other_content(place: int) -> Edit:
    return lambda log: (*log[:place], log[place]._replace(digest=b"\1" * 32), *log[place + 1 :])


def of_another_event(place: int) -> Edit:
    return lambda log: (*log[:place], log[place]._replace(event="remark"), *log[place + 1 :])


def added(place: int) -> Edit:
    return lambda log: (*log[:place], OTHER, *log[place:])


EDITS = [dropped, repeated, renamed, of_other_content, of_another_event, added]


@pytest.mark.parametrize("place", LATER)
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_a_log_quoted_as_it_is(edit: Callable[[int], Edit], place: int) -> None:
    """Both quotes and the summary are the lying log's own."""
    made = honest()
    lie = deviations.other_log(made, edit(place))
    assert lie.log != made.log
    assert lie.claims.log == LogSummary(replay(lie.log), len(lie.log))
    assert failures(judge(lie)) == {"log.claims"}


@pytest.mark.parametrize("place", LATER[:-1])
def test_a_log_in_another_order_quoted_as_it_is(place: int) -> None:
    made = honest()
    lie = deviations.other_log(made, swapped(place))
    assert sorted(lie.log) == sorted(made.log)
    assert lie.log != made.log
    assert failures(judge(lie)) == {"log.claims"}


@pytest.mark.parametrize("place", range(START_QUOTE_RECORDS))
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_a_log_whose_first_records_are_others(edit: Callable[[int], Edit], place: int) -> None:
    lie = deviations.other_log(honest(), edit(place))
    assert failures(judge(lie)) == {"log.claims"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_a_log_that_no_pcr_was_extended_with(edit: Callable[[int], Edit], place: int) -> None:
    made = honest()
    lie = deviations.carried_log(made, edit(place))
    assert lie.log != made.log
    found = failures(judge(lie))
    assert {"tpm.pcr-digest", "log.claims", "log.head"} <= found
    assert ("log.count" in found) == (len(lie.log) != len(made.log))


def test_an_empty_log() -> None:
    found = failures(judge(deviations.other_log(honest(), lambda _: ())))
    assert found == {"log.claims"}


@pytest.mark.parametrize("marker", [begin_record(), end_record()], ids=["begin", "end"])
def test_work_that_ran_before_it_was_measured(marker: Record) -> None:
    """The records of begin and end moved, so that what was measured counts as done in between."""

    def moved(log: Log) -> Log:
        rest = tuple(record for record in log if record != marker)
        assert len(rest) == len(log) - 1
        return (*rest[:2], marker, *rest[2:])

    assert failures(judge(deviations.other_log(honest(), moved))) == {"log.claims"}


# The summary in the claims.


def test_a_head_that_is_not_the_logs() -> None:
    made = honest()
    lie = deviations.other_claims(made, log=LogSummary(bytes(32), len(made.log)))
    assert obstacles(judge(lie)) == {"log.head"}


@pytest.mark.parametrize("more", [1, -1])
def test_a_count_that_is_not_the_logs(more: int) -> None:
    made = honest()
    summary = LogSummary(replay(made.log), len(made.log) + more)
    assert obstacles(judge(deviations.other_claims(made, log=summary))) == {"log.count"}
