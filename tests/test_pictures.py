"""Figures, looked at by their pixels."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from octavo import pictures
from octavo.pictures.confusion import confusion_matrix
from octavo.pictures.curves import training_curves
from octavo.pictures.grid import GridRow
from octavo.pictures.stages import stage_table
from octavo.pictures.style import save

CLASSES = {"urban": (0, 255, 255), "agriculture": (255, 255, 0), "$odd_ name$": (255, 255, 255), "_hidden": (9, 0, 7)}
DRAW = np.random.default_rng(0)


def plain(colour: tuple[int, int, int], height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def drawn(figure: Figure, path: Path) -> np.ndarray:
    """The saved figure, uint8 [H,W,3]."""
    assert save(figure, path) == path
    return np.rint(matplotlib.image.imread(path)[..., :3] * 255).astype(np.uint8)


def share(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((picture == colour).all(axis=2).mean())


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def history(epochs: int, member: str = "") -> list[dict[str, str]]:
    rows = [
        {"epoch": str(e), "lr": "0.001", "train_loss": str(2 / e), "train_accuracy": "0.5", "holdout_loss": str(3 / e)}
        for e in range(1, epochs + 1)
    ]
    return [{"member": member, **row} for row in rows] if member else rows


@pytest.mark.parametrize("count", [1, 3, 12])
def test_stage_table_has_a_row_an_image_and_a_column_a_picture(count: int, tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    rows = [GridRow(f"{i:04}", tuple(plain(c, 30 + i) for c in colours)) for i in range(count)]
    figure = stage_table(rows, ("original", "truth", "early\nepoch 15"), CLASSES)
    assert len(figure.axes) == 3 * count
    shown = texts(figure)
    assert {"original", "truth", "early", "epoch 15"} <= set(shown)
    assert {f"{i:04}" for i in range(count)} <= set(shown)
    picture = drawn(figure, tmp_path / "t.png")
    shares = [share(picture, c) for c in colours]
    assert min(shares) > 0.1 and max(shares) - min(shares) < 0.01
    # Left to right, in the order of the columns.
    middles = [np.flatnonzero((picture == c).all(axis=2).any(axis=0)).mean() for c in colours]
    assert middles == sorted(middles)


def test_stage_table_shows_every_class_in_its_colour(tmp_path: Path) -> None:
    figure = stage_table([GridRow("a", (plain((1, 2, 3)), None))], ("original", "early"), CLASSES)
    assert {"urban", "agriculture", r"\$odd_ name\$", "_hidden"} <= set(texts(figure))
    picture = drawn(figure, tmp_path / "t.png")
    assert all(share(picture, colour) > 1e-4 for colour in CLASSES.values())


def test_colours_of_large_masks_are_not_mixed(tmp_path: Path) -> None:
    mask = np.where(DRAW.random((1500, 1500, 1)) < 0.5, (255, 0, 0), (0, 0, 255)).astype(np.uint8)
    figure = stage_table([GridRow("a", (None, mask))], ("original", "truth"), {"a": (0, 255, 0)})
    shown = np.asarray(figure.axes[1].images[0].get_array())
    assert max(shown.shape) <= 720 and len(np.unique(shown.reshape(-1, 3), axis=0)) == 2
    drawn(figure, tmp_path / "t.png")


def test_images_of_different_sizes_keep_their_shape() -> None:
    sizes = [(300, 900), (500, 500), (900, 300), (7, 5)]
    rows = [GridRow(str(size), (plain((9, 9, 9), *size),)) for size in sizes]
    figure = stage_table(rows, ("original",), CLASSES)
    for axes, (height, width) in zip(figure.axes, sizes, strict=True):
        assert axes.get_aspect() == 1 and np.asarray(axes.images[0].get_array()).shape[0] / height == pytest.approx(
            np.asarray(axes.images[0].get_array()).shape[1] / width, rel=0.02
        )
    tops = [axes.get_position().y0 for axes in figure.axes]
    assert tops == sorted(tops, reverse=True) and min(tops) > 0


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of 2 pictures"):
        stage_table([GridRow("a", (None,))], ("original", "truth"), CLASSES)
    with pytest.raises(ValueError, match="expected rows"):
        stage_table([], ("original",), CLASSES)


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_curves_draw_every_column_of_the_history(epochs: int, tmp_path: Path) -> None:
    figure = training_curves(history(epochs))
    titles = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(titles) == ["loss", "accuracy", "learning rate"]
    lines = {line.get_label(): line for line in titles["loss"].get_lines()}
    assert set(lines) == {"training", "held out"}
    np.testing.assert_allclose(lines["training"].get_ydata(), [2 / e for e in range(1, epochs + 1)])
    np.testing.assert_allclose(lines["held out"].get_ydata(), [3 / e for e in range(1, epochs + 1)])
    assert lines["training"].get_linestyle() == "-" and lines["held out"].get_linestyle() == "--"
    drawn(figure, tmp_path / "t.png")


def test_curves_of_several_members_share_panels_in_colours_of_their_own(tmp_path: Path) -> None:
    figure = training_curves([*history(3, "a_$b"), *history(5, "c")])
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == [
        r"a_\$b, training", r"a_\$b, held out", "c, training", "c, held out"
    ]  # fmt: skip
    assert len({line.get_color() for line in lines}) == 2
    drawn(figure, tmp_path / "t.png")


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(ValueError, match="a row an epoch"):
        training_curves([])


@pytest.mark.parametrize("classes", [2, 7, 21, 50, 200])
def test_confusion_matrix_shows_shares_of_the_true_class(classes: int, tmp_path: Path) -> None:
    counts = DRAW.integers(0, 50, (classes, classes)) + 1
    counts[0] = 0
    figure = confusion_matrix(counts, [f"class number {i} with a long name" for i in range(classes)])
    shown = np.ma.filled(figure.axes[0].images[0].get_array().astype(float), np.nan)
    assert np.isnan(shown[0]).all()
    np.testing.assert_allclose(shown[1:], counts[1:] / counts[1:].sum(1, keepdims=True))
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert bool(numbers) == (classes <= 20)
    if numbers:
        assert set(numbers) <= {f"{100 * s:.0f}" for s in shown[1:].ravel()}
    assert max(figure.get_size_inches()) < 18
    drawn(figure, tmp_path / "t.png")


def test_counts_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="expected counts"):
        confusion_matrix(np.zeros((3, 3)), ["a", "b"])


def test_names_in_any_script_are_drawn(tmp_path: Path) -> None:
    drawn(confusion_matrix(np.eye(2, dtype=int), ["都市", "x^{2"]), tmp_path / "t.png")


def test_a_figure_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = training_curves(history(2))

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(KeyboardInterrupt):
        save(figure, tmp_path / "t.png")
    assert not list(tmp_path.iterdir())


def test_nothing_goes_through_pyplot() -> None:
    for file in Path(pictures.__path__[0]).glob("*.py"):
        source = file.read_text(encoding="utf-8")
        assert "import pyplot" not in source and "matplotlib.pyplot" not in source, file
