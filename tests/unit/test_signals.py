"""The signals that stop an attester: one ends the run, held back it waits, late it is nothing."""

import signal
from collections.abc import Iterator

import pytest

from laminator.run.signals import (
    SIGNALS,
    InterruptedRunError,
    held_back,
    listen,
    stop_listening,
)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the test process's own handlers back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_ends_the_run_and_the_second_is_ignored(number: int) -> None:
    listen()
    with pytest.raises(InterruptedRunError) as caught:
        signal.raise_signal(number)
    assert caught.value.signal == number
    signal.raise_signal(number)


def test_a_signal_waits_until_the_block_is_left() -> None:
    listen()
    reached = []

    def work() -> None:
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            reached.append("the end")

    with pytest.raises(InterruptedRunError):
        work()
    assert reached == ["the end"]


def test_a_late_signal_ends_nothing() -> None:
    listen()
    stop_listening()
    signal.raise_signal(signal.SIGTERM)


def test_handlers_that_are_not_ours_stay() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop_listening()
    assert signal.getsignal(signal.SIGINT) is before
