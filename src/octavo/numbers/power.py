"""What a set of images can tell: how far two models must differ to be told apart, and what naming one class scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import binom

from octavo.numbers.exact import SURE, sign_test
from octavo.numbers.results import ClassResult, Interval
from octavo.words import counted

_WORSE = "worse than always naming the commonest class"
_SAME = 1e-9  # accuracies in reports are rounded
UNEVEN = 1.5
"""Classes are uneven where the largest has more than this many times the images of the smallest."""


def detection(n: int, disagreement: float, difference: float, level: float = 0.05) -> float:
    """Return the probability that McNemar's exact test finds the better of two models on n images.

    Images are drawn independently. On a share `disagreement` of them one model alone is right, and the better one is
    that more often, by `difference` of all images. The number of such images is itself a draw, over which this sums
    (the unconditional power; Connor, Biometrics 43, 1987). Two-sided test, p below `level`; only the right verdict
    counts.

    Args:
        n: images, >= 1.
        disagreement: in (0,1].
        difference: of the accuracies, from 0 to `disagreement`.
        level: of the test.
    """
    if n < 1 or not 0 < disagreement <= 1 or not 0 <= difference <= disagreement * (1 + 1e-12):
        raise ValueError(f"needs n >= 1, 0 <= difference <= disagreement <= 1: {n}, {difference}, {disagreement}")
    spread = 9 * math.sqrt(n * disagreement * (1 - disagreement)) + 9
    middle = n * disagreement
    # Numbers of discordant images with any probability to speak of: a few thousand for a million images.
    k = np.arange(max(1, math.floor(middle - spread)), min(n, math.ceil(middle + spread)) + 1)
    # The most images on which the worse model may be the right one: 2·P(X <= most) < level under a fair coin.
    most = binom.ppf(level / 2, k, 0.5) - 1
    worse = max(0.0, (1 - difference / disagreement) / 2)
    return float((binom.pmf(k, n, disagreement) * binom.cdf(most, k, worse)).sum())


def smallest_difference(n: int, disagreement: float, power: float = 0.8, level: float = 0.05) -> float:
    """Return the smallest difference of two accuracies that McNemar's exact test finds with probability `power`.

    It is never above `disagreement`, as models can't differ by more than the share on which one alone is right;
    infinite where even that much is not found so often. Assumptions: see `detection`.
    """
    if detection(n, disagreement, disagreement, level) < power:
        return math.inf
    return float(brentq(lambda d: detection(n, disagreement, d, level) - power, 0, disagreement, xtol=1e-9))  # pyright: ignore[reportArgumentType]


def approximate_difference(n: int, disagreement: float, power: float = 0.8, level: float = 0.05) -> float:
    """Return the same by the normal approximation: (z1·√d + z2·√(d - x²)) / √n = x (Miettinen, Biometrics 24, 1968).

    With few images it is above `disagreement`, which no difference is: there it says by how much they are too few.
    """
    sure, likely = NormalDist().inv_cdf(1 - level / 2), NormalDist().inv_cdf(power)

    def gap(x: float) -> float:
        return (sure * math.sqrt(disagreement) + likely * math.sqrt(max(0.0, disagreement - x * x))) / math.sqrt(n) - x

    return float(brentq(gap, 0, 4 * (sure + abs(likely)) / math.sqrt(n)))  # pyright: ignore[reportArgumentType]


def images_needed(disagreement: float, power: float = 0.8, level: float = 0.05) -> int:
    """Return the fewest images on which models that differ by all of `disagreement` are told apart."""
    high = 8
    while detection(high, disagreement, disagreement, level) < power:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detection(middle, disagreement, disagreement, level) >= power else (middle, high)
    return high


def power_sentence(n: int, disagreement: float, power: float = 0.8, level: float = 0.05) -> str:
    """Return what n images can tell of two models, as a sentence with its assumptions."""
    share, sure = f"{100 * disagreement:.3g} %", f"{100 * power:.3g} %"
    start = f"With {counted(n, 'image')}, two models of which one alone is right on {share} of them"
    test = f"McNemar's exact test, level {100 * level:.3g} %, independent images"
    exact = smallest_difference(n, disagreement, power, level)
    if math.isinf(exact):
        found = detection(n, disagreement, disagreement, level)
        needed, normal = (
            images_needed(disagreement, power, level),
            approximate_difference(n, disagreement, power, level),
        )
        return (
            f"{start} cannot be told apart at {sure} power: they differ by {_points(disagreement)} at most, which is "
            f"found {100 * found:.0f} % of the time ({test}); even that takes {needed:,} images. The normal "
            f"approximation, which knows no such bound, asks for about {_points(normal)}."
        )
    return f"{start} must differ by about {_points(exact)} to be told apart at {sure} power ({test})."


def _points(share: float) -> str:
    number = f"{100 * share:.2g}"
    return f"{number} point{'' if number == '1' else 's'}"


def uneven(counts: ArrayLike) -> bool:
    """Whether of the classes that have images, counts [C], the largest has more than `UNEVEN` times the smallest."""
    present = _present(counts)
    return len(present) > 1 and bool(present.max() > UNEVEN * present.min())


def beats_commonest(per_class: Sequence[ClassResult], accuracy: Interval) -> bool:
    """Whether answers are surely better than always naming the commonest class of the scored images.

    They are where their accuracy's interval lies above that, which knows of groups, and where they are right on so many
    more of the images on which one of the two alone is, by the exact sign test, which knows of few images.
    """
    common = max(per_class, key=lambda result: result.support)
    total = sum(result.support for result in per_class)
    if accuracy.low is None or accuracy.low <= common.support / total:
        return False
    hits = round((common.recall or 0.0) * common.support)
    p = sign_test(round(accuracy.value * total) - hits, common.support - hits)
    return p < SURE


def majority_warning(per_class: Sequence[ClassResult], accuracy: Interval) -> str | None:
    """Return what always naming the commonest class of the scored images scores, where that matters.

    It does where classes are uneven, and where the accuracy is not clearly above it (`beats_commonest`), or
    below.
    """
    counts = [result.support for result in per_class]
    present = _present(counts)
    if len(present) < 2:
        return None
    baseline = present.max() / present.sum()
    beaten = beats_commonest(per_class, accuracy)
    if beaten and not uneven(counts):
        return None
    names = f"always naming the commonest class scores {baseline:.4f}"
    sizes = f"classes are uneven ({present.min():,} to {present.max():,} images): " if uneven(counts) else ""
    if accuracy.value < baseline - _SAME:
        return f"{sizes}accuracy {accuracy.value:.4f} is {_WORSE} ({baseline:.4f})"
    if not beaten:
        return f"{sizes}{names}, and the accuracy of {accuracy.value:.4f} is not clearly above it"
    return f"{sizes}{names}; see balanced accuracy and macro F1 beside the accuracy of {accuracy.value:.4f}"


def members_below_majority(counts: ArrayLike, accuracies: Mapping[str, float]) -> str | None:
    """Return which members are less accurate than always naming the commonest of the scored images, counts [C]."""
    present = _present(counts)
    baseline = present.max() / present.sum() if len(present) else 0.0
    below = {name: value for name, value in accuracies.items() if value < baseline - _SAME}
    if not below:
        return None
    named = ", ".join(f"{name} {value:.4f}" for name, value in below.items())
    return f"{_WORSE} ({baseline:.4f}): accuracy of {named}"


def _present(counts: ArrayLike) -> NDArray[np.int64]:
    numbers = np.asarray(counts, np.int64)
    return numbers[numbers > 0]
