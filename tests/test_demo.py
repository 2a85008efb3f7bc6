"""The demo's data: scikit-learn's digits as image files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from octavo.data.readers import read
from octavo.verbs.demo import AFTER, TRAIN, write_digits


def test_digits_are_written_once_and_are_the_digits(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits")
    images, labels = load_digits(return_X_y=True)
    samples = read(folder)
    assert (samples.layout, samples.own_split, len(samples.files)) == ("prefix", True, 1797)
    assert samples.classes == tuple(str(i) for i in range(10))
    assert {part: len(i) for part, i in samples.splits.items()} == {"train": TRAIN, "val": 1797 - TRAIN}
    seen = set()
    for place in range(0, 1797, 50):
        name, index = Path(samples.files[place]).stem.split("_")
        with Image.open(samples.path(place)) as image:
            np.testing.assert_allclose(np.asarray(image), images[int(index)].reshape(8, 8) * 255 / 16, atol=1)
        assert labels[int(index)] == int(name)
        seen.add(index)
    assert len(seen) == 36
    counts = Counter(samples.labels[samples.splits["train"]].tolist())
    assert min(counts.values()) > 70 and max(counts.values()) < 110
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.png")}
    assert write_digits(folder) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.png")} == before
    next(iter(before)).unlink()  # a demo that was stopped while it wrote
    write_digits(folder)
    assert len(list(folder.rglob("*.png"))) == 1797


def test_what_is_said_after_names_both_places() -> None:
    text = AFTER.format(run="runs/x", data="digits")
    assert "octavo predict runs/x digits/val_10" in text and "{" not in text
