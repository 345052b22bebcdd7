"""Accuracy, its interval and the decision rule, against independent libraries."""

import math
from array import array
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]
from sklearn.metrics import accuracy_score

from laminator.claims_codec import parse_property, plain_property
from laminator.errors import MalformedError, UsageError
from laminator.properties import MEASURERS
from laminator.properties.decision import ARGMAX, THRESHOLD, Scores, decide, index_labels
from laminator.properties.interval import wilson
from laminator.properties.performance import Choices, Setting, accuracy

SETTING = Setting(("model", "test"), {"decision": ARGMAX})
TOLERANCE = 1e-12

counts = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.floats(0.01, 0.999)
pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1)


@given(counts, confidences)
def test_wilson_is_scipys(count: tuple[int, int], confidence: float) -> None:
    successes, trials = count
    found = wilson(successes, trials, confidence)
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert found.low == pytest.approx(expected.low, abs=TOLERANCE)
    assert found.high == pytest.approx(expected.high, abs=TOLERANCE)


@given(counts, confidences)
def test_wilson_solves_the_score_equation(count: tuple[int, int], confidence: float) -> None:
    """Both ends are where the score test's statistic is the normal quantile, squared."""
    successes, trials = count
    found = wilson(successes, trials, confidence)
    quantile = float(stats.norm.ppf((1 + confidence) / 2))
    for end in (found.low, found.high):
        left = (successes / trials - end) ** 2
        assert left == pytest.approx(quantile**2 * end * (1 - end) / trials, abs=TOLERANCE)


@given(counts, confidences)
def test_wilson_holds_the_share(count: tuple[int, int], confidence: float) -> None:
    successes, trials = count
    found = wilson(successes, trials, confidence)
    assert 0 <= found.low <= successes / trials <= found.high <= 1


def test_wilson_ends_are_exact() -> None:
    assert wilson(0, 7).low == 0
    assert wilson(7, 7).high == 1


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"),
    [(0, 0, 0.95), (2, 1, 0.95), (-1, 1, 0.95), (1, 2, 0.0), (1, 2, 1.0), (1, 2, math.nan)],
)
def test_wilson_refuses(successes: int, trials: int, confidence: float) -> None:
    with pytest.raises(UsageError) as caught:
        wilson(successes, trials, confidence)
    assert caught.value.code == "interval.counts"


@given(pairs)
def test_accuracy_is_scikit_learns(rows: list[tuple[int, int]]) -> None:
    labels, chosen = zip(*rows, strict=True)
    found = accuracy(Choices(labels, chosen), SETTING)
    assert found.value == pytest.approx(accuracy_score(labels, chosen), abs=TOLERANCE)
    correct = accuracy_score(labels, chosen, normalize=False)
    assert (found.parameters["n"], found.parameters["correct"]) == (len(rows), correct)
    assert found.interval == wilson(int(correct), len(rows))


@given(pairs, st.randoms(use_true_random=False))
def test_accuracy_ignores_the_rows_order(rows: list[tuple[int, int]], random: Random) -> None:
    shuffled = random.sample(rows, len(rows))
    first, second = (
        accuracy(Choices([row[0] for row in order], [row[1] for row in order]), SETTING)
        for order in (rows, shuffled)
    )
    assert first == second


def test_property_is_as_the_claims_want_it() -> None:
    found = accuracy(Choices([0, 1], [0, 1], {"sex": ["<f>", "<m>"]}), SETTING)
    assert found.source == "measured"
    assert found.measurer == "laminator.properties.performance.accuracy/1"
    assert found.on == ("model", "test")
    assert found.adversary is None
    parse_property(dict(plain_property(found)), "property")  # type: ignore[arg-type]


def test_slices_count_each_group() -> None:
    groups = {"sex": ["f", "m", "f", "m"], "race": ["a", "a", "b", "b"]}
    found = accuracy(Choices([0, 0, 1, 1], [0, 1, 1, 1], groups), SETTING)
    assert found.parameters["slices"] == (
        {"column": "race", "group": "a", "n": 2, "correct": 1},
        {"column": "race", "group": "b", "n": 2, "correct": 2},
        {"column": "sex", "group": "f", "n": 2, "correct": 2},
        {"column": "sex", "group": "m", "n": 2, "correct": 1},
    )


def test_one_class_is_no_special_case() -> None:
    assert accuracy(Choices([3, 3], [3, 1]), SETTING).value == 0.5


@pytest.mark.parametrize(
    ("choices", "code"),
    [
        (Choices([], []), "accuracy.empty"),
        (Choices([1], [1, 1]), "accuracy.rows"),
        (Choices([1], [1], {"sex": []}), "accuracy.rows"),
    ],
)
def test_accuracy_refuses(choices: Choices, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        accuracy(choices, SETTING)
    assert caught.value.code == code


def test_registry_holds_what_can_be_asked_for() -> None:
    assert dict(MEASURERS) == {"accuracy": accuracy}


def test_argmax_takes_the_lowest_index_of_a_tie() -> None:
    scores = Scores(3, 3, array("d", [1, 1, 0, 0, 2, 2, 5, 5, 5]))
    assert decide(scores, 3) == ((0, 1, 0), ARGMAX)


def test_threshold_is_met_at_a_half() -> None:
    scores = Scores(4, None, array("d", [0, 0.5, math.nextafter(0.5, 0), 1]))
    assert decide(scores, 2) == ((0, 1, 0, 1), THRESHOLD)


@pytest.mark.parametrize(
    ("scores", "classes", "code"),
    [
        (Scores(1, 2, [0.0, math.nan]), 2, "scores.finite"),
        (Scores(1, 2, [0.0, math.inf]), 2, "scores.finite"),
        (Scores(1, None, [-math.inf]), 2, "scores.finite"),
        (Scores(2, 2, [0.0, 1.0]), 2, "scores.shape"),
        (Scores(1, 0, []), 2, "scores.classes"),
        (Scores(1, 2, [0.0, 1.0]), 3, "scores.classes"),
        (Scores(1, 3, [0.0, 1.0, 2.0]), 2, "scores.classes"),
        (Scores(1, None, [0.5]), 3, "scores.classes"),
        (Scores(1, None, [-0.1]), 2, "scores.probability"),
        (Scores(1, None, [1.1]), 2, "scores.probability"),
    ],
)
def test_decide_refuses(scores: Scores, classes: int, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        decide(scores, classes)
    assert caught.value.code == code


def test_labels_become_indices() -> None:
    assert index_labels(["b", "a", "b"], ["a", "b", "c"]) == (1, 0, 1)


def test_a_label_outside_the_classes_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        index_labels(["a", "z"], ["a"])
    assert caught.value.code == "labels.unknown"
