"""The data of the demo as files: scikit-learn's handwritten digits, and synthetic land cover in the course's form."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from octavo.cache import open_cache
from octavo.data.classes import load_table
from octavo.data.masks import paint
from octavo.files import STALE, sync_folder
from octavo.keyed import permutation
from octavo.numbers.mask_results import SegmentReport
from octavo.verbs.landcover import tile

TRAIN = 900
TILES = {"train": 128, "validation": 32}
"""Tiles of synthetic land cover by folder."""
PARTS = ("digits", "landcover")
"""What the demo trains, one after the other."""
DATA = {"digits": "digits", "landcover": "synthetic-landcover"}
"""The folder of each one's data, in the cache."""
BEFORE = """\
Octavo's demo: the reference's eight networks, full size (about 609 million parameters), from random weights, on
1,797 real handwritten digits of 8×8 pixels (UCI, by way of scikit-learn), shown to the networks at 32×32.
All layers are trained. It proves that the whole way works on this machine; digits are easy, so the accuracies say
nothing about your images, and without ImageNet weights and with a few passes no member is at its best."""
AFTER = """
What this showed: reading, decoding, eight trainings, an ensemble whose weights were chosen on held-out training
images, and a score on validation images that nothing else saw. What it did not: accuracy on photographs.
Next: octavo predict {run} {data}/val_10 --out digits.csv
      octavo train quick --data YOUR_FOLDER"""
BEFORE_LANDCOVER = """\
Octavo's demo of masks: a full-size FCN-8s (VGG16 with batch norm, 28.9 million parameters), from random weights, on
SYNTHETIC land cover: 128 generated tiles of 128×128 pixels in the course's seven classes, scored on 32 others.
All layers are trained, a few passes long. It proves that the whole way from masks to mIoU works on this machine;
the tiles come from noise and formulas, so the mIoU says nothing about satellite images."""
AFTER_LANDCOVER = """
{scores}
masks by stage: {stages}
What this showed: reading pairs in the course's form, a training that keeps masks on its way, and a score on tiles that
nothing else saw. What it did not: mIoU on satellite images, which are harder and have borders that nobody drew exactly.
Next: octavo predict {run} {data}/validation --out masks
      octavo train fcn8s --data YOUR_FOLDER"""


def write_digits(folder: Path | None = None) -> Path:
    """Write the digits as `train_10/` and `val_10/` files `{digit}_{index}.png` and return their folder.

    The first `TRAIN` images of a keyed order are for training, the others for validation.
    """
    from sklearn.datasets import load_digits

    folder = folder or open_cache() / "datasets" / DATA["digits"]
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    order = permutation(len(labels), 0, 0)
    names = {int(i): ("train_10" if place < TRAIN else "val_10") for place, i in enumerate(order)}
    expected = {f"{part}/{labels[i]}_{i:04d}.png": i for i, part in names.items()}

    def write(draft: Path) -> None:
        for name, i in expected.items():
            Image.fromarray((images[i] * (255 / 16)).astype(np.uint8)).save(_at(draft, name))

    return _whole(folder, expected, write)


def write_landcover(folder: Path | None = None) -> Path:
    """Write synthetic land cover in the course's form, `train/0000_sat.jpg` with `train/0000_mask.png`, and return its
    folder.

    `validation/` holds tiles of other numbers than `train/`. Masks are in the course's colours.
    """
    folder = folder or open_cache() / "datasets" / DATA["landcover"]
    parts = [(part, i) for part, count in TILES.items() for i in range(count)]
    pairs = {f"{part}/{i:04d}": number for number, (part, i) in enumerate(parts)}
    table = load_table("course")

    def write(draft: Path) -> None:
        for name, number in pairs.items():
            image, ids = tile(number)
            Image.fromarray(image).save(_at(draft, f"{name}_sat.jpg"), quality=92)
            Image.fromarray(paint(ids, table)).save(_at(draft, f"{name}_mask.png"))

    return _whole(folder, [name + end for name in pairs for end in ("_sat.jpg", "_mask.png")], write)


def scores_shown(report: SegmentReport) -> str:
    """Return in a few lines the mIoU of the demo, that of always the commonest class, and the IoU of each class."""
    miou = "none" if report.miou is None else f"{report.miou:.3f}"
    scored = [c for c in report.per_class if c.scored]
    width = max(len(c.name) for c in scored)
    commonest = max(scored, key=lambda c: c.truth)
    # Named everywhere, a class has its share as IoU, and every other class 0.
    lines = [
        f"synthetic land cover: mIoU {miou} (rule {report.rule_name}; always {commonest.name} would have "
        f"{commonest.truth / len(scored):.3f})"
    ]
    lines += [f"  {c.name:{width}}  {'none' if c.iou is None else f'{c.iou.value:.3f}'}" for c in scored]
    return "\n".join(lines)


def _whole(folder: Path, expected: Iterable[str], write: Callable[[Path], None]) -> Path:
    """Let `write` fill `folder` unless exactly the `expected` files lie there; return it."""
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    if there == set(expected):
        return folder
    # The folder is whole or absent, as one: syncing 1,797 files one by one takes half a minute.
    draft = folder.with_name(f".{folder.name}{STALE}")
    shutil.rmtree(draft, ignore_errors=True)
    write(draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)
    sync_folder(folder.parent)
    return folder


def _at(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
