"""Confidence intervals of proportions."""

import math
from statistics import NormalDist

from laminator.claims import Interval
from laminator.errors import UsageError

CONFIDENCE = 0.95


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's score interval of a proportion, without continuity correction.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    The ends are exactly 0 for no success and exactly 1 for no failure. Raises UsageError without
    trials, for impossible counts and for a confidence outside (0, 1).
    """
    if not 0 <= successes <= trials or trials == 0 or not 0 < confidence < 1:
        message = f"no interval for {successes} of {trials} at confidence {confidence}"
        raise UsageError("interval.counts", message)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    spread = z / scale * math.sqrt((share * (1 - share) + z * z / (4 * trials)) / trials)
    low = 0.0 if successes == 0 else max(0.0, centre - spread)
    high = 1.0 if successes == trials else min(1.0, centre + spread)
    return Interval(low, high, confidence, "wilson")
