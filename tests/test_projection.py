"""Points in a plane."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.manifold import TSNE

from octavo.errors import UserError
from octavo.numbers import projection
from octavo.numbers.neighbours import nearest, neighbourhoods, trusted
from octavo.numbers.projection import LEAST, PROJECTIONS, check, project, sample

DRAW = np.random.default_rng(2)


@pytest.fixture(scope="module")
def groups() -> tuple[np.ndarray, np.ndarray]:
    """Three groups of twenty far apart, in fifteen dimensions."""
    labels = np.repeat(np.arange(3), 20)
    return (DRAW.normal(size=(3, 15))[labels] * 20 + DRAW.normal(size=(60, 15))).astype(np.float32), labels


def test_groups_stay_together_and_the_plane_is_the_same_again(groups: tuple[np.ndarray, np.ndarray]) -> None:
    points, labels = groups
    plane = project(points, seed=3)
    assert plane.points.shape == (60, 2) and plane.points.dtype == np.float32
    assert (plane.title, plane.settings, plane.seed) == ("t-SNE", "perplexity 19.7", 3)
    np.testing.assert_array_equal(neighbourhoods(nearest(plane.points), labels, 3).purity, 1)
    assert trusted(points, plane.points)[0] > 0.9
    np.testing.assert_array_equal(plane.points, project(points, seed=3).points)


def test_tsne_is_scikit_learns_with_the_settings_that_are_stated(
    groups: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def spy(**given: Any) -> TSNE:
        asked.update(given)
        return TSNE(**given)

    monkeypatch.setattr(projection, "TSNE", spy)
    settings = {"perplexity": 59 / 3, "metric": "euclidean", "random_state": 5, "n_jobs": -1}
    project(groups[0], seed=5)
    assert asked == {**settings, "init": "pca"}
    project(groups[0], seed=5, anywhere=True)
    assert asked == {**settings, "init": "random"}
    assert PROJECTIONS["tsne"].words(2500) == "perplexity 30"


@pytest.mark.parametrize("count", [LEAST, 6, 12])
@pytest.mark.parametrize("width", [1, 2, 30])
def test_few_points_and_few_numbers(count: int, width: int) -> None:
    plane = project(DRAW.normal(size=(count, width)))
    assert plane.points.shape == (count, 2) and np.isfinite(plane.points).all()


def test_large_numbers_do_not_overflow() -> None:
    assert np.isfinite(project(DRAW.normal(size=(20, 4)).astype(np.float32) * 1e30).points).all()


@pytest.mark.parametrize(
    ("points", "told"),
    [
        (np.zeros((LEAST - 1, 3)), "t-SNE: 4 images; expected at least 5"),
        (np.ones((20, 3)), "the layer gives the same numbers for every image"),
        (np.full((20, 3), np.inf), "the layer's output isn't finite"),
    ],
)
def test_what_can_not_be_laid_out_is_a_line(points: np.ndarray, told: str) -> None:
    with pytest.raises(UserError, match=told):
        project(points)


def test_an_unknown_method_is_a_line() -> None:
    with pytest.raises(UserError, match='--method: unknown "tnse"; did you mean "tsne"'):
        check("tnse")


@pytest.mark.parametrize("method", ["umap", "pacmap"])
def test_a_missing_extra_is_named(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, method, None)
    with pytest.raises(UserError, match=rf"pip install 'octavo\[{method}\]'"):
        check(method)


@pytest.mark.parametrize(
    ("method", "called", "settings"),
    [
        (
            "umap",
            "UMAP",
            {"n_neighbors": 15, "metric": "euclidean", "init": "spectral", "random_state": 7, "n_jobs": 1},
        ),
        ("pacmap", "PaCMAP", {"n_neighbors": 10, "distance": "euclidean", "random_state": 7}),
    ],
)
def test_extras_are_asked_with_the_seed(
    groups: tuple[np.ndarray, np.ndarray],
    method: str,
    called: str,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def made(**given: Any) -> SimpleNamespace:
        asked.update(given)
        return SimpleNamespace(fit_transform=lambda points, **_: points[:, :2])

    monkeypatch.setitem(sys.modules, method, SimpleNamespace(**{called: made}))  # pyright: ignore[reportArgumentType]
    plane = project(groups[0], method, 7)
    assert asked == settings and plane.title == called
    assert plane.settings == f"neighbours {settings['n_neighbors']}"


@pytest.mark.slow  # they compile themselves in every process
@pytest.mark.parametrize("method", ["umap", "pacmap"])
def test_extras_that_are_installed_keep_groups_together(groups: tuple[np.ndarray, np.ndarray], method: str) -> None:
    pytest.importorskip(method)
    points, labels = groups
    plane = project(points, method, 1)
    np.testing.assert_array_equal(neighbourhoods(nearest(plane.points, 5), labels, 3).purity, 1)
    np.testing.assert_array_equal(plane.points, project(points, method, 1).points)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["umap", "pacmap"])
@pytest.mark.parametrize("count", [LEAST, 8, 11, 12, 16, 36])
def test_extras_lay_out_few_points_with_the_neighbours_that_are_stated(
    count: int, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip(method)
    used: list[int] = []
    if method == "pacmap":
        inner = module.pacmap
        real = inner.sample_neighbors_pair
        spy = lambda x, scaled, near, k: (used.append(k), real(x, scaled, near, k))[1]  # noqa: E731
        monkeypatch.setattr(inner, "sample_neighbors_pair", spy)
    for anywhere in (False, True):
        plane = project(DRAW.normal(size=(count, 30)), method, anywhere=anywhere)
        assert plane.points.shape == (count, 2) and np.isfinite(plane.points).all()
        assert np.ptp(plane.points, axis=0).min() > 0
        assert {f"neighbours {k}" for k in used} <= {plane.settings}


def test_a_sample_has_the_same_share_of_every_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [4000, 2000, 1000, 1])[DRAW.permutation(7001)]
    rows = sample(labels, 700)
    assert len(rows) == len(set(rows.tolist())) == 700 and (np.diff(rows) > 0).all()
    counts = np.bincount(labels[rows])
    np.testing.assert_allclose(counts[:3], [400, 200, 100], atol=2)
    assert counts[3] == 1
    np.testing.assert_array_equal(rows, sample(labels, 700))
    assert len(np.intersect1d(rows, sample(labels, 700, seed=1))) < 200
    np.testing.assert_array_equal(sample(labels, 7001), np.arange(7001))


def test_a_sample_of_a_class_is_not_its_first_images() -> None:
    rows = sample(np.zeros(1000, np.int64), 100)
    assert 400 < rows.mean() < 600
