"""What is said of an evaluation: what was scored, how the ensemble came about, and what to beware of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.ensemble import CHOSEN, Ensemble
from octavo.numbers.exact import SURE
from octavo.numbers.metrics import Labels, metrics_for
from octavo.numbers.power import power_sentence, uneven
from octavo.numbers.results import Interval, SystemResult
from octavo.words import counted

OPTIMISM_RULE = (
    "The same members twice: with weights and calibration chosen on images that are not scored (honest), and on the "
    "scored images themselves, weights by greedy selection for accuracy (flattered). The gap is what such a choice "
    "adds to the number, and not to the model. Epochs, augmentation and architectures that are chosen by the scored "
    "images flatter too, and are not in it."
)

WORSE = 0.1
"""By how much an NLL has to be higher after calibration for a warning, in nats and as a share."""
FEW_TO_CALIBRATE = 50
"""Images below which a calibration is rough."""
DISAGREEMENT = 0.1
"""Share of the images on which one of two models alone is right, that a report's power is told for."""


def absent_classes(counts: NDArray[np.integer], classes: Sequence[str]) -> tuple[str, ...]:
    """Return a warning if classes have no image among those scored; `counts` [C]."""
    absent = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if not absent:
        return ()
    shown = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
    return (f"{len(absent)} of {len(classes)} classes have no image among those scored: {shown}",)


def calibration_warning(systems: Sequence[SystemResult], split: str, where: str, images: int) -> str | None:
    """Return a warning if calibration made probabilities clearly worse on the images that are scored.

    Args:
        systems: members, and last the ensemble, with their numbers before and after; the first of them of which it is
            so is named, the ensemble before all.
        split: what is scored; on training images networks are surer than on any others.
        where: the images that calibration was fitted on.
        images: how many.
    """
    found = next((system for system in (systems[-1], *systems) if _made_worse(system)), None)
    if split == "train" or found is None:
        return None
    after, before = found.metrics["nll"].value, found.uncalibrated["nll"].value
    few = images < FEW_TO_CALIBRATE
    why = "; hold out more (data.holdout, data.folds)" if few else ", which may be unlike those that are scored"
    return (
        f"calibration made probabilities worse here: NLL of {found.name} {before:.3f} before, {after:.3f} after; it "
        f"was fitted on {counted(images, 'image')} ({where}){why}"
    )


def member_warning(gain: Interval, p: float, best: str, split: str, combine: str) -> str | None:
    """Return a warning if an ensemble is surely less accurate than its best member.

    Args:
        gain: the ensemble's accuracy less the member's, its interval for the best of all members.
        p: exact, of the images on which one of the two alone is right.
        best: that member.
        split: what is scored; on training images the member that overfits most is the best.
        combine: how the ensemble came about.
    """
    if split == "train" or gain.low is None or gain.high is None or gain.high >= 0 or p >= SURE:
        return None
    ends = f"{-100 * gain.high:.2f} to {-100 * gain.low:.2f}, as the best of all members"
    more = f"more accurate here than the ensemble by {-100 * gain.value:.2f} points ({ends})"
    advice = "" if combine in CHOSEN else "; chosen weights (ensemble.combine=greedy) leave weak members out"
    return f"one member alone, {best}, is {more}{advice}"


def _made_worse(system: SystemResult) -> bool:
    before, after = system.uncalibrated.get("nll"), system.metrics["nll"].value
    return before is not None and after > max(before.value + WORSE, (1 + WORSE) * before.value)


def _flattery(split: str, chosen: str, calibrated: str) -> tuple[str, ...]:
    """Return why the numbers are flattered, if they are."""
    if split == "train":
        return ("flattered: the members were trained on the images that are scored",)
    if split == "holdout":
        return ("flattered: weights, temperatures and epochs may have been chosen on the images that are scored",)
    if chosen == split:
        return (f"flattered: the ensemble's weights were chosen on the images that are scored ({split})",)
    if calibrated == split:
        return (f"flattered: probabilities were calibrated on the images that are scored ({split})",)
    return ()


_COMBINED = {
    "mean_probability": "the mean of the members' probabilities",
    "mean_logit": "the mean of the members' logits",
    "weighted": "a sum of the members' logits with the recipe's weights",
    "greedy": "a weighted sum of the members' logits",
    "caruana": "a weighted sum of the members' logits",
}
_PLACES = {
    "holdout": "a held-out share of the training images",
    "out-of-fold": "the training images, each predicted by the networks that did not see it",
    "val": "the validation images",
}
_SCALED = {
    "temperature": "Each system's logits are divided by one temperature",
    "vector": "What members add is told before calibration. Each system's logits have a scale and a bias a class",
}


def rule_of(
    split: str,
    truth: Labels,
    classes: Sequence[str],
    combination: Ensemble,
    fitted_on: str,
    rounds: int,
    boot: Bootstrap,
) -> dict[str, Any]:
    """Return the fields of a Report that say what was scored, how the ensemble came about, and what to beware of."""
    chosen = fitted_on if combination.combine in CHOSEN and len(combination.names) > 1 else "none"
    method = combination.calibration.method
    calibrated = fitted_on if method != "none" else "none"
    how = _COMBINED[combination.combine]
    if chosen != "none":
        most = f", at most {rounds} rounds" if combination.combine == "caruana" else ""
        how += f", with weights chosen on {_PLACES.get(chosen, chosen)} {CHOSEN[combination.combine]}{most}"
    scaled = ""
    if method != "none":
        scaled = (
            f" {_SCALED[method]} (Guo et al., ICML 2017), fitted by likelihood on "
            f"{_PLACES.get(calibrated, calibrated)}."
        )
    counts = np.bincount(truth, minlength=len(classes))
    flattery = _flattery(split, chosen, calibrated)
    return {
        "split": split,
        "n": len(truth),
        "classes": tuple(classes),
        "rule": f"Scored on {counted(len(truth), 'image')} of split {split}. The ensemble is {how}.{scaled} "
        f"{boot.rule}",
        "rules": {name: metric.rule for name, metric in metrics_for(len(classes)).items()},
        "combine": combination.combine,
        "fitted_on": chosen,
        "calibration": method,
        "calibrated_on": calibrated,
        "flattered": bool(flattery),
        "majority": counts.max() / len(truth),
        "uneven": uneven(counts),
        "power": power_sentence(len(truth), DISAGREEMENT) if boot.groups is None else "",
        "warnings": (*flattery, *absent_classes(counts, classes)),
    }
