"""Masks of a run on image files, and the segmenter that makes them."""

from __future__ import annotations

import csv
import errno
import os
import shutil
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

import octavo
from octavo.data import geo
from octavo.data.classes import load_table
from octavo.data.masks import paint
from octavo.engine.folder import RunFolder
from octavo.engine.windows import Spool, blended, rows_of, spool, windowed
from octavo.errors import DiskFull, UserError
from octavo.networks.build import build_segmenter
from octavo.networks.segmenter import SegmenterNet
from octavo.recipe import SegmentRecipe
from octavo.tasks.segmentation.mask_targets import plan
from octavo.tasks.segmentation.prediction import predict_masks, values_of
from octavo.tasks.segmentation.restore import Averaging, TrainedSegmenter, restore_segmenter

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CPU = torch.device("cpu")
DRAW = np.random.default_rng(0)


def made(
    folder: Path, scale: float, table: str = "course", finished: bool = True, border: str = "same", own: str = ""
) -> tuple[RunFolder, SegmenterNet]:
    """A run as training leaves it, of a small random FCN-8s that names several classes."""
    classes = load_table(table)
    recipe = SegmentRecipe.model_validate(
        {
            "name": "t",
            "task": "segment",
            "data": {"scale": scale, "size": 32, "normalize": "none"},
            "segmenter": {"network": own, "weights": "none"}
            if own
            else {"backbone": "vgg11", "weights": "none", "hidden": [{"width": 8}], "border": border},
        }
    )
    run = RunFolder.new(folder)
    run.begin(recipe, {"table": classes.to_dict(), "classes": list(classes.names)}, [{"file": "a.png"}])
    count = len(classes.names)
    net = build_segmenter(recipe.segmenter, recipe, count).eval().requires_grad_(False)
    with torch.no_grad():
        state = net.state_dict()
        last = [name for name in state if "upscore8" in name and name.endswith("bias")]
        for name in last:  # centre the scores, so that no class wins everywhere
            state[name] -= net(torch.randn(1, 3, 96, 96)).mean((0, 2, 3))
    files = run.member("segmenter")
    files.folder.mkdir(parents=True)
    save_file(net.state_dict(), files.weights)
    if finished:
        facts = {"classes": count, "mean": MEAN, "std": STD, "scale": scale}
        files.finish(facts, {"val": np.zeros((1, count + 1, count + 1), np.int64)}, [{"epoch": 1}])
    return run, net


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, SegmenterNet]:
    return made(tmp_path_factory.mktemp("whole") / "run", 1.0)


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, SegmenterNet]:
    return made(tmp_path_factory.mktemp("halved") / "run", 0.5)


def image(height: int, width: int) -> np.ndarray:
    coarse = DRAW.integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def expected(net: SegmenterNet, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ids by torch alone, at `size` (height, width), of pixels that are already at the network's scale."""
    x = (torch.from_numpy(pixels.transpose(2, 0, 1).copy()) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(
        STD
    )[:, None, None]
    logits = F.interpolate(net(x[None].float()), size, mode="bilinear", align_corners=False)
    return logits[0].argmax(0).numpy().astype(np.uint8)


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal but for ties that rounding decides."""
    return found.shape == wanted.shape and bool((found == wanted).mean() > 0.999)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file)


def test_masks_are_those_of_the_network_in_colour_and_in_the_images_size(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path
) -> None:
    run, net = whole
    pictures = {"0000_sat.jpg": image(70, 90), "below/b.png": image(33, 65), "c.png": image(1, 5)}
    for name, pixels in pictures.items():
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).save(tmp_path / "in" / name, quality=95)
    seen: list[tuple[int, int]] = []
    found = predict_masks(
        run, [tmp_path / "in"], tmp_path / "out", device="cpu", progress=lambda w, d, t, n="": seen.append((d, t))
    )
    written = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*"))
    assert written == ["0000_sat.png", "below/b.png", "c.png"] and seen == [(1, 3), (2, 3), (3, 3)]
    assert set(found.masks) == set(pictures) and not found.errors and not found.notes
    for name, pixels in pictures.items():
        seen_pixels = read(tmp_path / "in" / name)
        mask = read(found.masks[name])
        wanted = expected(net, seen_pixels, pixels.shape[:2])
        assert mask.dtype == np.uint8 and mask.shape == pixels.shape
        assert (mask == paint(wanted, run.table)).all(axis=2).mean() > 0.999
    assert len(np.unique(read(found.masks["0000_sat.jpg"]).reshape(-1, 3), axis=0)) > 2


def test_ids_are_the_values_of_the_table(whole: tuple[RunFolder, SegmenterNet], tmp_path: Path) -> None:
    run, net = whole
    pixels = image(64, 64)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    predict_masks(run, [tmp_path / "a.png"], tmp_path / "out", device="cpu", ids=True)
    mask = read(tmp_path / "out" / "a.png")
    values = np.array([entry.value for entry in run.table.trained])
    assert mask.ndim == 2 and same(mask, values[expected(net, pixels, (64, 64))])


def test_a_network_at_half_scale_gives_masks_in_full_size(
    halved: tuple[RunFolder, SegmenterNet], tmp_path: Path
) -> None:
    run, net = halved
    pixels = image(101, 130)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    predict_masks(run, [tmp_path / "a.png"], tmp_path / "out", device="cpu", ids=True, overlay=0.25)
    small = np.asarray(Image.fromarray(pixels).resize((65, 50), Image.Resampling.BICUBIC))
    values, _ = values_of(run.table)
    ids = expected(net, small, (101, 130))
    assert same(read(tmp_path / "out" / "a.png"), values[ids])
    overlay = read(tmp_path / "out" / "a_overlay.png").astype(int)
    assert overlay.shape == pixels.shape
    wanted = 0.75 * pixels + 0.25 * paint(ids, run.table)
    assert (np.abs(overlay - wanted).max(axis=2) <= 0.51).mean() > 0.999


def test_ids_of_one_file_are_the_networks(halved: tuple[RunFolder, SegmenterNet], tmp_path: Path) -> None:
    run, net = halved
    pixels = image(75, 64)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    trained = restore_segmenter(run, CPU)
    assert not trained.net.training and trained.table == run.table and trained.scale == 0.5
    ids = trained.ids(tmp_path / "a.png")
    assert ids.shape == (75, 64) and ids.dtype == np.uint8
    small = np.asarray(Image.fromarray(pixels).resize((32, round(75 / 2)), Image.Resampling.BICUBIC))
    assert same(ids, expected(net, small, (75, 64)))
    assert trained.small_size(75, 64) == small.shape[:2]


def test_windows_agree_with_the_whole_image_almost_everywhere(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path
) -> None:
    run, _ = whole
    Image.fromarray(image(500, 340)).save(tmp_path / "a.png")
    told: list[str] = []
    for name, window in (("whole", None), ("windows", 320)):
        predict_masks(
            run,
            [tmp_path / "a.png"],
            tmp_path / name,
            device="cpu",
            window=window,
            progress=lambda w, d, t, n="": told.append(n),
        )
    whole_mask, windows = (read(tmp_path / name / "a.png") for name in ("whole", "windows"))
    agreed = (whole_mask == windows).all(axis=2).mean()
    assert 0.9 < agreed < 1  # not equal: the network's field of view is larger than a window's overlap
    assert told == ["", "a.png: window 1 of 2", "a.png: window 2 of 2", ""]


@pytest.mark.parametrize("border", ["same", "pad100"])
def test_a_real_fcn_sees_the_whole_images_grid_in_its_windows(tmp_path: Path, border: str) -> None:
    trained = restore_segmenter(made(tmp_path / "run", 1.0, border=border)[0], CPU)
    pixels = image(493, 45)  # no multiples of 32: the image is padded on both sides
    x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    found = torch.cat(list(blended(trained.scores, rows_of(pixels), (493, 45), 416, 352)), 1)
    expected = trained.scores(x[None])[0]
    # Two windows, whose borders inside the image lie at 64 and 429; the network sees about 140 pixels to each side.
    for safe in (slice(0, 64), slice(220, 270), slice(440, 493)):
        torch.testing.assert_close(found[:, safe], expected[:, safe], atol=1e-4 * float(expected.std()), rtol=0)
    aside = trained.scores(x[None, :, 5:])[0, :, 215:265]  # a part that begins beside the grid gives other numbers
    assert (aside - expected[:, 220:270]).abs().max() > 1e-2 * expected.std()


def test_large_images_go_in_windows_by_themselves_and_it_is_said(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octavo.tasks.segmentation import prediction as verb

    run, _ = whole
    monkeypatch.setattr(verb, "WHOLE", 200 * 200)
    monkeypatch.setattr(verb, "WINDOW", 160)
    monkeypatch.setattr(verb, "_IN_MEMORY", 100)
    monkeypatch.setattr(verb, "_ROWS", 50)
    for name, side in (("large", 240), ("small", 200)):
        Image.fromarray(image(side, side)).save(tmp_path / f"{name}.png")
    found = predict_masks(run, [tmp_path / "large.png", tmp_path / "small.png"], tmp_path / "out", device="cpu")
    assert found.notes == (
        "large.png: 240 × 240 pixels at the network's scale, predicted in windows of 160 with an overlap of 128; "
        "--window chooses another side",
    )
    assert read(tmp_path / "out" / "large.png").shape == (240, 240, 3)


def test_masks_of_a_run_go_in_the_same_windows(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Run.masks` bounds memory as prediction does: no more than a window goes through the network at a time."""
    run, _ = whole
    monkeypatch.setattr("octavo.tasks.segmentation.restore.WHOLE", 200 * 200)
    monkeypatch.setattr("octavo.tasks.segmentation.restore.windowed", partial(windowed, window=128, overlap=64))
    for name, side in (("large", 300), ("small", 200)):
        Image.fromarray(image(side, side)).save(tmp_path / f"{name}.png")
    seen: list[int] = []
    with monkeypatch.context() as patch:
        scores = TrainedSegmenter.scores
        patch.setattr(TrainedSegmenter, "scores", lambda self, x: (seen.append(x[0, 0].numel()), scores(self, x))[1])
        found = octavo.load(run.path, "cpu").masks([tmp_path / "large.png", tmp_path / "small.png"])
    side = 128 + 300 % 32
    assert seen == [side * side] * 16 + [200 * 200]
    predict_masks(run, [tmp_path / "large.png"], tmp_path / "out", device="cpu", window=128, overlap=64, ids=True)
    values = values_of(run.table)[0]
    assert (values[found[str(tmp_path / "large.png")]] == read(tmp_path / "out" / "large.png")).all()


@pytest.mark.parametrize(("own", "said"), [("", 0), ("lraspp_mobilenet_v3_large", 1), ("fcn_resnet50", 0)])
def test_a_network_that_pools_over_the_whole_says_so_of_its_windows(own: str, said: int, tmp_path: Path) -> None:
    run, _ = made(tmp_path / "run", 1.0, own=own)
    for name in ("a", "b"):
        Image.fromarray(image(100, 70)).save(tmp_path / f"{name}.png")
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    found = predict_masks(run, files, tmp_path / "out", device="cpu", window=64, overlap=32)
    assert len(found.notes) == said and all("2 images in windows: this network has means" in n for n in found.notes)
    assert not predict_masks(run, files, tmp_path / "out", device="cpu").notes


def test_an_overlap_without_windows_is_said(whole: tuple[RunFolder, SegmenterNet], tmp_path: Path) -> None:
    Image.fromarray(image(60, 70)).save(tmp_path / "a.png")
    (note,) = predict_masks(whole[0], [tmp_path / "a.png"], tmp_path / "out", device="cpu", overlap=64).notes
    assert note.startswith("--overlap 64: no image was cut into windows; --window cuts")
    assert not predict_masks(whole[0], [tmp_path / "a.png"], tmp_path / "out", device="cpu", window=32, overlap=0).notes


def test_views_that_are_larger_than_whole_images_may_be_go_in_windows(whole: tuple[RunFolder, SegmenterNet]) -> None:
    assert restore_segmenter(whole[0], CPU).goes_whole(1990, 1990)
    assert not restore_segmenter(whole[0], CPU, Averaging(scales=(0.5, 2.0))).goes_whole(1990, 1990)
    assert restore_segmenter(whole[0], CPU, Averaging(scales=(0.5, 2.0))).goes_whole(990, 990)


def test_flips_and_scales_are_averaged_in_probability(whole: tuple[RunFolder, SegmenterNet]) -> None:
    run, net = whole
    pixels = image(64, 96)
    batch = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    found = restore_segmenter(run, CPU, Averaging(True, (0.5, 1.0))).scores(batch)[0].numpy()
    x = (batch / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    total = torch.zeros(1, 7, 64, 96)
    for size in ((32, 48), (64, 96)):
        y = x if size == (64, 96) else F.interpolate(x, size, mode="bilinear", antialias=True)
        for dims in ([], [2], [3], [2, 3]):
            logits = F.interpolate(net(y.flip(dims)).flip(dims), (64, 96), mode="bilinear")
            total += logits.softmax(1) / 8
    np.testing.assert_allclose(np.exp(found), total[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(0), 1, atol=1e-5)
    off = restore_segmenter(run, CPU).scores(batch)[0]
    assert np.abs(np.exp(found) - off.softmax(0).numpy()).max() > 1e-3


def test_averaging_makes_a_symmetric_answer(whole: tuple[RunFolder, SegmenterNet]) -> None:
    trained = restore_segmenter(whole[0], CPU, Averaging(flips=True))
    batch = torch.from_numpy(image(64, 64).transpose(2, 0, 1).copy())[None]
    np.testing.assert_allclose(trained.scores(batch.flip(3)), trained.scores(batch).flip(3), atol=1e-3)


@pytest.mark.parametrize("scale", [0.0, 0.1, 5.0, -1.0])
def test_scales_that_make_no_view_are_refused(scale: float) -> None:
    with pytest.raises(UserError, match=r"--scale .*expected factors from 0.25 to 4"):
        Averaging(scales=(1.0, scale))


def test_unreadable_images_are_listed_and_the_rest_goes_on(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path
) -> None:
    run, _ = whole
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no image")
    Image.fromarray(image(20, 20)).save(tmp_path / "in" / "good.png")
    found = predict_masks(run, [tmp_path / "in"], tmp_path / "out", device="cpu")
    assert list(found.errors) == ["bad.jpg"] and list(found.masks) == ["good.png"]
    with found.errors_path.open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"image_id": "bad.jpg", "reason": found.errors["bad.jpg"]}] and "not a JPEG" in rows[0]["reason"]
    (tmp_path / "in" / "bad.jpg").unlink()
    assert not predict_masks(run, [tmp_path / "in"], tmp_path / "out", device="cpu").errors
    assert not found.errors_path.exists()


@pytest.mark.parametrize(
    "fault", [MemoryError(), PermissionError(13, "no"), RuntimeError("cuda: out\nof luck"), ValueError("x")]
)
def test_one_image_that_fails_does_not_stop_the_others(
    fault: Exception, whole: tuple[RunFolder, SegmenterNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octavo.tasks.segmentation import prediction as verb

    (tmp_path / "in").mkdir()
    names = ["a", "b" * 247, "é" * 120, "c", "d", "loop"]
    for name in names[:-1]:
        Image.fromarray(image(20, 20)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "loop.png").symlink_to("loop.png")
    written = verb.write_png

    def failing(file: BinaryIO, *args: Any, **options: Any) -> None:
        written(file, *args, **options)
        if next(turn) == 3:
            raise fault

    turn = iter(range(100))
    monkeypatch.setattr(verb, "write_png", failing)
    found = predict_masks(whole[0], [tmp_path / "in"], tmp_path / "out", device="cpu")
    assert len(found.errors) == 2 and "loop.png" in found.errors and "\n" not in "".join(found.errors.values())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*found.masks, "errors.csv"}
    # Of overlays the name is longer than that of the image: it has neither, and the others have both.
    monkeypatch.setattr(verb, "write_png", written)
    found = predict_masks(whole[0], [tmp_path / "in"], tmp_path / "overlaid", device="cpu", overlay=0.5)
    assert {name[:4] for name in found.errors} == {"bbbb", "loop"}
    assert "file name too long" in found.errors[f"{'b' * 247}.png"]
    assert len(list((tmp_path / "overlaid").iterdir())) == 2 * 4 + 1


def test_a_full_disk_ends_a_prediction_and_leaves_whole_masks(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octavo.tasks.segmentation import prediction as verb

    for name in ("a", "b", "c"):
        Image.fromarray(image(20, 20)).save(tmp_path / f"{name}.png")
    written = verb.write_png

    def filling(file: BinaryIO, *args: Any, **options: Any) -> None:
        written(file, *args, **options)
        if next(turn) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    turn = iter(range(100))
    monkeypatch.setattr(verb, "write_png", filling)
    told = r"b\.png: No space left on device; the last good state is kept; free some space, then run the command again$"
    with pytest.raises(DiskFull, match=told):
        predict_masks(whole[0], [tmp_path], tmp_path / "out", device="cpu")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_two_images_of_one_mask_are_refused_before_anything_is_written(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path
) -> None:
    run, _ = whole
    for name in ("a/x.png", "a/x.jpg", "b/x.png", "c/y.png", "c/y_overlay.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image(20, 20)).save(tmp_path / name)
    for given in (["a"], ["a/x.png", "b/x.png"], ["a/x.jpg", "b"]):
        with pytest.raises(UserError, match=r"would both become .*x\.png; rename one"):
            predict_masks(run, [tmp_path / g for g in given], tmp_path / "out", device="cpu")
    with pytest.raises(UserError, match=r"both become .*y_overlay\.png"):
        predict_masks(run, [tmp_path / "c"], tmp_path / "out", device="cpu", overlay=0.5)
    assert not (tmp_path / "out").exists()
    assert len(predict_masks(run, [tmp_path / "c"], tmp_path / "out", device="cpu").masks) == 2


def test_images_are_never_overwritten_and_earlier_masks_are_no_images(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path
) -> None:
    run, _ = whole
    Image.fromarray(image(20, 20)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="would be overwritten"):
        predict_masks(run, [tmp_path], tmp_path, device="cpu")
    for _ in range(2):
        found = predict_masks(run, [tmp_path], tmp_path / "masks", device="cpu")
        assert list(found.masks) == ["x.png"]
    with pytest.raises(UserError, match="is a file"):
        predict_masks(run, [tmp_path], tmp_path / "x.png", device="cpu")
    (tmp_path / "x.png").unlink()
    with pytest.raises(UserError, match="no images but those in it"):
        predict_masks(run, [tmp_path], tmp_path / "masks", device="cpu")


@pytest.mark.parametrize(
    ("given", "word"),
    [({"window": 100}, "--window 100"), ({"overlap": 5}, "--overlap 5"), ({"overlay": 1.5}, "--overlay 1.5"),
     ({"overlay": 0.0}, "--overlay 0"), ({"scales": (9.0,)}, "--scale 9")],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path, given: dict, word: str
) -> None:
    Image.fromarray(image(20, 20)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match=word):
        predict_masks(whole[0], [tmp_path / "x.png"], tmp_path / "out", device="cpu", **given)
    assert not (tmp_path / "out").exists()


def test_runs_that_are_unfinished_or_of_a_classifier_are_refused(tmp_path: Path, trained: RunFolder) -> None:
    run, _ = made(tmp_path / "run", 1.0, finished=False)
    with pytest.raises(UserError, match="not trained yet; go on with"):
        restore_segmenter(run, CPU)
    with pytest.raises(UserError, match="classify"):
        restore_segmenter(trained, CPU)


def test_a_written_mask_is_whole_or_absent(
    whole: tuple[RunFolder, SegmenterNet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octavo.tasks.segmentation import prediction as verb

    Image.fromarray(image(20, 20)).save(tmp_path / "x.png")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "write_png", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict_masks(whole[0], [tmp_path / "x.png"], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", ["course", "deepglobe", "camvid", "voc", "cityscapes"])
def test_values_name_every_channel_and_leave_one_for_void(table: str) -> None:
    classes = load_table(table)
    values, void = values_of(classes)
    trained = [entry.value for entry in classes.trained]
    assert values[: len(trained)].tolist() == trained and void not in trained
    assert (values[len(trained) :] == void).all()


def test_geotiff_keeps_its_place_and_nodata_is_void(whole: tuple[RunFolder, SegmenterNet], tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    run, net = whole
    pixels = image(70, 130)
    pixels[:20, :30] = 0
    place = rasterio.Affine(0.5, 0, 500000, 0, -0.5, 2700000)
    profile = {"driver": "GTiff", "height": 70, "width": 130, "count": 3, "dtype": "uint8", "crs": "EPSG:32651"}
    with rasterio.open(tmp_path / "a.tif", "w", transform=place, nodata=0, **profile) as file:
        file.write(pixels.transpose(2, 0, 1))
    found = predict_masks(run, [tmp_path / "a.tif"], tmp_path / "out", device="cpu", overlay=0.5)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.tif", "a_overlay.png"]
    wanted = expected(net, pixels, (70, 130))
    values, void = values_of(run.table)
    with rasterio.open(found.masks["a.tif"]) as file:
        assert file.transform == place and file.crs.to_epsg() == 32651 and file.count == 1 and file.nodata == void
        mask, colours = file.read(1), file.colormap(1)
    assert (mask[:20, :30] == void).all()
    clear = np.ones((70, 130), bool)
    clear[:20, :30] = False
    assert same(mask[clear], values[wanted][clear])
    for entry in run.table.entries:
        assert colours[entry.value][:3] == entry.colour
    grey = predict_masks(run, [tmp_path / "a.tif"], tmp_path / "grey", device="cpu", ids=True)
    with rasterio.open(grey.masks["a.tif"]) as file:
        assert file.colorinterp[0].name == "gray" and file.transform == place
        np.testing.assert_array_equal(file.read(1), mask)


def test_a_georeference_is_not_lost_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(image(20, 20)).save(tmp_path / "a.tif")
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.5\n500000\n2700000\n")
    monkeypatch.setattr(geo, "installed", lambda: False)
    with pytest.raises(UserError, match=r"georeference would be lost; install rasterio by `pip install octavo\[geo\]`"):
        plan([tmp_path / "a.tif"], tmp_path / "out")
    (tmp_path / "a.tfw").unlink()
    assert plan([tmp_path / "a.tif"], tmp_path / "out")[0].mask.name == "a.png"


def test_a_run_that_was_moved_predicts_all_the_same(whole: tuple[RunFolder, SegmenterNet], tmp_path: Path) -> None:
    moved = RunFolder.open(shutil.copytree(whole[0].path, tmp_path / "moved"))
    batch = torch.from_numpy(image(40, 40).transpose(2, 0, 1).copy())[None]
    np.testing.assert_array_equal(
        restore_segmenter(moved, CPU).scores(batch), restore_segmenter(whole[0], CPU).scores(batch)
    )


@pytest.mark.parametrize("kind", ["whole", "halved"])
def test_large_images_wait_in_files_and_come_out_the_same(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octavo.tasks.segmentation import prediction as verb

    run, rooms = request.getfixturevalue(kind)[0], []
    Image.fromarray(image(260, 130)).save(tmp_path / "a.png")

    def spooled(shape: tuple[int, ...], in_memory: int) -> AbstractContextManager[Spool]:
        rooms.append((shape, shape[0] * shape[1] > in_memory))
        return spool(shape, in_memory)

    monkeypatch.setattr(verb, "spool", spooled)
    for name, limit in (("memory", 1 << 24), ("file", 100)):
        monkeypatch.setattr(verb, "_IN_MEMORY", limit)
        predict_masks(run, [tmp_path / "a.png"], tmp_path / name, device="cpu", overlay=0.5, window=96, overlap=32)
    for file in ("a.png", "a_overlay.png"):
        np.testing.assert_array_equal(read(tmp_path / "file" / file), read(tmp_path / "memory" / file))
    seen = [(260, 130, 3)] if kind == "whole" else [(130, 65, 3), (260, 130, 3)]
    assert rooms == [(shape, large) for large in (False, True) for shape in (*seen, (260, 130))]


def test_masks_beside_their_images_are_left_out_of_folders_but_not_when_named(tmp_path: Path) -> None:
    for name in ("0000_sat.jpg", "0000_mask.png", "b.png", "b_mask.png", "lonely_mask.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    names = [target.name for target in plan([tmp_path], tmp_path / "out")]
    assert names == ["0000_sat.jpg", "b.png", "lonely_mask.png"]
    assert [t.name for t in plan([tmp_path / "b_mask.png"], tmp_path / "out")] == ["b_mask.png"]
