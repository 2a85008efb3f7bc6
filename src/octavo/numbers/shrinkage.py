"""Ensemble weights by likelihood, shrunk towards equal weights by as much as the images leave them open.

Few images can't tell good weights from lucky ones: chosen by accuracy on 20, weights lost 2.7 points against equal
ones, and one member was left alone in every third draw. So the weights here have a prior (ridge regression's; Hoerl
and Kennard, Technometrics 12, 1970) whose strength the images choose (empirical Bayes; MacKay, Neural Computation 4,
1992):

    p(y) = softmax(b · Σ w_m · logits_m)[y]        w on the simplex of M members
    w_m ~ N(1/M, 1/(s·M))    ln b ~ N(0, 1)        s one of `STRENGTHS`, equally probable

For each strength the most probable weights are found, and how probable that strength makes the labels (Laplace's
approximation). The answer is the mean of those weights by these probabilities. Members that are alike keep equal
weights however many images there are; one that is far worse than the others loses its weight within twenty. Nothing is
drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

Doubles = NDArray[np.float64]

STRENGTHS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
"""Of the pull towards equal weights: those have a deviation of 1/√(s·M), so from .02 to .33 of three members."""
LEAST = 1e-3
"""Smaller weights are 0, which spares a member's work."""
_BLOCK, _KEPT = 1 << 20, 1 << 24
# Logits of one member that are worked on at a time, and those of all that are kept in double precision meanwhile: so
# 1,000 classes fit in memory.


def shrunken_weights(logits: ArrayLike, labels: ArrayLike) -> Doubles:
    """Return weights [M], which sum to one, for the weighted sum of logits [M,n,C] of images with labels int [n].

    Raises:
        ValueError: no images.
    """
    likelihood = Likelihood(np.asarray(logits), np.asarray(labels, np.int64))
    members = likelihood.members
    scaled, found, evidence = np.full(members, 1 / members), [], []
    for strength in STRENGTHS:
        scaled, value = _most_probable(likelihood, strength, scaled)
        weights = scaled / scaled.sum()
        spread = _in_simplex(likelihood.curvature(scaled) * scaled.sum() ** 2) / (strength * members)
        evidence.append(value - np.linalg.slogdet(np.eye(members - 1) + spread)[1] / 2)
        found.append(weights)
    mean = softmax(evidence) @ np.array(found)
    mean[mean < LEAST] = 0
    return mean / mean.sum()


class Likelihood:
    """Log-likelihood of labels int [n] as a function of the coefficients v [M] of members' logits [M,n,C]."""

    def __init__(self, logits: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
        if logits.ndim != 3 or labels.shape != logits.shape[1:2] or not len(labels):
            raise ValueError(f"expected logits [M,n,C] and labels [n], n >= 1, got {logits.shape} and {labels.shape}")
        self.logits, self.labels, self.members = logits, labels, len(logits)
        self._kept = list(self._blocks()) if logits.size <= _KEPT else None

    def _blocks(self) -> Iterator[Doubles]:
        """Give some images at a time: each member's logits less that of the true class, [M,b,C]."""
        rows = max(1, _BLOCK // self.logits.shape[2])
        for start in range(0, len(self.labels), rows):
            part = self.logits[:, start : start + rows].astype(np.float64)
            own = self.labels[start : start + rows]
            yield part - part[:, np.arange(len(own)), own][:, :, None]

    def __call__(self, v: Doubles) -> tuple[float, Doubles]:
        """Return the log-likelihood, and its gradient [M]."""
        value, gradient = 0.0, np.zeros(self.members)
        for gaps in self._kept or self._blocks():
            scores = np.tensordot(v, gaps, 1)
            top = scores.max(axis=1, keepdims=True)
            powers = np.exp(scores - top)
            total = powers.sum(axis=1, keepdims=True)
            value -= float((np.log(total) + top).sum())
            gradient -= gaps.reshape(self.members, -1) @ (powers / total).ravel()
        return value, gradient

    def curvature(self, v: Doubles) -> Doubles:
        """Return the matrix of second derivatives [M,M], less its sign: the summed covariances of members' logits."""
        found = np.zeros((self.members, self.members))
        for gaps in self._kept or self._blocks():
            root = np.sqrt(softmax(np.tensordot(v, gaps, 1), axis=1))
            spread = gaps * root
            means = (spread * root).sum(axis=2)
            flat = spread.reshape(self.members, -1)
            found += flat @ flat.T - means @ means.T
        return found


def _most_probable(likelihood: Likelihood, strength: float, start: Doubles) -> tuple[Doubles, float]:
    """Return the coefficients v = b · w [M] with the highest posterior, and its logarithm without constants."""
    from scipy.optimize import minimize  # here, because prediction fits nothing and this import takes its time

    members, images = likelihood.members, len(likelihood.labels)

    def loss(v: Doubles) -> tuple[float, Doubles]:
        total = v.sum()
        apart, log_b = v / total - 1 / members, np.log(total)
        value, gradient = likelihood(v)
        pull = strength * members * apart
        value -= strength * members / 2 * float(apart @ apart) + log_b**2 / 2
        gradient = gradient - (pull - pull @ v / total + log_b) / total
        return -value / images, -gradient / images

    # Above zero by a little, as the sum divides.
    bounds = [(1e-9, None)] * members
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500, "ftol": 1e-12})
    return np.asarray(found.x), -float(found.fun) * images


def _in_simplex(matrix: Doubles) -> Doubles:
    """Return a quadratic form [M,M] of the weights as one of the M - 1 directions in which their sum stays the same."""
    members = len(matrix)
    basis = np.linalg.svd(np.ones((1, members)))[2][1:]
    return basis @ matrix @ basis.T
