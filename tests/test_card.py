"""The mIoU card of a run, and how images are ranked, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from octavo.data.classes import IGNORE
from octavo.engine.folder import RunFolder
from octavo.looks.card import card
from octavo.looks.subject import SegmentSubject
from octavo.numbers.confusion import confusion
from octavo.numbers.image_scores import commonest_wrong, image_scores, spread
from octavo.numbers.rules import BESIDE, RULES

CLASSES = 5


def masks(count: int = 6, side: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truths, uint8 [n,side,side]; the last truth is void, the one before it is met exactly."""
    draw = np.random.default_rng(0)
    truth = draw.integers(0, CLASSES, (count, side, side)).astype(np.uint8)
    truth[0] = draw.choice([0, 3], (side, side))
    predicted = np.where(draw.random(truth.shape) < 0.5, truth, draw.integers(0, 3, truth.shape)).astype(np.uint8)
    truth[draw.random(truth.shape) < 0.1] = IGNORE
    truth[-2] = predicted[-2]
    truth[-1] = IGNORE
    return predicted, truth


def test_images_are_scored_as_scikit_learn_scores_them() -> None:
    predicted, truth = masks()
    scores = image_scores(np.stack([confusion(p, t, CLASSES) for p, t in zip(predicted, truth, strict=True)]))
    for i, (p, t) in enumerate(zip(predicted[:-1], truth[:-1], strict=True)):
        known = t != IGNORE
        assert scores.accuracy[i] == pytest.approx(accuracy_score(t[known], p[known]))
        assert scores.miou[i] == pytest.approx(jaccard_score(t[known], p[known], average="macro"))
        assert scores.pixels[i] == known.sum()
    assert np.isnan(scores.accuracy[-1]) and np.isnan(scores.miou[-1]) and scores.pixels[-1] == 0
    assert scores.order.tolist() == np.argsort(scores.accuracy[:-1]).tolist() and scores.order[-1] == len(truth) - 2


def test_equals_are_ranked_by_their_miou() -> None:
    counts = np.zeros((2, 3, 3), np.int64)
    counts[0, :2, :2] = [[8, 0], [2, 0]]
    counts[1, :2, :2] = [[4, 1], [1, 4]]
    scores = image_scores(counts)
    assert scores.accuracy[0] == scores.accuracy[1] and scores.order.tolist() == [0, 1]
    assert image_scores(counts[::-1]).order.tolist() == [1, 0]


def test_the_commonest_wrong_pair_is_the_one_with_most_pixels() -> None:
    predicted, truth = masks()
    for p, t in zip(predicted, truth, strict=True):
        found = commonest_wrong(confusion(p, t, CLASSES))
        wrong = (p != t) & (t != IGNORE)
        if not wrong.any():
            assert found is None
            continue
        pairs, counts = np.unique(np.stack([t[wrong], p[wrong]]), axis=1, return_counts=True)
        assert found is not None and found.pixels == counts.max()
        assert counts[((found.truth, found.predicted) == pairs.T).all(1)] == counts.max()


def test_pixels_without_a_prediction_are_wrong_and_those_without_a_truth_are_not() -> None:
    counts = np.array([[5, 1, 3], [0, 5, 0], [7, 0, 0]])
    found = commonest_wrong(counts)
    assert found is not None and (found.truth, found.predicted, found.pixels) == (0, 2, 3)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, ([], [], [])),
        (1, ([0], [], [])),
        (2, ([0], [1], [])),
        (5, ([0, 1], [2, 3], [4])),
        (6, ([0, 1], [2, 3], [4, 5])),
        (7, ([0, 1], [2, 3], [5, 6])),
        (75, ([0, 1], [36, 37], [73, 74])),
    ],
)
def test_the_ends_and_the_middle_of_a_ranking(count: int, expected: tuple[list[int], ...]) -> None:
    assert tuple(part.tolist() for part in spread(np.arange(count), 2)) == expected


def test_the_card_has_every_rule_and_says_how_far_they_are_apart(segmented: RunFolder) -> None:
    subject = SegmentSubject(segmented)
    look = card(subject).look
    rules, beside = look.tables
    assert [row[0] for row in beside.rows] == [rule.title for rule in BESIDE.values()]
    assert {row[0] for row in rules.rows} == {rule.title for rule in RULES.values()}
    assert rules.rows[0][1] == subject.report.miou and rules.rows[0][0] == subject.report.rule_title
    values = {row[0]: row[1] for row in rules.rows}
    size, total = len(subject.classes), subject.counts.sum(0)
    truth, predicted = (np.repeat(np.indices((size, size))[i].ravel(), total[:size, :size].ravel()) for i in (0, 1))
    for title, empty in (("absent classes as 0", 0), ("absent classes as 1", 1)):
        expected = jaccard_score(truth, predicted, labels=range(size), average="macro", zero_division=empty)
        assert values[title] == pytest.approx(expected)
    known = [value for value in values.values() if value is not None]
    assert f"{min(known):.3f}" in look.sees and f"{max(known):.3f}" in look.sees
    assert f", {max(known) - min(known):.3f} apart" in look.sees
    none = sum(value is None for value in values.values())
    assert none and f"{none} of {len(RULES)} rules have no number" in look.sees  # scenes have four of seven classes
    assert (segmented.path / look.source).is_file()
