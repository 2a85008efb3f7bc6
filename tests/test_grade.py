"""Reports from logits: against scikit-learn, plain re-computation, and the rules on what is flattered."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from octavo.errors import UserError
from octavo.numbers.calibration import Calibration
from octavo.numbers.ensemble import CHOSEN, COMBINE, Ensemble
from octavo.numbers.grade import class_results, grade
from octavo.numbers.metrics import METRICS
from octavo.numbers.results import Report
from octavo.progress import Interrupted

CLASSES = tuple("abcdefg")
NAMES = ("one", "two", "three")


def draw(n: int, seed: int, members: int = 3, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [M,N,C] and labels of all classes but the last."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % (classes - 1)
    logits = random.normal(size=(members, n, classes))
    logits[:, np.arange(n), labels] += 1.5
    return logits.astype(np.float32), labels


def report(combine: str = "greedy", **options: object) -> Report:
    """A report of three members on 240 images, weights fitted on 90 others."""
    fit = draw(90, 1)
    ensemble = Ensemble.fit(NAMES, combine, *fit, given={"one": 1, "two": 1} if combine == "weighted" else None)
    given: dict[str, object] = {"split": "val", "fit": fit, "fitted_on": "holdout", "replicates": 200}
    logits, labels = draw(240, 2)
    return grade(NAMES, logits, labels, CLASSES, ensemble, **(given | options))  # pyright: ignore[reportArgumentType]


def test_an_ensemble_below_its_best_member_is_told() -> None:
    logits, labels = draw(240, 2)
    weak = np.random.default_rng(5).normal(size=(2, *logits.shape[1:])).astype(np.float32) * 4
    stack = np.concatenate([logits[:1], weak])
    for weights, surely in ((0.4, 0.3, 0.3), True), ((1.0, 0.0, 0.0), False):
        found = grade(NAMES, stack, labels, CLASSES, Ensemble(NAMES, "weighted", weights), split="val", replicates=200)
        told = [
            text for text in found.warnings if "one is more accurate here than the ensemble" in text.replace(",", "")
        ]
        assert bool(told) == surely == bool(found.gain.high is not None and found.gain.high < 0)
    by = 100 * (accuracy_score(labels, logits[0].argmax(1)) - accuracy_score(labels, stack.sum(0).argmax(1)))
    said = grade(
        NAMES, stack, labels, CLASSES, Ensemble(NAMES, "mean_logit", (1 / 3,) * 3), split="val", replicates=200
    )
    assert any(f"by {by:.2f} points (" in text and "ensemble.combine=greedy" in text for text in said.warnings)
    said = grade(
        NAMES, stack, labels, CLASSES, Ensemble(NAMES, "mean_logit", (1 / 3,) * 3), split="train", replicates=200
    )
    assert not any("one member alone" in text for text in said.warnings)


def test_the_best_of_many_alike_is_no_warning() -> None:
    """Eight members and an ensemble that is one of them, all as good: 2.5 % of the times one is surely better."""
    names, told = tuple("abcdefgh"), 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        labels = np.arange(200) % 4
        right = random.random((8, 200)) < 0.8
        called = np.where(right, labels, (labels + 1) % 4)
        logits = (np.eye(4)[called] * 3).astype(np.float32)
        one = Ensemble(names, "weighted", (1.0, *(0.0,) * 7))
        found = grade(names, logits, labels, tuple("wxyz"), one, split="val", replicates=400)
        told += any("one member alone" in text for text in found.warnings)
    assert told <= 5


@pytest.mark.parametrize("combine", COMBINE)
def test_report_of_every_combination(combine: str) -> None:
    found = report(combine)
    logits, labels = draw(240, 2)
    assert [s.name for s in found.systems] == [*NAMES, "ensemble"]
    for system, member in zip(found.systems, logits, strict=False):
        assert list(system.metrics) == list(METRICS)
        assert system.metrics["accuracy"].value == pytest.approx(accuracy_score(labels, member.argmax(1)), abs=1e-9)
    weights = [c.weight for c in found.contributions]
    mixed = COMBINE[combine](logits, weights)
    assert found.ensemble.metrics["nll"].value == pytest.approx(METRICS["nll"](mixed, labels)[0], abs=1e-8)
    assert found.fitted_on == ("holdout" if combine in CHOSEN else "none")
    assert found.combine == combine and not found.flattered
    assert found.n == 240 and found.majority == pytest.approx(1 / 6, abs=1e-9)
    assert Report.from_json(found.to_json()) == found


def test_two_reports_are_the_same_bytes_and_a_seed_changes_them() -> None:
    assert report().to_json() == report().to_json()
    assert report().to_json() != report(seed=1).to_json()


def test_gain_and_best_member() -> None:
    found = report()
    values = {s.name: s.metrics["accuracy"].value for s in found.systems}
    best = max(NAMES, key=lambda name: values[name])
    assert found.best_member == best
    assert found.gain.value == pytest.approx(values["ensemble"] - values[best], abs=1e-8)
    assert found.gain.low is not None and found.gain.low <= found.gain.value


@pytest.mark.parametrize("combine", COMBINE)
def test_leave_one_out_is_the_ensemble_less_that_of_the_others(combine: str) -> None:
    found = report(combine)
    logits, labels = draw(240, 2)
    fit = draw(90, 1)
    whole = found.ensemble.metrics["accuracy"].value
    for i, part in enumerate(found.contributions):
        kept = [j for j in range(3) if j != i]
        given = {"one": 1, "two": 1} if combine == "weighted" else None
        others = Ensemble.fit(
            [NAMES[j] for j in kept],
            combine,
            fit[0][kept],
            fit[1],
            given={k: v for k, v in given.items() if k != NAMES[i]} if given else None,
        )
        right = accuracy_score(labels, others.logits(logits[kept]).argmax(1))
        assert part.leave_one_out is not None
        assert part.leave_one_out.value == pytest.approx(whole - right, abs=1e-8)
        if combine == "weighted" and part.weight == 0:
            assert (part.leave_one_out.low, part.leave_one_out.high) == (0, 0)


def test_where_nothing_is_left_there_is_no_leave_one_out() -> None:
    logits, labels = draw(60, 3)
    ensemble = Ensemble(NAMES, "weighted", (0.0, 1.0, 0.0))
    found = grade(NAMES, logits, labels, CLASSES, ensemble, split="val", replicates=50)
    assert found.contributions[1].leave_one_out is None
    assert found.contributions[0].leave_one_out is not None
    alone = grade(NAMES[:1], logits[:1], labels, CLASSES, Ensemble(NAMES[:1], "greedy", (1.0,)), split="val",
                  fit=draw(0, 0), fitted_on="holdout", replicates=50)  # fmt: skip
    assert alone.contributions[0].leave_one_out is None
    assert alone.fitted_on == "none" and not alone.flattered
    assert (alone.gain.value, alone.gain.low, alone.gain.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("combine", "split", "fitted_on", "flattered"),
    [
        ("greedy", "val", "val", True),
        ("greedy", "val", "holdout", False),
        ("greedy", "test", "val", False),
        ("greedy", "holdout", "holdout", True),
        ("mean_logit", "val", "val", False),  # nothing was fitted
        ("mean_logit", "train", "none", True),
        ("mean_logit", "holdout", "none", True),
        ("mean_logit", "all", "none", False),
    ],
)
def test_flattered(combine: str, split: str, fitted_on: str, flattered: bool) -> None:
    found = report(combine, split=split, fitted_on=fitted_on)
    assert found.flattered is flattered
    assert any(w.startswith("flattered") for w in found.warnings) is flattered


def test_rule_says_how_the_number_was_made() -> None:
    rule = report().rule
    for word in ("likelihood", "shrunk towards equal weights", "held-out"):
        assert word in rule
    rule = report("caruana").rule
    for word in ("240 images", "split val", "held-out", "Caruana", "50 rounds", "200 resamples", "seed 0", "95 %"):
        assert word in rule
    assert "greedy" not in report("mean_probability").rule
    assert set(report().rules) == set(METRICS)


def test_absent_classes_are_told() -> None:
    assert any("1 of 7 classes" in w and w.endswith("g") for w in report().warnings)


def test_classes_equal_scikit_learn() -> None:
    random = np.random.default_rng(4)
    truth, predicted = random.integers(0, 5, 200), random.integers(0, 6, 200)
    scores: Any = precision_recall_fscore_support(truth, predicted, labels=range(7), zero_division=cast(Any, np.nan))
    precision, recall, f1, support = scores
    matrix = confusion_matrix(truth, predicted, labels=range(7))
    rows = class_results(predicted, truth, CLASSES)
    for i, row in enumerate(rows):
        assert (row.name, row.support, row.predicted) == (CLASSES[i], support[i], matrix[:, i].sum())
        for got, theirs in ((row.precision, precision[i]), (row.recall, recall[i]), (row.f1, f1[i])):
            assert np.isnan(theirs) if got is None else got == pytest.approx(theirs, abs=1e-9)
    assert rows[5].accuracy is None and rows[6].f1 is None and rows[5].f1 == 0
    wilson = binomtest(int(matrix[0, 0]), int(support[0])).proportion_ci(method="wilson")
    assert rows[0].accuracy is not None
    assert (rows[0].accuracy.low, rows[0].accuracy.high) == pytest.approx((wilson.low, wilson.high), abs=1e-8)


def test_missing_predictions_are_nobodys() -> None:
    rows = class_results(np.array([0, -1]), np.array([0, 0]), CLASSES)
    assert (rows[0].recall, rows[0].precision, rows[0].predicted) == (0.5, 1.0, 1)
    assert sum(r.predicted for r in rows) == 1


def test_refusals() -> None:
    logits, labels = draw(12, 3)
    ensemble = Ensemble.fit(NAMES, "mean_logit")
    with pytest.raises(UserError, match="no images"):
        grade(NAMES, logits[:, :0], labels[:0], CLASSES, ensemble, split="val")
    with pytest.raises(UserError, match="label -1"):
        grade(NAMES, logits, labels - 1, CLASSES, ensemble, split="val")
    with pytest.raises(UserError, match="label 7"):
        grade(NAMES, logits, labels + 2, CLASSES, ensemble, split="val")
    broken = logits.copy()
    broken[1, 3, 2] = np.nan
    with pytest.raises(UserError, match="member two"):
        grade(NAMES, broken, labels, CLASSES, ensemble, split="val")
    with pytest.raises(ValueError, match="expected logits"):
        grade(NAMES, logits[:2], labels, CLASSES, ensemble, split="val")
    with pytest.raises(ValueError, match="expected logits"):
        grade(("two", "one", "three"), logits, labels, CLASSES, ensemble, split="val")


def test_two_classes_and_one_image() -> None:
    found = grade(("a",), np.array([[[1.0, 0.0]]]), [0], ("x", "y"), Ensemble(("a",), "greedy", (1.0,)), split="val")
    assert "top5" not in found.ensemble.metrics
    assert found.ensemble.metrics["accuracy"].low == pytest.approx(0.2065, abs=1e-3)


def test_class_names_that_are_no_unicode() -> None:
    found = grade(("a",), np.array([[[1.0, 0.0]]]), [0], ("x\udcff", "y"), Ensemble(("a",), "greedy", (1.0,)),
                  split="val", replicates=20)  # fmt: skip
    assert found.classes[0] == found.per_class[0].name == "x\N{REPLACEMENT CHARACTER}"
    assert Report.from_json(found.to_json()) == found


def test_progress_is_told_and_may_interrupt() -> None:
    told: list[tuple[str, int, int]] = []
    report(progress=lambda what, done, total, note="": told.append((what, done, total)))
    assert told[0] == ("leave-one-out", 0, 3) and told[-1] == ("intervals", 200, 200)

    def stop(what: str, done: int, total: int, note: str = "") -> None:
        raise Interrupted(2)

    with pytest.raises(Interrupted):
        report(progress=stop)


def test_eight_members_of_the_reference_take_seconds() -> None:
    classes = tuple(map(str, range(50)))
    names = tuple(f"m{i}" for i in range(8))
    fit, (logits, labels) = draw(2250, 0, 8, 50), draw(2500, 1, 8, 50)
    start = time.perf_counter()
    grade(
        names, logits, labels, classes, Ensemble.fit(names, "greedy", *fit), split="val", fit=fit, fitted_on="holdout"
    )
    assert time.perf_counter() - start < 20


def test_calibrated_numbers_stand_beside_those_before() -> None:
    fit, (logits, labels) = draw(90, 1), draw(240, 2)
    logits[1] *= 4  # too sure of itself
    fit[0][1] *= 4
    ensemble = Ensemble.fit(NAMES, "mean_probability", *fit, calibration="temperature")
    found = grade(NAMES, logits, labels, CLASSES, ensemble, split="val", fit=fit, fitted_on="holdout", replicates=50)
    assert found.calibrated_on == "holdout" and found.calibration == "temperature" and not found.flattered
    for i, system in enumerate((*found.systems[:3],)):
        temperature = system.temperature
        assert temperature is not None
        nll, raw = (METRICS["nll"](x, labels)[0] for x in (logits[i] / temperature, logits[i]))
        assert system.metrics["nll"].value == pytest.approx(nll, abs=1e-7)
        assert system.uncalibrated["nll"].value == pytest.approx(raw, abs=1e-8)
        assert system.metrics["accuracy"].value == pytest.approx(accuracy_score(labels, logits[i].argmax(1)), abs=1e-9)
    assert found.systems[1].metrics["ece"].value < found.systems[1].uncalibrated["ece"].value
    assert "one temperature" in found.rule and "held-out share" in found.rule
    fitted = grade(NAMES, logits, labels, CLASSES, ensemble, split="val", fit=fit, fitted_on="val", replicates=50)
    assert fitted.flattered and "calibrated on the images that are scored" in fitted.warnings[0]


def test_optimism_is_what_choosing_on_the_scored_images_adds() -> None:
    fit, (logits, labels) = draw(90, 1), draw(240, 2)
    honest = Ensemble.fit(NAMES, "greedy", *fit, calibration="temperature")
    tuned = Ensemble.fit(NAMES, "greedy", logits, labels, calibration="temperature")
    given: dict[str, Any] = {"split": "val", "replicates": 100}
    told = grade(NAMES, logits, labels, CLASSES, honest, fit=fit, fitted_on="holdout", rival=tuned, **given)
    boast = grade(NAMES, logits, labels, CLASSES, tuned, fit=(logits, labels), fitted_on="val", rival=honest, **given)
    assert told.optimism and boast.optimism and told.optimism == boast.optimism
    assert not told.flattered and boast.flattered
    for key in ("accuracy", "nll"):
        assert told.optimism.honest[key] == told.ensemble.metrics[key]
        assert boast.optimism.flattered[key] == boast.ensemble.metrics[key]
        gap = told.optimism.flattered[key].value - told.optimism.honest[key].value
        assert told.optimism.gap[key].value == pytest.approx(gap, abs=1e-8)
    assert told.optimism.gap["accuracy"].value >= 0
    assert told.optimism.weights == pytest.approx(dict(zip(NAMES, tuned.weights, strict=True)), abs=1e-8)
    assert report().optimism is None


@pytest.mark.parametrize("images", [5, 60])
def test_a_calibration_that_made_things_worse_is_told(images: int) -> None:
    """By a temperature far too low; one that was fitted well says nothing, and neither do training images."""
    fit = draw(90, 1)
    well = Ensemble.fit(NAMES, "mean_logit", *fit, calibration="temperature")
    cold = replace(well, calibration=Calibration("temperature", (20.0,)))
    given: dict[str, Any] = {"fit": (fit[0][:, :images], fit[1][:images]), "fitted_on": "holdout", "replicates": 50}
    logits, labels = draw(240, 2)

    def warned(ensemble: Ensemble, split: str = "val") -> list[str]:
        found = grade(NAMES, logits, labels, CLASSES, ensemble, split=split, **given)
        return [text for text in found.warnings if text.startswith("calibration")]

    assert warned(well) == warned(cold, "train") == []
    (told,) = warned(cold)
    before, after = (METRICS["nll"](answer(logits), labels)[0] for answer in (cold.combined, cold.logits))
    assert (
        f"NLL of ensemble {before:.3f} before, {after:.3f} after" in told
        and f"fitted on {images} images (holdout)" in told
    )
    assert ("hold out more" if images == 5 else "unlike those that are scored") in told


def test_members_and_ensembles_below_the_commonest_class_are_named() -> None:
    """Balanced weights with smoothing once ended at an accuracy of .02 where .98 was to be had."""
    labels = np.r_[np.zeros(98, int), np.ones(2, int)]
    rare, common = np.tile([0.0, 3.0], (100, 1)), np.tile([3.0, 0.0], (100, 1))
    stack = np.stack([rare, rare, common])
    found = grade(NAMES, stack, labels, ("x", "y"), Ensemble.fit(NAMES, "mean_logit"), split="val", replicates=50)
    texts = [text for text in found.warnings if "worse than always naming the commonest class (0.9800)" in text]
    assert [text.count("0.0200") for text in texts] == [1, 2]  # the ensemble, two of the members
    assert f"{NAMES[0]} 0.0200, {NAMES[1]} 0.0200" in texts[1] and NAMES[2] not in texts[1]
    one = grade(NAMES[:1], stack[:1], labels, ("x", "y"), Ensemble.fit(NAMES[:1], "mean_logit"), split="val",
                replicates=50)  # fmt: skip
    assert sum("worse than" in text for text in one.warnings) == 1
