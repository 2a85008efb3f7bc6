"""Calibration against scikit-learn's temperature scaling, SciPy's and torch's optimisers, and by few images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime, minimize
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from octavo.errors import UserError
from octavo.numbers.calibration import (
    CALIBRATIONS,
    COLDEST,
    HOTTEST,
    NONE,
    RIDGE,
    SCALE,
    Calibration,
    fit_temperature,
    fit_vector,
)


def draw(n: int, classes: int, seed: int, temperature: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits [n,C] that are `temperature` times too far apart, and labels drawn from the right probabilities."""
    random = np.random.default_rng((4, seed))
    right = random.normal(0, 2, (n, classes))
    labels = (right + random.gumbel(size=(n, classes))).argmax(axis=1)
    return right * temperature, labels


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


class Passing(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is what it is given."""

    def fit(self, logits: np.ndarray, labels: np.ndarray) -> Passing:
        self.classes_ = np.arange(logits.shape[1])
        return self

    def decision_function(self, logits: np.ndarray) -> np.ndarray:
        return logits

    def predict(self, logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=1)


@pytest.mark.parametrize(("n", "classes", "true"), [(400, 5, 2.0), (300, 30, 0.5), (60, 3, 1.0), (800, 9, 3.0)])
def test_temperature_of_many_images_equals_scikit_learns(n: int, classes: int, true: float) -> None:
    logits, labels = draw(n, classes, n, true)
    theirs = CalibratedClassifierCV(FrozenEstimator(Passing().fit(logits, labels)), method="temperature")
    theirs.fit(logits, labels)
    # Every image many times over: what they say is the same, and the prior has no say any more.
    times = 20_000 // n
    found = fit_temperature(np.tile(logits, (times, 1)), np.tile(labels, times))
    mine = np.exp(log_softmax(logits / found, axis=1))
    assert mine == pytest.approx(theirs.predict_proba(logits), abs=2e-3)


@pytest.mark.parametrize("true", [0.2, 0.8, 1.0, 3.0])
@pytest.mark.parametrize("n", [1, 8, 60, 600])
def test_temperature_is_the_most_probable_by_a_brute_search(n: int, true: float) -> None:
    logits, labels = draw(n, 4, n, true)

    def loss(log: float) -> float:
        return n * nll(logits / np.exp(log), labels) + abs(log) / SCALE

    found = float(np.log(fit_temperature(logits, labels)))
    brute = min(map(loss, np.linspace(-4.6, 4.6, 501)))
    assert loss(found) <= brute + 1e-6 and abs(found) < 4.6


def test_temperature_finds_the_one_that_was_put_in() -> None:
    for true in (0.25, 1.0, 4.0):
        assert fit_temperature(*draw(40_000, 8, 0, true)) == pytest.approx(true, rel=0.03)


def test_shifts_of_the_logits_change_nothing() -> None:
    logits, labels = draw(200, 6, 1)
    found = fit_temperature(logits, labels)
    assert found != 1
    assert fit_temperature(log_softmax(logits, axis=1), labels) == pytest.approx(found)
    assert fit_temperature(logits + np.arange(200)[:, None], labels) == pytest.approx(found)


def test_where_the_images_do_not_say_it_the_temperature_is_one() -> None:
    assert fit_temperature(np.zeros((3, 4)), np.arange(3)) == 1  # nothing depends on it
    assert fit_temperature(np.eye(4), np.arange(4)) == 1  # four images, all right: hardly anything said
    assert fit_temperature(3 * np.eye(4), np.r_[0, 1, 2, 0]) == 1  # one of four wrong: as good as at any other


def test_temperature_of_separated_images_is_not_extreme() -> None:
    eye = np.eye(4)
    assert 0.15 < fit_temperature(np.tile(3 * eye, (5, 1)), np.tile(np.arange(4), 5)) <= 1  # 20 images, all right
    assert 0.05 < fit_temperature(np.tile(3 * eye, (500, 1)), np.tile(np.arange(4), 500)) < 0.4
    assert 1 < fit_temperature(8 * eye, (np.arange(4) + 1) % 4) < 30  # 4 images, all wrong
    assert fit_temperature(1e3 * np.tile(eye, (5000, 1)), np.tile((np.arange(4) + 1) % 4, 5000)) == pytest.approx(
        HOTTEST, rel=1e-3
    )
    almost = np.tile(eye, (5000, 1)) * 1e-3
    assert fit_temperature(almost, np.r_[1, np.tile(np.arange(4), 5000)[1:]]) == pytest.approx(COLDEST, rel=1e-3)
    logits, labels = draw(50, 4, 2)
    assert np.isfinite(fit_temperature(logits * 1e30, labels))


@pytest.mark.parametrize("method", ["temperature", "vector"])
@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_few_images_do_not_make_probabilities_worse(true: float, method: str) -> None:
    """In the mean over draws, on 4,000 other images: by 10 and 20 images no worse than as they are, by 640 better."""
    logits, labels = draw(5000, 5, 10, true)
    rest = slice(1000, None)
    before, least = nll(logits[rest], labels[rest]), nll(logits[rest] / true, labels[rest])
    for n, share in ((10, 0.0), (20, 0.3), (640, 0.97)):
        draws = 25 if n < 100 else 3
        after = []
        for seed in range(draws):
            rows = np.random.default_rng(seed).choice(1000, n, replace=False)
            made = Calibration.fit(method, logits[rows], labels[rows])
            after.append(nll(made.apply(logits[rest]), labels[rest]))
        assert max(after) < before + 0.1  # not one draw is far off
        assert np.mean(after) <= before - share * (before - least) + 0.01 * before


def objective(logits: np.ndarray, labels: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> float:
    ridge = ((scale * fit_temperature(logits, labels) - 1) ** 2).sum() + (bias**2).sum()
    return nll(logits * scale + bias, labels) * len(labels) + RIDGE / 2 * ridge


def test_vector_equals_torchs_minimum_and_has_no_slope() -> None:
    logits, labels = draw(500, 6, 3)
    logits = logits * np.linspace(0.6, 1.5, 6) + np.linspace(-1, 1, 6)
    scale, bias = fit_vector(logits, labels)
    temperature = fit_temperature(logits, labels)
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    s = torch.full((6,), 1 / temperature, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([s, b], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(z * s + b, y, reduction="sum")
        loss = loss + RIDGE / 2 * (((s * temperature - 1) ** 2).sum() + (b**2).sum())
        loss.backward()
        return loss

    optimizer.step(closure)
    assert scale == pytest.approx(s.detach().numpy(), abs=1e-4)
    assert bias == pytest.approx(b.detach().numpy(), abs=1e-4)
    slope = approx_fprime(np.r_[scale, bias], lambda x: objective(logits, labels, x[:6], x[6:]), 1e-7)
    assert np.abs(slope).max() < 0.02
    assert nll(logits * scale + bias, labels) < nll(logits / temperature, labels) - 0.01


def test_vector_undoes_what_was_done_to_each_class() -> None:
    logits, labels = draw(60_000, 4, 4, 1.0)
    scale, bias = np.array([0.5, 1.0, 2.0, 1.5]), np.array([1.0, 0.0, -1.0, 0.5])
    found = fit_vector((logits - bias) / scale, labels)
    assert found[0] == pytest.approx(scale, rel=0.05)
    assert found[1] - found[1].mean() == pytest.approx(bias - bias.mean(), abs=0.08)


def test_vector_leaves_classes_without_images_and_negative_scales_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = draw(300, 5, 5)
    labels[labels == 2] = 0
    scale, bias = fit_vector(logits, labels)
    assert scale[2] == pytest.approx(1 / fit_temperature(logits, labels)) and bias[2] == 0
    assert np.abs(bias[[0, 1, 3, 4]]).min() > 0
    monkeypatch.setattr("octavo.numbers.calibration.RIDGE", 0.01)
    upside_down = logits * np.array([1, -1, 1, 1, 1])
    assert fit_vector(upside_down, labels)[0].min() == 0


def test_vector_is_the_same_however_it_is_sought() -> None:
    logits, labels = draw(40, 3, 6)
    scale, bias = fit_vector(logits, labels)
    again = minimize(lambda x: objective(logits, labels, x[:3], x[3:]), np.r_[np.ones(3), 1, -1, 0], method="Powell",
                     options={"xtol": 1e-9, "ftol": 1e-14, "maxiter": 100_000})  # fmt: skip
    assert objective(logits, labels, scale, bias) <= again.fun + 1e-6
    assert np.r_[scale, bias] == pytest.approx(again.x, abs=1e-2)


def test_vector_of_one_image_stays_near_temperature() -> None:
    scale, bias = fit_vector(np.array([[1.0, 0.0, 0.0]]), np.array([0]))
    assert scale[1:].tolist() == [1, 1] and bias[1:].tolist() == [0, 0]
    assert 0 < bias[0] < 0.1 and 1 < scale[0] < 1.1


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_contract_of_every_calibration(method: str) -> None:
    logits, labels = draw(400, 6, 7)
    made = Calibration.fit(method, logits, labels)
    assert made == Calibration.fit(method, logits, labels)
    applied = made.apply(logits.astype(np.float32))
    assert applied.shape == logits.shape and applied.dtype == np.float64
    assert nll(applied, labels) <= nll(logits, labels) + 1e-6
    if method != "vector":
        assert (applied.argmax(axis=1) == logits.argmax(axis=1)).all()
        assert made.temperature == pytest.approx(1 if method == "none" else fit_temperature(logits, labels))
    else:
        assert made.temperature is None
    assert made.apply(logits.reshape(20, 20, 6)).shape == (20, 20, 6)
    assert Calibration.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_less_likely_on_new_images_than_uncalibrated_is_not_what_comes() -> None:
    fitted, labels = draw(2000, 10, 8)
    new, truth = draw(2000, 10, 9)
    before = nll(new, truth)
    for method in ("temperature", "vector"):
        assert nll(Calibration.fit(method, fitted, labels).apply(new), truth) < before - 0.1


def test_none_changes_nothing() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4))
    assert (NONE.apply(logits) == logits).all()


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"method": "temperature", "scale": [1.0]},
        {"method": "platt", "scale": [1.0], "bias": []},
        {"method": "temperature", "scale": [1.0, 2.0], "bias": []},
        {"method": "temperature", "scale": ["1"], "bias": []},
        {"method": "temperature", "scale": [float("nan")], "bias": []},
        {"method": "temperature", "scale": [-1.0], "bias": []},
        {"method": "vector", "scale": [1.0], "bias": []},
        {"method": "vector", "scale": [True], "bias": [0]},
        {"method": "none", "scale": 3, "bias": []},
    ],
)
def test_bad_forms_are_told_with_their_place(bad: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"^ensemble\.json: "):
        Calibration.from_dict(bad, "ensemble.json")


def test_bad_arrays() -> None:
    with pytest.raises(UserError, match='unknown "temprature"; did you mean "temperature"'):
        Calibration.fit("temprature", np.eye(3), np.arange(3))
    for logits, labels in (
        (np.eye(3), [0, 1]),
        (np.eye(3), [0, 1, 3]),
        (np.zeros((0, 3)), []),
        (np.eye(1) * np.nan, [0]),
    ):
        with pytest.raises(ValueError):
            fit_temperature(logits, np.array(labels, int))
    vector = Calibration("vector", (1.0, 1.0), (0.0, 0.0))
    with pytest.raises(ValueError, match="2 classes"):
        vector.apply(np.zeros((4, 3)))
