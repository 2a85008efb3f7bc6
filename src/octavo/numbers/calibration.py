"""Calibration: logits rescaled so that probabilities can be believed, fitted on images that nothing else was scored on.

Temperature scaling divides all logits by one number and never changes a prediction; vector scaling gives each class a
scale and a bias of its own, and may (both: Guo et al., "On calibration of modern neural networks", ICML 2017,
section 4.2). Written here because scikit-learn's temperature scaling (1.8) is reached through a classifier of
scikit-learn's kind, takes logits that lie in [0,1] for probabilities, and has no vector scaling; it is the reference of
the tests. Fitting is deterministic: no draws, double precision, fixed start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from octavo.errors import UserError, lookup

Doubles = NDArray[np.float64]
Labels = NDArray[np.integer]

COLDEST, HOTTEST = 0.01, 100.0
"""Between these a temperature is sought."""
RIDGE = 30.0
"""Weight of vector scaling's ridge: a normal prior with deviation 0.18 on each class's relative scale and bias. Of 1 to
100 it served best, or nearly, where there were 50 images a class and where there were 9."""


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature T in [0.01, 100] at which softmax(logits / T) has the least mean NLL.

    The NLL is convex in 1/T, so that the root of its derivative is the minimum. It has none where every image is right
    (ever colder is ever better) or nothing depends on T: then the images do not say what T is, and it is 1.

    Args:
        logits: [n,C], finite; or log-probabilities.
        labels: int [n], class ids; n >= 1.

    Raises:
        ValueError: no images, shapes that do not belong together, or logits that are not finite.
    """
    from scipy.optimize import (
        brentq,
    )  # here, because prediction needs no fit and this import takes a quarter of a second

    scores, truth = _checked(logits, labels)
    own = scores[np.arange(len(truth)), truth]
    if (own >= scores.max(axis=1)).all():
        return 1.0
    # Differences to the true class's logit: their mean under the model is the derivative, and nothing overflows.
    gaps = scores - own[:, None]

    def slope(inverse: float) -> float:
        return float((softmax(inverse * gaps, axis=1) * gaps).sum(axis=1).mean())

    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    if slope(1 / COLDEST) <= 0:
        return COLDEST
    return 1 / float(brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12, rtol=1e-12))  # pyright: ignore[reportArgumentType]


def fit_vector(logits: ArrayLike, labels: ArrayLike) -> tuple[Doubles, Doubles]:
    """Return scale [C] and bias [C] for which softmax(scale · logits + bias) has the least penalised NLL.

    Minimised is the summed NLL + `RIDGE`/2 · Σ((scale·T - 1)² + bias²), with T from `fit_temperature`: with few images
    a class it stays near temperature scaling. Scales are >= 0. A class without an image tells nothing of itself but
    that it is rare here, and keeps 1/T and 0. The sum is convex, so that its minimum does not depend on the start.

    Args:
        logits: [n,C], finite; or log-probabilities.
        labels: int [n], class ids; n >= 1.

    Raises:
        ValueError: as `fit_temperature`.
    """
    scores, truth = _checked(logits, labels)
    n, classes = scores.shape
    temperature = fit_temperature(scores, truth)
    tempered, rows = scores / temperature, np.arange(n)
    seen = np.flatnonzero(np.bincount(truth, minlength=classes))

    def loss(free: Doubles) -> tuple[float, Doubles]:
        relative, bias = np.ones(classes), np.zeros(classes)
        relative[seen], bias[seen] = np.split(free, 2)
        logprobs = log_softmax(tempered * relative + bias, axis=1)
        residual = np.exp(logprobs)
        residual[rows, truth] -= 1
        pulled = np.stack([relative - 1, bias])
        value = -logprobs[rows, truth].sum() + RIDGE / 2 * (pulled**2).sum()
        slope = np.stack([(residual * tempered).sum(axis=0), residual.sum(axis=0)]) + RIDGE * pulled
        return float(value) / n, slope[:, seen].ravel() / n

    start = np.repeat([1.0, 0.0], len(seen))
    bounds = [(0.0, None)] * len(seen) + [(None, None)] * len(seen)
    from scipy.optimize import minimize  # here, as in `fit_temperature`

    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-8}
    )
    scale, bias = np.full(classes, 1 / temperature), np.zeros(classes)
    scale[seen], bias[seen] = found.x[: len(seen)] / temperature, found.x[len(seen) :]
    return scale, bias


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Doubles, Labels]:
    scores, truth = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or not len(truth):
        raise ValueError(f"expected logits [n,C] and labels [n], n >= 1, got {scores.shape} and {truth.shape}")
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(f"expected labels 0..{scores.shape[1] - 1}, got {truth.min()}..{truth.max()}")
    if not np.isfinite(scores).all():
        raise ValueError("logits are not all finite")
    return scores, truth


@dataclass(frozen=True)
class Calibration:
    """How logits are rescaled: `none`, `temperature` (scale holds 1/T alone) or `vector` (C scales and C biases)."""

    method: str
    scale: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        lookup(CALIBRATIONS, self.method, "calibration")
        s, b = len(self.scale), len(self.bias)
        fits = {"none": s == b == 0, "temperature": s == 1 and b == 0, "vector": s == b >= 1}[self.method]
        if not fits or not np.isfinite((*self.scale, *self.bias)).all() or min(self.scale, default=0) < 0:
            raise ValueError(f'calibration "{self.method}" does not go with {s} scales and {b} biases, or they are '
                             "not finite, or a scale is below zero")  # fmt: skip

    @classmethod
    def fit(cls, method: str, logits: ArrayLike, labels: ArrayLike) -> Calibration:
        """Return the calibration of logits [n,C] for which labels int [n] are most probable.

        Raises:
            UserError: unknown method.
            ValueError: as `fit_temperature`.
        """
        lookup(CALIBRATIONS, method, "calibration")
        if method == "none":
            return NONE
        if method == "temperature":
            return cls(method, (1 / fit_temperature(logits, labels),))
        scale, bias = fit_vector(logits, labels)
        return cls(method, tuple(scale.tolist()), tuple(bias.tolist()))

    @property
    def temperature(self) -> float | None:
        """What logits are divided by; `None` of a vector."""
        if self.method == "vector":
            return None
        return 1 / self.scale[0] if self.scale else 1.0

    def apply(self, logits: ArrayLike) -> Doubles:
        """Return rescaled logits, float64, from logits [...,C].

        Raises:
            ValueError: a vector of another number of classes.
        """
        scores = np.asarray(logits, np.float64)
        if self.method == "none":
            return scores
        if self.method == "temperature":
            return scores * self.scale[0]
        if scores.shape[-1] != len(self.scale):
            raise ValueError(f"calibrated for {len(self.scale)} classes, got logits {scores.shape}")
        return scores * np.array(self.scale) + np.array(self.bias)

    def to_dict(self) -> dict[str, object]:
        """Return it as a JSON-able dict; `from_dict` gives it back exactly."""
        return {"method": self.method, "scale": list(self.scale), "bias": list(self.bias)}

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "calibration") -> Calibration:
        """Return the calibration that `to_dict` gave.

        Raises:
            UserError: `data` has another form; `where` names its file and key.
        """
        method, scale, bias = (data.get(key) for key in ("method", "scale", "bias"))
        if set(data) != {"method", "scale", "bias"} or not isinstance(method, str) or method not in CALIBRATIONS:
            raise UserError(f'{where}: expected {{"method": {"|".join(CALIBRATIONS)}, "scale": [...], "bias": [...]}}')
        try:
            return cls(method, _numbers(scale), _numbers(bias))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None


def _numbers(values: object) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
        raise ValueError(f"expected a list of numbers, got {values!r}")
    return tuple(float(v) for v in values)


CALIBRATIONS = {
    "none": "logits as they are",
    "temperature": "temperature scaling (Guo et al., ICML 2017): all logits divided by one number, least NLL",
    "vector": "vector scaling (Guo et al., ICML 2017): each class's logit scaled and shifted, least NLL with a ridge "
    "towards temperature scaling",
}
"""Method → what it does, in words."""

NONE = Calibration("none")
"""Logits as they are."""
