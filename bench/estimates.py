"""What a training was estimated to take, beside what it took: time and disk of five small recipes on real data.

    OMP_NUM_THREADS=1 python bench/estimates.py ../shared [--only quick,distil]

SHARED holds `data/tinyimagenet50`, `data/camvid` and `weights`. Time is the process's own processor time, by which the
rate of a matrix product is measured too, so that other work on the machine counts in neither; disk is the most that the
run's folder and the features in the cache held, looked at every 50 ms. Decoding comes before the estimate is made.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from octavo.engine import hardware
from octavo.engine.estimate import Estimate
from octavo.engine.folder import RunFolder
from octavo.options import Options
from octavo.recipe import load
from octavo.verbs import announce
from octavo.verbs.distil import distil
from octavo.verbs.training import train

TINY, SIDE = 12, 32
MOBILE = '{name="m",backbone="mobilenet_v2"}'
FCN = ["segmenter.backbone=mobilenet_v2", "segmenter.hidden=[]", "data.classes=camvid", "data.size=[180,240]"]
RECIPES: dict[str, tuple[str, str, list[str]]] = {
    "quick": ("quick", "tiny", []),
    "finetune": ("quick", "few", [f"members=[{MOBILE}]", "train.mode=finetune", "train.epochs=3", "train.batch_size=16",
                                  "train.cache=false", "data.size=64"]),
    "fcn-frozen": ("fcn8s-plus", "camvid", [*FCN, "train.mode=frozen", "train.epochs=10", "train.ema=0",
                                            "train.views=2", "train.batch_size=4", "data.scale=0.5"]),
    "fcn-finetune": ("fcn8s-plus", "camvid", [*FCN, "train.epochs=3", "train.batch_size=4", "data.scale=0.5"]),
}  # fmt: skip


def tiny(source: Path, out: Path, train_images: int, val: int) -> None:
    """Write so many images of each of the first classes, in folders of splits and classes."""
    for split, count in (("train", train_images), ("val", val)):
        for sheet in sorted((source / split).glob("*.webp"))[:TINY]:
            pixels = np.asarray(Image.open(sheet).convert("RGB"))
            rows, columns = pixels.shape[0] // SIDE, pixels.shape[1] // SIDE
            cells = pixels.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(-1, SIDE, SIDE, 3)
            folder = out / split / sheet.stem
            folder.mkdir(parents=True)
            for number, cell in enumerate(cells[:count]):
                Image.fromarray(cell).save(folder / f"{number}.png")


def camvid(source: Path, out: Path, train_images: int, val: int) -> None:
    """Link so many pairs of each split."""
    for split, count in (("train", train_images), ("val", val)):
        for folder in (split, f"{split}annot"):
            (out / folder).mkdir(parents=True)
            for path in sorted((source / folder).iterdir())[:count]:
                (out / folder / path.name).symlink_to(path.resolve())


def size_of(*folders: Path) -> int:
    """Return the bytes below folders that may change meanwhile."""
    total = 0
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                with suppress(OSError):
                    total += (Path(place) / name).lstat().st_size
    return total


class Watch:
    """What is taken from the moment of the estimate on."""

    def __init__(self, *folders: Path) -> None:
        self.folders, self.most, self.began = folders, 0, 0.0
        self.found: Estimate | None = None
        self.done = threading.Event()

    def estimated(self, found: Estimate) -> Estimate:
        """Begin to look."""
        self.found, self.began, self.before = found, time.process_time(), size_of(*self.folders)
        threading.Thread(target=self._look, daemon=True).start()
        return found

    def _look(self) -> None:
        while not self.done.wait(0.05):
            self.most = max(self.most, size_of(*self.folders) - self.before)


def measured(name: str, place: Path, weights: Path) -> None:
    """Train one recipe and print a line of it."""
    out, cache = place / name, place / "cache"
    watch = Watch(out, cache / "features")
    original, announce.estimate = announce.estimate, lambda *a, **k: watch.estimated(original(*a, **k))
    options = Options(out=out, cache=cache, weights_dir=weights, device="cpu", report=False)
    try:
        if name == "distil":
            distil(RunFolder.open(place / "quick"), "mobilenet_v2", (), options)
        else:
            recipe, data, changes = RECIPES[name]
            train(load(recipe, changes), place / data, (), options)
    finally:
        announce.estimate = original
        watch.done.set()
    seen, found = time.process_time() - watch.began, watch.found
    assert found is not None
    print(f"{name:14} time {found.seconds:8.1f} s estimated, {seen:8.1f} s seen: {found.seconds / seen:5.2f}     "
          f"disk {found.disk / 1e6:8.1f} MB estimated, {watch.most / 1e6:8.1f} MB seen: "
          f"{found.disk / watch.most:5.2f}", flush=True)  # fmt: skip


def main() -> None:
    """Make the data, train each recipe, print what was estimated and seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    clock: Any = SimpleNamespace(perf_counter=time.process_time)
    hardware.time = clock
    with tempfile.TemporaryDirectory() as folder:
        place, data = Path(folder), given.shared / "data"
        tiny(data / "tinyimagenet50", place / "tiny", 50, 10)
        tiny(data / "tinyimagenet50", place / "few", 15, 5)
        camvid(data / "camvid", place / "camvid", 24, 8)
        for name in [*RECIPES, "distil"]:
            if not given.only or name in given.only.split(","):
                measured(name, place, given.shared / "weights")


if __name__ == "__main__":
    sys.exit(main())
