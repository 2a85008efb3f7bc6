"""Scoring folders of masks: which prediction belongs to which image, how it is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

from octavo.data.classes import load_table
from octavo.data.fitting import as_options
from octavo.data.masks import paint
from octavo.data.pairs import Pairs, read_pairs
from octavo.errors import UserError
from octavo.numbers.rules import BESIDE, RULES
from octavo.tasks.segmentation.score import score_masks

SHARED = Path(__file__).parents[2] / "shared"
TABLE = load_table("course")
IDS = np.array([e.value for e in TABLE.trained], np.uint8)


def drawn(seed: int, size: tuple[int, int] = (24, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 7, size).astype(np.uint8)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Five training and four validation pairs in the course's layout."""
    for split, numbers in (("train", range(5)), ("validation", range(10, 14))):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        for i in numbers:
            Image.fromarray(np.full((24, 30, 3), 90, np.uint8)).save(folder / f"{i:04}_sat.jpg")
            Image.fromarray(paint(drawn(i), TABLE)).save(folder / f"{i:04}_mask.png")
    return tmp_path / "data"


def predicted(i: int) -> np.ndarray:
    """Two thirds right."""
    guess, mask = drawn(100 + i), drawn(i)
    return np.where(np.arange(30) % 3 > 0, mask, guess).astype(np.uint8)


def write(folder: Path, form: str = "{:04}.png", kind: str = "colours", numbers: range = range(10, 14)) -> Path:
    """Write predictions of a kind: `colours`, `ids`, `palette` (index = id) or `quantised` (index of no meaning)."""
    for i in numbers:
        channels = predicted(i)
        if kind == "colours":
            image = Image.fromarray(paint(channels, TABLE))
        elif kind == "quantised":
            image = Image.fromarray(6 - channels)
            image.putpalette(TABLE.colours[::-1].tobytes())
        else:
            image = Image.fromarray(IDS[channels])
            if kind == "palette":
                image.putpalette(TABLE.colours.tobytes())
        path = folder / form.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder


def course_miou(numbers: range = range(10, 14)) -> float:
    guess, label = (np.concatenate([f(i).ravel() for i in numbers]) for f in (predicted, drawn))
    return float(jaccard_score(label, guess, average=None)[:6].mean())  # type: ignore[index]


@pytest.mark.parametrize("kind", ["colours", "ids", "palette", "quantised"])
def test_the_card_of_predictions_of_any_kind(truth: Path, tmp_path: Path, kind: str) -> None:
    seen: list[tuple[int, int]] = []
    got = score_masks(
        write(tmp_path / "out", kind=kind),
        truth,
        classes="course",
        replicates=100,
        progress=lambda what, done, total, note="": seen.append((done, total)),
    )
    assert got.report.miou == pytest.approx(course_miou(), abs=1e-8)
    assert (got.report.n, got.report.split, got.report.rule_name, got.missing) == (4, "val", "course", 0)
    assert got.read_as == ("ids" if kind == "ids" else "colours")
    assert got.rows[0].rule == "course" and len(got.rows) == len(RULES) + len(BESIDE)
    assert got.table == "course" and seen[-1][1] == 4


@pytest.mark.parametrize(
    "form",
    ["{:04}.png", "{:04}_mask.png", "{:04}_sat.png", "{:04}_pred.png", "validation/{:04}_sat.png", "deep/er/{:04}.png"],
)
def test_names_by_which_a_prediction_is_found(truth: Path, tmp_path: Path, form: str) -> None:
    got = score_masks(write(tmp_path / "out", form), truth, classes="course", replicates=10)
    assert got.report.miou == pytest.approx(course_miou(), abs=1e-8)


def test_overlays_beside_predictions_are_passed_over(truth: Path, tmp_path: Path) -> None:
    write(write(tmp_path / "out"), "{:04}_overlay.png", "ids")
    assert score_masks(tmp_path / "out", truth, classes="course", replicates=10).report.n == 4


def test_perfect_predictions_score_one_by_every_rule_that_has_no_absent_class(truth: Path) -> None:
    got = score_masks(truth / "validation", read_masks_only(truth), classes="course", replicates=10)
    assert {r.value for r in got.rows} == {1.0}


def read_masks_only(truth: Path) -> Pairs:
    """The truth, after its pictures are gone from the folder that is scored."""
    pairs = read_pairs(truth)
    for path in (truth / "validation").glob("*_sat.jpg"):
        path.unlink()
    return pairs


def test_another_split_and_rule(truth: Path, tmp_path: Path) -> None:
    out = write(tmp_path / "out", numbers=range(5))
    got = score_masks(out, truth, classes="course", split="train", rule="absent-zero", replicates=10)
    assert got.report.split == "train" and got.rows[0].rule == "absent-zero" and got.report.flattered


def test_missing_predictions_are_refused_or_count_as_wrong(truth: Path, tmp_path: Path) -> None:
    out = write(tmp_path / "out", numbers=range(10, 13))
    with pytest.raises(UserError, match=r"1 of 4 images of val have no prediction: validation/0013_sat\.jpg; add"):
        score_masks(out, truth, classes="course")
    got = score_masks(out, truth, classes="course", missing="wrong", replicates=10)
    whole = score_masks(write(out), truth, classes="course", replicates=10)
    assert got.missing == 1 and any("1 of 4 images have no prediction" in w for w in got.report.warnings)
    assert got.report.n == 4 and got.report.pixels == whole.report.pixels
    assert np.array(got.report.confusion)[:, -1].sum() == 24 * 30
    assert got.report.miou is not None and whole.report.miou is not None and got.report.miou < whole.report.miou


def test_predictions_that_belong_nowhere_are_refused(truth: Path, tmp_path: Path) -> None:
    write(write(tmp_path / "a"), "{:04}.png", numbers=range(77, 79))
    with pytest.raises(UserError, match=r'2 of 6 predictions belong to no image: 0077\.png, 0078\.png.*"0010\.png"'):
        score_masks(tmp_path / "a", truth, classes="course")
    write(write(tmp_path / "b"), numbers=range(1, 2))
    with pytest.raises(UserError, match=r"1 of 5 predictions belong to another split: 0001\.png"):
        score_masks(tmp_path / "b", truth, classes="course")
    write(write(tmp_path / "c"), "{:04}_mask.png", numbers=range(11, 12))
    with pytest.raises(UserError, match=r'belong to an image that has one already \("0011\.png"\): 0011_mask\.png'):
        score_masks(tmp_path / "c", truth, classes="course")


def test_another_size_is_refused_with_both(truth: Path, tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    Image.fromarray(paint(drawn(0, (12, 15)), TABLE)).save(out / "0012.png")
    with pytest.raises(UserError, match=r"1 of 4 predictions differ .* 0012\.png is 15×12, its mask 30×24; predict at"):
        score_masks(out, truth, classes="course")


def test_a_colour_in_no_class_is_refused_by_name_and_count(truth: Path, tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    image = np.array(Image.open(out / "0011.png"))
    image[0, :5] = (255, 0, 0)
    Image.fromarray(image).save(out / "0011.png")
    with pytest.raises(UserError, match=r'0011\.png: colour 255,0,0 \(5 pixels\) is in no class of table "course"'):
        score_masks(out, truth, classes="course")
    write(tmp_path / "ids", kind="ids")
    Image.fromarray(np.full((24, 30), 99, np.uint8)).save(tmp_path / "ids" / "0010.png")
    with pytest.raises(UserError, match=r"0010\.png: value 99 \(720 pixels\) is in no class"):
        score_masks(tmp_path / "ids", truth, classes="course")


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_broken_prediction_is_told_by_name(truth: Path, tmp_path: Path, content: bytes) -> None:
    out = write(tmp_path / "out")
    (out / "0012.png").write_bytes(content)
    with pytest.raises(UserError, match=r"0012\.png: .*; expected a mask"):
        score_masks(out, truth, classes="course")


def test_mistakes_are_told(truth: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        score_masks(tmp_path / "nowhere", truth)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r'no predicted masks; expected one an image of val, such as "0010\.png"'):
        score_masks(tmp_path / "empty", truth)
    out = write(tmp_path / "out")
    with pytest.raises(UserError, match='split: unknown "vall"; did you mean "val"'):
        score_masks(out, truth, split="vall")
    with pytest.raises(UserError, match='rule: unknown "vocs"; did you mean "voc"'):
        score_masks(out, truth, rule="vocs")
    with pytest.raises(UserError, match='missing: unknown "ignore"'):
        score_masks(out, truth, missing="ignore")  # type: ignore[arg-type]


def test_images_of_one_name_in_two_folders_need_the_folder(tmp_path: Path) -> None:
    data, rows = tmp_path / "data", ["image,mask,split"]
    for town in ("aachen", "bonn"):
        (data / town).mkdir(parents=True)
        Image.fromarray(np.zeros((24, 30, 3), np.uint8)).save(data / town / "1.jpg")
        Image.fromarray(paint(drawn(10), TABLE)).save(data / town / "1_mask.png")
        rows += [f"{town}/1.jpg,{town}/1_mask.png,{split}" for split in ("train",)]
    (data / "list.csv").write_text("\n".join(rows) + "\n")
    write(tmp_path / "flat", "1.png", numbers=range(10, 11))
    with pytest.raises(UserError, match=r"1 of 1 predictions fit several images: 1\.png"):
        score_masks(tmp_path / "flat", data / "list.csv", classes="course")
    for town in ("aachen", "bonn"):
        write(tmp_path / "deep", f"{town}/1.png", numbers=range(10, 11))
    got = score_masks(tmp_path / "deep", data / "list.csv", classes="course", replicates=10)
    assert got.report.n == 2 and got.report.split == "all"


@pytest.mark.skipif(not (SHARED / "data/camvid").is_dir(), reason="needs shared/data/camvid")
def test_camvids_own_masks_are_perfect(tmp_path: Path) -> None:
    pairs = read_pairs(SHARED / "data/camvid")
    part = pairs.splits["val"][:6].tolist()
    pairs = Pairs(pairs.root, pairs.layout, tuple(pairs.files[i] for i in part), tuple(pairs.masks[i] for i in part),
                  {"train": np.arange(0), "val": np.arange(6)}, True, folder=pairs.folder)  # fmt: skip
    for i in range(6):
        (tmp_path / pairs.mask_path(i).name).write_bytes(pairs.mask_path(i).read_bytes())
    got = score_masks(tmp_path, pairs, classes="camvid", rule="mmsegmentation", replicates=10)
    assert got.report.miou == 1 and got.read_as == "ids" and len(got.report.classes) == 11


def test_mistakes_name_the_options_that_were_typed(truth: Path, tmp_path: Path) -> None:
    """`data.classes` is a recipe's key; whoever scores has `--classes`."""
    with pytest.raises(UserError) as error:
        score_masks(write(tmp_path / "p"), truth, classes="coarse")
    assert str(error.value).startswith('--classes: no table and no file "coarse"; did you mean "course"?')
    with pytest.raises(UserError) as error:
        score_masks(write(tmp_path / "p"), truth, classes="camvid", tolerant=True)
    assert str(error.value).startswith("--tolerant: takes every") and str(error.value).endswith("; leave it away")


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ('a; write data.tolerant = true and data.classes = "x y"', "a; give --tolerant and --classes 'x y'"),
        ("or set data.tolerant = true if the mask", "or give --tolerant if the mask"),
        ("name their table by data.classes, or", "name their table by --classes, or"),
        ("data.tolerant: masks hold 0–3; set it to false", "--tolerant: masks hold 0–3; leave it away"),
        ("write octavo.toml, or set it to false", "write octavo.toml, or set it to false"),
    ],
)
def test_keys_become_options(text: str, typed: str) -> None:
    assert as_options(text) == typed
