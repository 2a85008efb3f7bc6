"""Reliability by bins, against scikit-learn's calibration curve, SciPy's interval and the ECE of the metrics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from octavo.numbers.metrics import BINS, METRICS
from octavo.numbers.reliability import reliability


def drawn(n: int, classes: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, scale, (n, classes))
    return logits, np.where(draw.random(n) < 0.5, logits.argmax(1), draw.integers(0, classes, n))


@pytest.mark.parametrize(("classes", "scale"), [(2, 1.0), (10, 2.0), (50, 3.0)])
def test_bins_are_scikit_learns(classes: int, scale: float) -> None:
    logits, labels = drawn(3000, classes, scale)
    found = reliability(logits, labels)
    probabilities = softmax(logits, axis=1)
    hits = probabilities.argmax(1) == labels
    accuracy, confidence = calibration_curve(hits, probabilities.max(1), n_bins=BINS, strategy="uniform")
    some = found.count > 0
    np.testing.assert_allclose(found.accuracy[some], accuracy)
    np.testing.assert_allclose(found.confidence[some], confidence)
    assert np.isnan(found.accuracy[~some]).all() and np.isnan(found.low[~some]).all()
    assert found.count.sum() == 3000 and found.edges.tolist() == pytest.approx([k / 15 for k in range(16)])
    assert found.mean_confidence == pytest.approx(probabilities.max(1).mean())
    assert found.mean_accuracy == pytest.approx(hits.mean())


def test_the_ece_is_that_of_the_metrics_and_of_its_own_bins() -> None:
    logits, labels = drawn(700, 12, 2.0, seed=4)
    found = reliability(logits, labels)
    some = found.count > 0
    assert found.ece == METRICS["ece"](logits, labels)[0]
    gaps = np.abs(found.accuracy - found.confidence)[some]
    assert found.ece == pytest.approx((gaps * found.count[some]).sum() / 700)


def test_intervals_are_scipys() -> None:
    logits, labels = drawn(200, 4, 1.5, seed=2)
    found = reliability(logits, labels, level=0.9)
    for k in np.flatnonzero(found.count):
        hits, count = round(found.accuracy[k] * found.count[k]), int(found.count[k])
        ends = binomtest(hits, count).proportion_ci(0.9, method="wilson")
        assert (found.low[k], found.high[k]) == pytest.approx((ends.low, ends.high), abs=1e-8)


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    # Confidences of 0.6 = 9/15 and, of a logit that leaves nothing for the others, 1.
    logits = [*np.log([[0.6, 0.4], [0.4, 0.6]]).tolist(), [800.0, 0.0]]
    found = reliability(logits, np.array([0, 0, 0]))
    assert np.flatnonzero(found.count).tolist() == [8, 14]
    assert found.count[[8, 14]].tolist() == [2, 1] and found.accuracy[[8, 14]].tolist() == [0.5, 1.0]


def test_one_image_is_enough() -> None:
    found = reliability(np.zeros((1, 3)), np.array([0]))
    assert found.count.sum() == 1 and found.ece == pytest.approx(2 / 3)
