"""The signals that stop an attester: raised where the run is, held back where it may not stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What stops an attester."""


class InterruptedRunError(Exception):
    """The attester was told to stop; `signal` is the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def listen() -> None:
    """Let the first signal end the run with InterruptedRunError, once; unblock them all."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def stop_listening() -> None:
    """Let no further signal end the run: from here it has a card, or fails by itself."""
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait until the block is left: what it does is done whole."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interrupt(number: int, _: FrameType | None) -> None:
    stop_listening()  # once: what follows is cleaning up
    raise InterruptedRunError(number)
