"""A layer's outputs, and the looks at them in a plane."""

from __future__ import annotations

import io
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import octavo.engine.embedding as engine
import octavo.looks.embedding as look_module
from conftest import reseal
from octavo.engine.embedding import default_layer, kept, layer_outputs
from octavo.engine.folder import RunFolder
from octavo.engine.restore import batch_of, restore
from octavo.errors import UserError
from octavo.looks.embedding import embedding
from octavo.looks.look import Drawing
from octavo.looks.stability import stability
from octavo.looks.subject import ClassifySubject
from octavo.numbers.neighbours import nearest, neighbourhoods
from octavo.pictures.embedding import NAMED, Cloud, groups, look_of, purity_by_seed, ten_at_a_time, whole_plane
from octavo.pictures.style import drawn
from octavo.pictures.thumbs import thumb_sheet
from octavo.tasks.known import subject_of
from octavo.verbs.explain import keep

DRAW = np.random.default_rng(6)


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder.open(shutil.copytree(trained.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def looked(trained: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[ClassifySubject, Drawing, Drawing]:
    """The run of forty digits, and both looks at it."""
    folder = RunFolder.open(shutil.copytree(trained.path, tmp_path_factory.mktemp("looked") / "run"))
    own = subject(folder)
    first, second = embedding(own), stability(own)
    assert first and second
    return own, first, second


def subject(run: RunFolder, **options: Any) -> ClassifySubject:
    found = subject_of(run, "cpu", **options)
    assert isinstance(found, ClassifySubject)
    return found


def gone(*_: object, **__: object) -> Any:
    raise AssertionError("the images were asked for")


def test_the_default_is_the_first_linear_of_the_references_head(trained: RunFolder, run: RunFolder) -> None:
    assert default_layer(trained) == "vgg.head.0"
    recipe = (run.path / "recipe.toml").read_text()
    renamed = recipe.replace('backbone = "mobilenet_v3_small"', 'backbone = "vgg16"')
    (run.path / "recipe.toml").write_text(renamed)
    reseal(run)
    assert default_layer(run) == "mobile.head.0"
    assert renamed != recipe and renamed.count('norm = "none"') >= 3
    (run.path / "recipe.toml").write_text(
        recipe.replace('norm = "none"', 'norm = "batch"').replace("dropout = 0.0", "dropout = 0.2")
    )
    reseal(run)
    assert default_layer(run) == "vgg.head.2"


def test_outputs_are_the_networks_and_are_kept(run: RunFolder) -> None:
    own, rows = subject(run), np.arange(40)[::3]
    places = own.places[rows]
    seen: list[tuple[str, int, int]] = []
    layer = "squeeze.head.0"
    given = layer_outputs(
        run, layer, lambda: own.pixels, places, cache=own.cache, device="cpu",
        progress=lambda what, done, total, note="": seen.append((what, done, total)),
    )  # fmt: skip
    net = restore(run, "squeeze", torch.device("cpu"))
    expected = net.layer(batch_of([own.picture(int(i)) for i in rows]), "head.0")
    assert given.dtype == np.float32 and seen == [("squeeze.head.0: images", 1, 1)]
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(given, own.logits[1][rows], rtol=0.05, atol=0.05)  # its only Linear gives the logits
    again = layer_outputs(run, layer, gone, places, cache=own.cache)
    np.testing.assert_array_equal(again, given)
    other = layer_outputs(run, layer, lambda: own.pixels, places[:3], cache=own.cache)
    assert len(other) == 3


def test_a_frozen_members_head_is_given_its_cached_features(run: RunFolder, tmp_path: Path) -> None:
    own = subject(run)
    assert run.recipe_as(type(own.recipe)).train_of(own.recipe.members[0]).mode == "frozen"
    quick = layer_outputs(run, "vgg.head.0", gone, own.places, cache=own.cache, device="cpu")
    assert quick.shape == (40, 256) and quick.std() > 0
    shutil.rmtree(run.path / "explained")
    slow = layer_outputs(run, "vgg.head.0", lambda: own.pixels, own.places, cache=tmp_path / "empty", device="cpu")
    np.testing.assert_allclose(quick, slow, rtol=0.02, atol=0.02 * slow.std())
    shutil.rmtree(run.path / "explained")
    with pytest.raises(AssertionError, match="the images were asked for"):  # not a layer of the head
        layer_outputs(run, "vgg.backbone", gone, own.places, cache=own.cache, device="cpu")


def test_what_is_kept_is_made_again_where_it_is_damaged_or_of_something_else(run: RunFolder) -> None:
    made: list[int] = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(6, dtype=np.float32).reshape(3, 2)[:, ::-1]

    facts = {"layer": "a", "seed": "0"}
    for given, times in ((facts, 1), (facts, 1), (facts | {"seed": "1"}, 2), (facts, 3), (facts, 3)):
        np.testing.assert_array_equal(kept(run, "features-a", given, make), [[1, 0], [3, 2], [5, 4]])
        assert len(made) == times
    run.explained("features-a.safetensors").write_bytes(b"half")
    kept(run, "features-a", facts, make)
    assert len(made) == 4


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ("nobody.head.0", r'layer: "nobody.head.0" names no member; expected MEMBER.LAYER with one of: vgg, squeeze'),
        ("vgg.head.9", 'layer: unknown "head.9"; did you mean "head.2"'),
        ("vgg", "names no member"),
    ],
)
def test_a_layer_that_is_not_there_is_a_line(run: RunFolder, layer: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        embedding(subject(run), layer)


def test_a_layer_too_large_to_keep_is_a_line(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_ROOM", 40_000)
    with pytest.raises(UserError, match=r'"squeeze.backbone" gives 512 numbers .* later layer with at most 250'):
        embedding(subject(run), "squeeze.backbone")
    assert not run.explained("features-squeeze.backbone.safetensors").exists()


def test_the_look_says_what_was_planted(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits 3 and 7 are laid into one place, and digit 5 among all others."""
    own = subject(run)
    middles = np.random.default_rng(0).normal(size=(10, 8)) * 30
    middles[7] = middles[3]
    given = middles[own.labels] + np.random.default_rng(1).normal(size=(40, 8))
    given[own.labels == 5] = middles[[0, 1, 2, 9]] + 0.1
    monkeypatch.setattr(look_module, "layer_outputs", lambda *_, **__: given.astype(np.float32))
    drawing = embedding(own)
    assert drawing
    trust, scattered, pairs = drawing.look.tables
    assert own.classes[5] == "5" and scattered.rows[0][:3] == ("5", 4, 0.0)
    assert pairs.rows[0][:2] == ("3", "7") and "3 and 7" in pairs.caption
    assert "class 5, 0 %" in scattered.caption and len(scattered.rows) == 10
    right = own.predicted[own.labels == 5] == 5
    assert scattered.rows[0][-1] == right.mean()
    mistakes = ((own.labels == 3) & (own.predicted == 7)).sum() + ((own.labels == 7) & (own.predicted == 3)).sum()
    assert pairs.rows[0][-1] == mistakes
    shares = {str(row[0]): row[1] for row in trust.rows}
    lie = neighbourhoods(nearest(given), own.labels, 10)
    assert shares["neighbours of the same class in the layer's own space"] == pytest.approx(lie.purity.mean())
    assert shares["neighbours of the same class by chance"] == pytest.approx(3 / 39)


def test_the_look_has_a_point_and_a_thumbnail_an_image(looked: tuple[ClassifySubject, Drawing, Drawing]) -> None:
    own, drawing, _ = looked
    look, points = drawing.look, drawing.look.points
    assert points and look.sees.startswith("40 validation images by the 256 numbers that vgg.head.0 gives of each")
    assert list(drawing.figures) == ["embedding.png"] and list(drawing.files) == ["thumbs.jpg"]
    assert points.truth == tuple(own.labels) and points.predicted == tuple(own.predicted)
    np.testing.assert_allclose(points.confidence, own.probabilities.max(1), atol=1e-4)
    assert points.names == tuple(own.files) and points.classes == own.classes
    assert points.title == "t-SNE of vgg.head.0 · 40 images, 256 numbers each · perplexity 13 · seed 0"
    sheet = np.asarray(Image.open(io.BytesIO(drawing.files["thumbs.jpg"])), float)
    for i in (0, 17, 39):
        row, column = divmod(i, points.across)
        side = points.side
        thumb = sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
        whole = np.asarray(Image.fromarray(own.picture(i)).resize((side, side), Image.Resampling.BILINEAR), float)
        assert np.abs(thumb - whole).mean() < 12


def test_the_looks_are_written_and_a_second_time_nothing_is_computed(
    looked: tuple[ClassifySubject, Drawing, Drawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, first, second = looked
    files = [*keep(own.run, first, ""), *keep(own.run, second, "")]
    assert [file.name for file in files] == ["embedding.png", "stability.png"]
    assert all(np.asarray(Image.open(file)).std() > 0 for file in files)
    left = {path.name for path in (own.run.path / "explained").iterdir()}
    planes = {f"tsne-{seed}-vgg.head.0.safetensors" for seed in ("0", "1-anywhere", "2-anywhere")}
    planes |= {name.replace(".safetensors", "-trust.safetensors") for name in planes}
    assert left == {"embedding.json", "stability.json", "thumbs.jpg", "features-vgg.head.0.safetensors", *planes}
    monkeypatch.setattr(engine, "restore", gone)
    monkeypatch.setattr(look_module, "project", gone)
    again = embedding(subject(own.run))
    assert again and again.look == first.look
    with pytest.raises(AssertionError, match="asked for"):
        embedding(subject(own.run), seed=3)


def test_stability_compares_the_seeds(looked: tuple[ClassifySubject, Drawing, Drawing]) -> None:
    _, first, second = looked
    seeds, pairs, classes = second.look.tables
    assert [row[0] for row in seeds.rows] == [0, 1, 2]
    assert [row[:2] for row in pairs.rows] == [(0, 1), (0, 2), (1, 2)]
    assert all(0 <= share <= 1 for row in pairs.rows for share in row[2:] if isinstance(share, float))
    trust = dict(row for row in first.look.tables[0].rows)
    assert seeds.rows[0][1] == next(value for what, value in trust.items() if str(what).startswith("trust"))
    assert len(classes.rows) == 10 and "t-SNE of vgg.head.0 with 3 seeds" in second.look.sees
    swings = [max(row[2:]) - min(row[2:]) for row in classes.rows]
    assert all(a >= b - 1e-9 for a, b in pairwise(swings))


def test_captions_say_how_many_neighbours_there_were(
    looked: tuple[ClassifySubject, Drawing, Drawing], run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = [table.caption for table in looked[1].look.tables]
    assert captions[1].startswith("Of the 3 nearest neighbours of each image of class")  # classes of four images
    assert "with 3 neighbours of each image" in captions[2]
    own = subject(run)
    own.__dict__["labels"] = np.repeat([0, 1, 2], [2, 30, 8])
    own.__dict__["classes"] = ("few", "many", "some")
    drawing = embedding(own)
    assert drawing
    words = " ".join(table.caption for table in drawing.look.tables)
    for first, second in [row[:2] for table in drawing.look.tables[2:] for row in table.rows[:1]]:
        near = [{"few": 1, "many": 10, "some": 7}[str(name)] for name in (first, second)]
        assert f"with {near[0]} and {near[1]} neighbours of each image" in words


def test_the_trust_in_a_plane_is_taken_once(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = look_module.trusted
    monkeypatch.setattr(look_module, "trusted", lambda *a: (calls.append(1), real(*a))[1])
    own = subject(run)
    assert embedding(own) and stability(own) and embedding(subject(run))
    assert len(calls) == 3  # planes


def test_many_images_are_sampled_and_it_is_said(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    real = look_module.sample
    monkeypatch.setattr(look_module, "sample", lambda labels: real(labels, 20))
    own = subject(run)
    drawing = embedding(own)
    assert drawing and drawing.look.points
    assert drawing.look.sees.startswith("A sample of 20 validation images (of 40; every class gave the same share)")
    np.testing.assert_array_equal(np.bincount(drawing.look.points.truth), 2)
    rows = [own.files.index(name) for name in drawing.look.points.names]
    assert drawing.look.points.truth == tuple(own.labels[rows])
    assert drawing.look.points.predicted == tuple(own.predicted[rows])


def test_a_layer_that_says_nothing_is_told(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_module, "layer_outputs", lambda *_, **__: np.ones((40, 3), np.float32))
    said: list[str] = []
    own = subject(run, say=said.append)
    assert embedding(own) is None and stability(own) is None
    assert said == ["t-SNE: vgg.head.0 gives the same numbers for every image; choose another layer by --layer"]
    with pytest.raises(UserError, match="the same numbers for every image"):
        embedding(own, "vgg.head.0")


def cloud(classes: int, count: int, name: str = "class {}") -> Cloud:
    labels = np.arange(count) % classes
    points = DRAW.normal(size=(count, 2)) + DRAW.normal(size=(classes, 2))[labels] * 8
    return Cloud(points, labels, [name.format(i) for i in range(classes)], "t-SNE of a.b · perplexity 30", "t-SNE")


@pytest.mark.parametrize(("classes", "count"), [(2, 10), (10, 100), (50, 2500), (200, 3000), (30, 12)])
def test_figures_name_axes_and_have_short_legends(classes: int, count: int) -> None:
    shown = cloud(classes, count, "a $long^ name of a class, number {}")
    figures = [whole_plane(shown), *(ten_at_a_time(shown) if classes > 10 else [])]
    for figure in figures:
        assert drawn(figure)[:4] == b"\x89PNG" and figure.get_size_inches()[0] <= 11.01
        for axes in figure.axes:
            assert (axes.get_xlabel(), axes.get_ylabel()) == ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)")
            if legend := axes.get_legend():
                assert 2 <= len(legend.get_texts()) <= 10
            assert all(text.get_fontsize() >= 8 for text in axes.texts)
    assert (figures[0].axes[0].get_legend() is not None) == (classes <= 10)
    assert len(figures[0].axes[0].texts) == (0 if classes <= 10 else min(classes, count, NAMED))


@pytest.mark.parametrize("classes", [4, 12])
def test_a_name_that_begins_with_an_underscore_is_in_the_legend(classes: int) -> None:
    shown = cloud(classes, 40, "_class $ {}")
    figure = whole_plane(shown) if classes < 10 else ten_at_a_time(shown)[0]
    legend = figure.axes[0].get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()][:2] == [r"_class \$ 0", r"_class \$ 1"]
    assert len(legend.get_texts()) == len(legend.legend_handles) == min(classes, 10)
    drawn(figure, dpi=40)


def test_names_in_the_plane_do_not_meet() -> None:
    figure = whole_plane(cloud(50, 2500, "tall building {}"))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    frame = figure.axes[0].get_window_extent()
    assert len(boxes) == 50
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 for box in boxes)


def test_every_ten_classes_have_a_panel_with_the_same_colours() -> None:
    shown = cloud(25, 500)
    assert groups(shown) == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    (figure,) = ten_at_a_time(shown)
    assert [len(axes.collections) for axes in figure.axes] == [11, 11, 6]  # the others in grey, and one a class
    assert [len(axes.collections[0].get_offsets()) for axes in figure.axes] == [300, 300, 400]
    names = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert names[2] == [f"class {i}" for i in range(20, 25)]
    for start in range(0, 100, 10):
        assert len({look_of(i)[0] for i in range(start, start + 10)}) == 10
        assert len({look_of(i)[1] for i in range(start, start + 10)}) == 10
    assert len({look_of(i) for i in range(100)}) == 100


def test_panels_without_images_are_left_out_and_absent_classes_are_marked() -> None:
    labels = np.array([0, 1, 25, 25])
    shown = Cloud(DRAW.normal(size=(4, 2)), labels, [f"c{i}" for i in range(40)], "t", "UMAP")
    (figure,) = ten_at_a_time(shown)
    assert len(figure.axes) == 2 and figure.axes[0].get_xlabel() == "UMAP 1 (no unit)"
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names[:3] == ["c0", "c1", "c2 (none)"]


def test_no_points_are_refused() -> None:
    empty = Cloud(np.empty((0, 2)), np.empty(0, int), ["a"], "t", "t-SNE")
    with pytest.raises(ValueError, match="at least one point"):
        whole_plane(empty)
    with pytest.raises(ValueError, match="at least one point"):
        ten_at_a_time(empty)


def test_purity_by_seed_leaves_classes_without_it_out() -> None:
    feature = np.array([0.1, np.nan, 0.9])
    figure = purity_by_seed(feature, np.array([[0.2, np.nan, 1.0], [0.4, np.nan, 1.0]]), (0, 1), ["a", "b", "c"])
    axes = figure.axes[0]
    assert axes.get_xlabel().endswith("(%)") and axes.get_ylabel().endswith("(%)")
    scatter = [c for c in axes.collections if len(c.get_offsets()) == 2]
    np.testing.assert_allclose(scatter[-1].get_offsets(), [[10, 40], [90, 100]])
    assert [text.get_text() for text in axes.texts] == ["a"]  # c is the same in both
    drawn(figure)


def test_a_sheet_keeps_within_its_room_and_shows_images_whole() -> None:
    noise = [DRAW.integers(0, 255, (60, 90, 3), np.uint8) for _ in range(50)]
    large, small = thumb_sheet(noise, 50), thumb_sheet(noise, 50, room=20_000)
    assert len(small.content) <= 20_000 < len(large.content)
    assert (large.side, large.across) == (48, 8) and thumb_sheet(noise, 1501).side == 40
    flat = thumb_sheet([np.full((20, 80, 3), 90, np.uint8)], 1)
    pixels = np.asarray(Image.open(io.BytesIO(flat.content)), int)
    assert pixels.shape == (48, 48, 3)
    assert (pixels[:16] > 240).all() and (pixels[-16:] > 240).all() and np.abs(pixels[21:27] - 90).max() < 12


def test_classes_of_one_image_each_are_told_and_nothing_is_said_of_them(run: RunFolder) -> None:
    own = subject(run)
    own.__dict__["classes"] = tuple(f"c{i}" for i in range(41))  # the last has none
    own.__dict__["labels"] = np.arange(40)
    first, second = embedding(own), stability(own)
    assert first and second
    assert [table.title for table in first.look.tables] == ["How far the plane can be trusted"]
    assert first.look.warnings[0].startswith(
        "41 classes of fewer than two images can't be said to be scattered: c0, c1"
    )
    assert [row[2:] for row in second.look.tables[0].rows] == [(None, 0)] * 3 and not second.look.tables[2].rows
    for figure in (*first.figures.values(), *second.figures.values()):
        assert not isinstance(figure, bytes) and drawn(figure)
