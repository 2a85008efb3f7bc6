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
from scipy.special import log_softmax

from octavo.errors import UserError, lookup

Doubles = NDArray[np.float64]
Labels = NDArray[np.integer]

COLDEST, HOTTEST = 0.01, 100.0
"""Between these a temperature is sought."""
_PLACES = 13  # temperatures that are tried before the best is sought near one of them
SCALE = 0.25
"""Scale of the prior of ln T, Laplace's distribution: before the images are asked, T lies between 0.7 and 1.4 in three
of four cases. With 0.35, and with normal priors, networks that were calibrated already came out worse by 10 and 20
images; with 0.2 those that were far off lost some of what 640 give. Without a prior, 20 images made a network's NLL
three times as high."""
RIDGE = 30.0
"""Weight of vector scaling's ridge: a normal prior with deviation 0.18 on each class's relative scale and bias. Of 1 to
100 it served best, or nearly, where there were 50 images a class and where there were 9."""


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the most probable temperature T in [0.01, 100], with `SCALE` as the prior of ln T.

    Minimised is the summed NLL of softmax(logits / T) + |ln T| / `SCALE`. Of few images it is near 1, and of many the
    one with the least NLL. Where nothing depends on T it is 1; where every image is right it is finite.

    Args:
        logits: [n,C], finite; or log-probabilities.
        labels: int [n], class ids; n >= 1.

    Raises:
        ValueError: no images, shapes that do not belong together, or logits that are not finite.
    """
    # Here, because prediction needs no fit and this import takes a quarter of a second.
    from scipy.optimize import minimize_scalar

    scores, truth = _checked(logits, labels)
    top = scores.max(axis=1, keepdims=True)
    below, missed = scores - top, float((top[:, 0] - scores[np.arange(len(truth)), truth]).sum())

    def loss(log: float) -> float:
        inverse = np.exp(-log)
        return float(np.log(np.exp(inverse * below).sum(axis=1)).sum()) + inverse * missed + abs(log) / SCALE

    # The sum has a corner at T = 1, and may have a second minimum on either side of it.
    tried = np.linspace(np.log(COLDEST), np.log(HOTTEST), _PLACES)
    values = [loss(log) for log in tried]
    best = int(np.argmin(values))
    low, high = tried[max(best - 1, 0)], tried[min(best + 1, _PLACES - 1)]
    found = [(loss(0.0), 0.0)]
    for ends in ((low, min(high, 0.0)), (max(low, 0.0), high)):
        if ends[0] < ends[1]:
            near = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-8})
            found.append((float(near.fun), float(near.x)))
    return float(np.exp(min(found)[1]))


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
        least = min(self.scale, default=0)
        positive = least > 0 or (least == 0 and self.method != "temperature")
        if not fits or not np.isfinite((*self.scale, *self.bias)).all() or not positive:
            raise ValueError(f'calibration "{self.method}" does not go with {s} scales and {b} biases, or they are '
                             "not finite, or a scale isn't above zero")  # fmt: skip

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
    "temperature": "temperature scaling (Guo et al., ICML 2017): all logits divided by one number, the likeliest, "
    "with a prior that keeps it near 1 where images are few",
    "vector": "vector scaling (Guo et al., ICML 2017): each class's logit scaled and shifted, least NLL with a ridge "
    "towards temperature scaling",
}
"""Method → what it does, in words."""

NONE = Calibration("none")
"""Logits as they are."""
