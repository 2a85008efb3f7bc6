"""The data of the demo: scikit-learn's handwritten digits, written as the reference's folders of PNG files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from octavo.cache import cache_dir
from octavo.files import STALE, sync_folder
from octavo.keyed import permutation

TRAIN = 900
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


def write_digits(folder: Path | None = None) -> Path:
    """Write the digits as `train_10/` and `val_10/` files `{digit}_{index}.png` and return their folder.

    The first `TRAIN` images of a keyed order are for training, the others for validation.
    """
    from sklearn.datasets import load_digits

    folder = folder or cache_dir() / "datasets" / "digits"
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    order = permutation(len(labels), 0, 0)
    names = {int(i): ("train_10" if place < TRAIN else "val_10") for place, i in enumerate(order)}
    expected = {f"{part}/{labels[i]}_{i:04d}.png": i for i, part in names.items()}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*.png")}
    if there == set(expected):
        return folder
    # The folder is whole or absent, as one: syncing 1,797 files one by one takes half a minute.
    draft = folder.with_name(f".{folder.name}{STALE}")
    shutil.rmtree(draft, ignore_errors=True)
    for name, i in expected.items():
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((images[i] * (255 / 16)).astype(np.uint8)).save(path)
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)
    sync_folder(folder.parent)
    return folder
