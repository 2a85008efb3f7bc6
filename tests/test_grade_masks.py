"""Reports of masks: the rule's number, intervals that an independent bootstrap gives too, and honest warnings."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score, precision_score, recall_score

from octavo.errors import UserError
from octavo.numbers.confusion import IGNORE, confusion
from octavo.numbers.grade_masks import grade_masks, interval_of, mask_card
from octavo.numbers.mask_results import SegmentReport, read_report
from octavo.numbers.results import Report
from octavo.numbers.rules import BESIDE, RULES

NAMES = ("urban", "water", "forest", "unknown")
SCORED = np.array([True, True, True, False])


def masks(images: int = 12, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truths [n,20,20]; images differ in how much is right."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, (images, 20, 20)).astype(np.uint8)
    right = random.random((images, 20, 20)) < random.uniform(0.3, 0.95, (images, 1, 1))
    predicted = np.where(right, truth, random.integers(0, classes, truth.shape)).astype(np.uint8)
    truth[random.random(truth.shape) < 0.05] = IGNORE
    return predicted, truth


def counted(predicted: np.ndarray, truth: np.ndarray, classes: int = 4) -> np.ndarray:
    return np.stack([confusion(p, t, classes) for p, t in zip(predicted, truth, strict=True)])


def report(
    confusions: np.ndarray | None = None, rule: str = "course", split: str = "val", **more: object
) -> SegmentReport:
    given = counted(*masks()) if confusions is None else confusions
    return grade_masks(given, NAMES, SCORED, rule=rule, split=split, **({"replicates": 200} | more))  # type: ignore[arg-type]


def test_numbers_are_those_of_scikit_learn() -> None:
    predicted, truth = masks()
    got = report(rule="voc")
    guess, label = predicted[truth != IGNORE], truth[truth != IGNORE]
    expected = {
        "miou": jaccard_score(label, guess, average="macro"),
        "pixel_accuracy": accuracy_score(label, guess),
        "mean_accuracy": recall_score(label, guess, average="macro"),
        "fw_iou": jaccard_score(label, guess, average="weighted"),
    }
    assert set(got.metrics) == set(expected)
    for name, value in expected.items():
        interval = got.metrics[name]
        assert interval is not None and interval.low is not None and interval.high is not None
        assert interval.value == pytest.approx(value, abs=1e-8)
        assert interval.low < interval.value < interval.high
    for i, c in enumerate(got.per_class):
        assert c.iou is not None and c.scored
        assert c.iou.value == pytest.approx(jaccard_score(label == i, guess == i), abs=1e-8)
        assert c.accuracy == pytest.approx(recall_score(label == i, guess == i), abs=1e-8)
        assert c.precision == pytest.approx(precision_score(label == i, guess == i), abs=1e-8)
        assert (c.truth, c.predicted) == pytest.approx(((label == i).mean(), (guess == i).mean()), abs=1e-8)
    assert got.pixels == len(label)
    assert np.array_equal(np.array(got.confusion), confusion(predicted, truth, 4))
    assert got.miou == got.metrics["miou"].value  # type: ignore[union-attr]
    assert not got.warnings and not got.flattered


def test_intervals_are_those_of_a_bootstrap_of_whole_images() -> None:
    predicted, truth = masks()
    got = report(replicates=4000)
    random, values = np.random.default_rng(5), []
    for _ in range(1500):
        drawn = random.integers(0, 12, 12)
        guess, label = predicted[drawn].ravel(), truth[drawn].ravel()
        ious = [((guess == c) & (label == c)).sum() / ((guess == c) | (label == c)).sum() for c in range(3)]
        values.append(np.mean(ious))
    low, high = np.quantile(values, [0.025, 0.975])
    interval = got.metrics["miou"]
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.015)
    assert high - low > 0.05  # so that the tolerance says something


def test_the_unscored_class_is_not_in_the_courses_mean() -> None:
    got = report()
    scored = [c.iou.value for c in got.per_class if c.scored and c.iou]
    assert [c.scored for c in got.per_class] == SCORED.tolist()
    assert got.miou == pytest.approx(np.mean(scored), abs=1e-8)
    assert got.per_class[3].iou is not None
    assert all(c.scored for c in report(rule="voc").per_class)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_can_be_the_headline(rule: str) -> None:
    confusions = counted(*masks())
    got = report(confusions, rule)
    assert got.miou == pytest.approx(RULES[rule].score(confusions, SCORED).value, abs=1e-8)
    assert got.rule_name == rule and got.rule_title == RULES[rule].title and RULES[rule].text in got.rule
    assert set(got.rules) == {"miou", *BESIDE} and RULES[rule].source in got.rules["miou"]
    assert "too narrow" in got.rule


def test_the_same_seed_gives_the_same_text_and_another_does_not() -> None:
    assert report().to_json() == report().to_json()
    assert report(seed=1).to_json() != report().to_json()
    assert report(seed=1).miou == report().miou


def test_round_trip_of_both_tasks() -> None:
    text = report().to_json()
    assert read_report(text) == SegmentReport.from_json(text) == report()
    assert text.endswith("}\n") and list(json.loads(text)) == sorted(json.loads(text))
    with pytest.raises(UserError, match=r"^runs/x/metrics.json: .*evaluate again$"):
        Report.from_json(text, "runs/x/metrics.json")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"task": "segment"}', '{"task": "classify"}', '{"task": "paint"}', "nonsense"]
)
def test_what_is_no_report_is_told_by_file(text: str) -> None:
    with pytest.raises(UserError, match=r"^runs/x/metrics\.json: .*evaluate again$"):
        read_report(text, "runs/x/metrics.json")


def test_a_report_that_contradicts_itself_is_refused() -> None:
    broken = json.loads(report().to_json())
    broken["confusion"] = broken["confusion"][:-1]
    with pytest.raises(UserError, match="confusion of 5 by 5"):
        read_report(json.dumps(broken))


@pytest.mark.parametrize(("split", "word"), [("train", "trained on"), ("holdout", "chosen on")])
def test_flattered_splits_say_so(split: str, word: str) -> None:
    got = report(split=split)
    assert got.flattered and got.warnings[0].startswith("flattered") and word in got.warnings[0]


def test_absent_classes_are_named_and_a_rule_without_a_number_says_why() -> None:
    predicted, truth = masks(classes=3)
    truth[truth == 1] = 0
    predicted[predicted == 1] = 0
    got = report(counted(predicted, truth), rule="voc")
    assert got.miou is None and got.metrics["miou"] is None and got.metrics["pixel_accuracy"] is not None
    assert "2 of 4 classes have no pixel in the masks that are scored: water, unknown" in got.warnings[0]
    assert 'no mIoU: rule "voc"' in got.warnings[1] and '"mmsegmentation"' in got.warnings[1]
    assert got.per_class[1].iou is None and got.per_class[1].accuracy is None
    assert read_report(got.to_json()) == got
    assert report(counted(predicted, truth), rule="mmsegmentation").miou is not None


def test_pixels_without_prediction_and_a_single_image_are_told() -> None:
    predicted, truth = masks(1)
    predicted[0, :2] = IGNORE
    truth[0, :2] = 0
    got = report(counted(predicted, truth))
    assert any("40 of" in w and "no predicted class" in w for w in got.warnings)
    assert any("one image alone" in w for w in got.warnings)
    assert got.metrics["miou"] is not None and got.metrics["miou"].low is None


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match=r'measure\.rule: unknown "cours"; did you mean "course"'):
        report(rule="cours")
    with pytest.raises(UserError, match="no images to score"):
        report(np.zeros((0, 5, 5), np.int64))


def test_an_interval_needs_resamples_that_have_a_number() -> None:
    numbers = np.linspace(0, 1, 101)
    some = interval_of(0.5, np.where(np.arange(101) % 50 == 1, np.nan, numbers), 0.95, 999, difference=True)
    assert some is not None and some.low is not None and 0 < some.low < 0.06
    scaled = interval_of(0.5, np.where(np.arange(101) % 50 == 1, np.nan, numbers / 4 + 0.4), 0.95, 999)
    assert scaled is not None and scaled.low is not None and 0.3 < scaled.low < 0.4
    few = interval_of(0.5, np.where(np.arange(101) % 10 == 1, np.nan, numbers), 0.95, 999)
    assert few is not None and few.low is None and few.value == 0.5
    assert interval_of(np.nan, numbers, 0.95, 999) is None


def test_scenes_are_resampled_whole() -> None:
    confusions = np.repeat(counted(*masks()), 4, axis=0)
    scenes = np.repeat(np.arange(len(confusions) // 4), 4)
    alone, whole = report(confusions), report(confusions, groups=scenes)
    assert "groups of the scored images" in whole.rule and "too narrow" not in whole.rule
    assert "too narrow" in alone.rule

    def width(found: SegmentReport) -> float:
        miou = found.metrics["miou"]
        assert miou is not None and miou.low is not None and miou.high is not None
        return miou.high - miou.low

    assert width(whole) > 1.6 * width(alone)


def test_the_card_has_every_rule_and_the_headline_first() -> None:
    confusions = counted(*masks())
    rows = mask_card(confusions, NAMES, SCORED, "voc")
    assert rows[0].rule == "voc"
    assert sorted(r.rule for r in rows) == sorted([*RULES, *BESIDE])
    assert [r.rule for r in rows[-3:]] == list(BESIDE)
    for row in rows:
        rule = (RULES | BESIDE)[row.rule]
        assert row.value == pytest.approx(rule.score(confusions, SCORED).value, abs=1e-8)
        assert (row.title, row.source) == (rule.title, rule.source)
        assert row.note == ""


def test_the_card_says_what_became_of_absent_classes() -> None:
    predicted, truth = masks(classes=3)
    rows = {r.rule: r for r in mask_card(counted(predicted, truth), NAMES, SCORED, "course")}
    assert rows["course"].note == "" and rows["course"].value is not None  # the absent one isn't scored
    assert rows["voc"].note == "absent unknown: no number (0/0)" and rows["voc"].value is None
    assert rows["absent-one"].note == "absent unknown: counts 1"
    assert rows["mmsegmentation"].note == "absent unknown: left out"
    assert rows["smp-macro-imagewise"].note == "12 of 48 pairs of image and class are empty: counts 1"


@pytest.mark.parametrize("rule", ["course", "mmsegmentation", "absent-one"])
def test_worse_than_one_class_everywhere_is_said(rule: str) -> None:
    """Against scikit-learn's numbers of masks that are painted in the commonest class."""
    random = np.random.default_rng(0)
    truth = np.where(random.random((8, 20, 20)) < 0.9, 1, random.integers(0, 3, (8, 20, 20))).astype(np.uint8)
    truth[:, 0] = IGNORE
    predicted = np.where(random.random(truth.shape) < 0.95, 2, truth).astype(np.uint8)
    label, everywhere = truth[truth != IGNORE], np.ones((truth != IGNORE).sum(), int)
    painted = np.ones_like(truth)
    expected = grade_masks(counted(painted, truth), NAMES, SCORED, rule=rule, split="val", replicates=200).metrics[
        "miou"
    ]
    got = report(counted(predicted, truth), rule)
    (said,) = [text for text in got.warnings if "worse than" in text]
    assert said.startswith('worse than always naming the commonest class, "water": ')
    own = got.metrics["miou"]
    assert expected is not None and own is not None
    assert (f"mIoU {own.value:.4f} (that: {expected.value:.4f})" in said) == (own.value < expected.value)
    assert f"pixel accuracy {accuracy_score(label, predicted[truth != IGNORE]):.4f}" in said
    assert f"(that: {accuracy_score(label, everywhere):.4f})" in said
    for fine in (painted, truth):
        assert not any("worse than" in text for text in report(counted(fine, truth), rule).warnings)
