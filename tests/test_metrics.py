"""Metrics against scikit-learn and torchmetrics, plain, weighted and with images repeated."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import multiclass_calibration_error

from octavo.numbers.metrics import METRICS, grouped, log_probabilities, macro_f1_of, metrics_for, ranks

Reference = Callable[[np.ndarray, np.ndarray], float]


def _probabilities(logits: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(logits.astype(np.float64)), 1).numpy()


def _balanced(logits: np.ndarray, labels: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
        return float(balanced_accuracy_score(labels, logits.argmax(1)))


def _ece(logits: np.ndarray, labels: np.ndarray) -> float:
    probabilities = torch.from_numpy(_probabilities(logits))
    return float(
        multiclass_calibration_error(probabilities, torch.from_numpy(labels), logits.shape[1], n_bins=15, norm="l1")
    )


REFERENCES: dict[str, Reference] = {
    "accuracy": lambda z, y: float(accuracy_score(y, z.argmax(1))),
    "top5": lambda z, y: float(top_k_accuracy_score(y, z, k=5, labels=range(z.shape[1]))),
    "macro_f1": lambda z, y: float(f1_score(y, z.argmax(1), average="macro")),
    "balanced_accuracy": _balanced,
    "nll": lambda z, y: float(log_loss(y, _probabilities(z), labels=range(z.shape[1]))),
    "ece": _ece,
    "brier": lambda z, y: float(((_probabilities(z) - np.eye(z.shape[1])[y]) ** 2).sum(1).mean()),
}


def draw(n: int, classes: int, seed: int, strength: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [N,C] that lean to the truth, and labels of which some classes may be absent."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, max(1, classes - 2), n)
    logits = random.normal(size=(n, classes))
    logits[np.arange(n), labels] += strength
    return logits.astype(np.float32), labels


def test_every_metric_has_a_reference() -> None:
    assert list(METRICS) == list(REFERENCES)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(("n", "classes", "strength"), [(400, 9, 2.0), (17, 12, 0.5), (50, 6, 8.0), (300, 50, 3.0)])
def test_plain_value_equals_the_reference(name: str, n: int, classes: int, strength: float) -> None:
    logits, labels = draw(n, classes, n, strength)
    value = METRICS[name](logits, labels)
    assert value.shape == (1,)
    assert value[0] == pytest.approx(REFERENCES[name](logits, labels), abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_whole_weights_equal_repeated_images(name: str) -> None:
    logits, labels = draw(120, 8, 5)
    weight = np.random.default_rng(1).integers(0, 4, (6, 120))
    weight[0, labels == 3] = 0  # a class that is gone from a resample
    values = METRICS[name](logits, labels, weight)
    for row, value in zip(weight, values, strict=True):
        again, truth = np.repeat(logits, row, axis=0), np.repeat(labels, row)
        assert value == pytest.approx(REFERENCES[name](again, truth), abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_scaling_all_weights_changes_nothing(name: str) -> None:
    logits, labels = draw(60, 7, 3)
    weight = np.random.default_rng(2).random((3, 60))
    assert METRICS[name](logits, labels, weight * 7.5) == pytest.approx(METRICS[name](logits, labels, weight))


@pytest.mark.parametrize("name", METRICS)
def test_log_probabilities_give_the_same_as_logits(name: str) -> None:
    logits, labels = draw(80, 7, 4)
    given = METRICS[name](log_probabilities(logits), labels)
    assert given == pytest.approx(METRICS[name](logits.astype(np.float64), labels), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_direction_and_rule(name: str) -> None:
    logits, labels = draw(200, 8, 6)
    better = logits.copy()
    better[np.arange(200), labels] += 3
    metric = METRICS[name]
    gain = metric(better, labels)[0] - metric(logits, labels)[0]
    assert gain > 0 if metric.higher_is_better else gain < 0
    assert metric.name == name and metric.title and metric.rule.endswith(".")


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if m.proportion])
def test_proportions_are_shares_of_images(name: str) -> None:
    logits, labels = draw(30, 8, 7)
    hits = np.array([METRICS[name](logits[i : i + 1], labels[i : i + 1])[0] for i in range(30)])
    assert set(hits) == {0.0, 1.0}
    assert METRICS[name](logits, labels)[0] == pytest.approx(hits.mean())


def test_top5_ties_go_to_the_lower_class_id() -> None:
    flat = np.zeros((8, 8))
    assert METRICS["top5"](flat, np.arange(8))[0] == 5 / 8
    assert METRICS["accuracy"](flat, np.arange(8))[0] == 1 / 8
    assert ranks(np.array([[1.0, 2.0, 2.0, 0.0]]).repeat(4, 0), np.arange(4)).tolist() == [2, 0, 1, 3]


def test_few_classes_have_no_top5() -> None:
    assert "top5" not in metrics_for(5)
    assert list(metrics_for(6)) == list(METRICS)


def test_ece_bins_hold_their_upper_edge() -> None:
    # Guo et al. 2017: bin m is ((m-1)/15, m/15]. 2/5 = 6/15 exactly belongs with .35, not with .45.
    probabilities = np.array([[0.4, 0.3, 0.3], [0.35, 0.33, 0.32], [0.45, 0.3, 0.25]])
    edge = METRICS["ece"](np.log(probabilities), np.array([0, 1, 1]))[0]
    assert edge == pytest.approx((abs(1 - 0.75) + 0.45) / 3)


def test_ece_of_certain_and_right_is_zero_and_of_certain_and_wrong_is_one() -> None:
    logits = np.array([[2000.0, 0.0], [2000.0, 0.0]], np.float32)
    assert METRICS["ece"](logits, np.array([0, 0]))[0] == 0
    assert METRICS["ece"](logits, np.array([1, 1]))[0] == 1


def test_huge_logits_give_finite_numbers() -> None:
    logits = np.array([[3e38, -3e38, 0.0, 0.0, 0.0, 0.0]], np.float32)
    for metric in METRICS.values():
        assert np.isfinite(metric(logits, np.array([1]))).all()


def test_absent_classes_are_left_out_of_macro_f1_and_missing_predictions_count_against_it() -> None:
    truth, ones = np.array([0, 0, 1]), np.ones((1, 3))
    # class 2 occurs nowhere; class 3 is predicted once and scores 0
    value = macro_f1_of(np.array([0, 3, 1]), truth, 4)(ones)[0]
    assert value == pytest.approx(float(f1_score(truth, [0, 3, 1], average="macro"))) == pytest.approx((2 / 3 + 1) / 3)
    assert macro_f1_of(np.array([0, -1, 1]), truth, 4)(ones)[0] == pytest.approx((2 / 3 + 1) / 2)


def test_grouped_sums() -> None:
    weight = np.array([[1.0, 2.0, 4.0], [0.5, 0.0, 3.0]])
    assert grouped(weight, np.array([2, -1, 2]), 4).tolist() == [[0, 0, 5, 0], [0, 0, 3.5, 0]]
