"""Why a time-stamping authority's answer is not taken."""

from laminator.errors import LaminatorError


class TimestampRefusedError(LaminatorError):
    """A response that is no token over the card or plan in question; `code` says which rule.

    ``timestamp.status``, ``.imprint``, ``.nonce``, ``.certificate`` for the response itself,
    ``timestamp.trust`` where the caller's own trust store does not bear it, ``timestamp.http`` for
    what an authority's server said instead of one.
    """
