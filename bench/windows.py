"""Memory and time of predicting a large image in windows, beside the same network on whole images.

    python bench/windows.py RUN [--sides 2500 5000 10000] [--whole 1000 2000] [--full] [--image FILE] [--window 768]

RUN is a finished run of a segmenter whose data are where they were. The image of SIDE × SIDE pixels is made of its
validation photographs (or of FILE), laid side by side, and saved as a PNG. Each side is `octavo predict` in a process
of its own, on the CPU, from the file to the mask's file:

    windowed   as Octavo does it unasked, in windows of 768 with an overlap of 128 (--window chooses others); images
               of up to 4 million pixels at the network's scale go whole all the same, which is said
    whole      by a --window that is larger than the image: one pass of the network, as far as memory goes. A side is
               left out where the one before it, its part above the baseline grown by pixels, says more than --limit

The baseline is the same process on a picture of 32 × 32: imports, weights, network. Memory is the process's highest
resident size (os.wait4); a kernel counts mapped files in it. µs are of the process's seconds less the baseline's, for
each pixel of the image. A run with `data.scale` reduces the image before the network sees it; with --full a copy of
the run sees it in its own size, so that all its pixels go through the network.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sides import guarded, limits, machine

from octavo.data.pixels import decode
from octavo.data.png import write_png
from octavo.engine.folder import RunFolder
from octavo.engine.windows import OVERLAP, WHOLE, WINDOW, count
from octavo.recipe import SegmentRecipe

BASE = 32
STRIP = 256  # rows of an image that are written at a time
CHILD = """
import os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(status != 0)
"""  # a small process between: a child's highest resident size is never below what its parent had when it was made
WIDE = 8  # photographs side by side, before they repeat


class Figures(NamedTuple):
    """What one process took: seconds, CPU seconds, and its highest resident size in MiB."""

    seconds: float
    cpu: float
    peak: float


def main() -> None:
    """Predict all sides and print a line on each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sides", type=int, nargs="*", default=[2500, 5000, 10000])
    parser.add_argument("--whole", type=int, nargs="*", default=[1000, 2000])
    parser.add_argument("--full", action="store_true", help="the network sees the image in its own size")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--window", type=int, help="of the windowed sides")
    parser.add_argument("--overlap", type=int, default=OVERLAP)
    parser.add_argument("--limit", type=float, default=16, help="GiB above which no whole image is tried")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = at_full_size(given.run, folder / "run") if given.full else given.run
        scale = next(iter((run / "members").glob("*/member.json")))
        scale = json.loads(scale.read_text())["scale"]
        row = photographs(given)
        print(machine(), limits(), described(run, scale), sep="\n", flush=True)
        base = predicted(run, picture(row, BASE, folder), folder)
        print(f"baseline, {BASE}²: {base.seconds:.1f} s, {base.cpu:.1f} CPU s, peak {base.peak:,.0f} MiB", flush=True)

        def tell(side: int, *options: str) -> Figures:
            found = predicted(run, picture(row, side, folder), folder, *options)
            print(line(side, found, base, how(side, scale, options)), flush=True)
            return found

        whole(given, tell, base)
        chosen = ["--window", str(given.window)] if given.window else []
        for side in given.sides:
            unasked = not chosen and round(side * scale) ** 2 <= WHOLE
            tell(side, *chosen, *([] if unasked else ["--overlap", str(given.overlap)]))


def whole(given: argparse.Namespace, tell: Callable[..., Figures], base: Figures) -> None:
    """Predict sides in one pass each, up to the limit."""
    rate = 0.0  # MiB above the baseline, for each pixel
    for side in sorted(given.whole):
        if base.peak + rate * side**2 > given.limit * 1024:
            print(f"{side:,}² whole: about {(base.peak + rate * side**2) / 1024:,.0f} GiB, not tried")
            continue
        found = tell(side, "--window", str(-(-side // 32) * 32))
        rate = (found.peak - base.peak) / side**2


def predicted(run: Path, image: Path, folder: Path, *options: str) -> Figures:
    """Predict one image in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    words = [sys.executable, "-m", "octavo", "predict", str(run), str(image), "--out", str(folder / "masks")]
    told = subprocess.run([sys.executable, "-c", CHILD, *words, "--device", "cpu", *options], stdout=subprocess.PIPE)
    if told.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    seconds, cpu, peak = map(float, told.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB elsewhere
    return Figures(seconds, cpu, peak * unit / 2**20)


def line(side: int, found: Figures, base: Figures, words: str) -> str:
    """Return one line of the table."""
    pixel, cpu = (1e6 * (a - b) / side**2 for a, b in ((found.seconds, base.seconds), (found.cpu, base.cpu)))
    return (
        f"{side:6,}²  {found.seconds:8.1f} s  {found.cpu:8.1f} CPU s  {pixel:6.2f} µs, {cpu:6.2f} CPU µs a pixel  "
        f"peak {found.peak:7,.0f} MiB, {found.peak - base.peak:7,.0f} above the baseline  {words}"
    )


def how(side: int, scale: float, options: tuple[str, ...]) -> str:
    """Return what an image of this side is predicted in: windows, or one pass."""
    small = round(side * scale)
    chosen = dict(zip(options[::2], map(int, options[1::2]), strict=True))
    if not chosen or small <= chosen.get("--window", WINDOW):
        return f"whole, {small:,}² at the network's scale"
    window = chosen.get("--window", WINDOW)
    return f"{count((small, small), window, chosen.get('--overlap', OVERLAP))} windows of {window:,}"


def described(run: Path, scale: float) -> str:
    """Return a line on the network."""
    recipe = RunFolder.open(run).recipe_as(SegmentRecipe)
    spec = recipe.segmenter
    what = f"FCN-{spec.stride}s on {spec.backbone}" if spec.network == "fcn" else spec.network
    train = recipe.train_of(spec)
    form = ", channels last" if train.channels_last else ""
    return f"{what}, {train.precision}{form}; the network sees the image at {scale:g} of its size"


def at_full_size(run: Path, copy: Path) -> Path:
    """Copy what prediction needs of a run, with the scale set to 1."""
    kept = ("members", "recipe.toml", "manifest.json", "samples.csv")
    shutil.copytree(run, copy, ignore=lambda at, names: set(names) - set(kept) if Path(at) == run else set())
    for file in (copy / "members").glob("*/member.json"):
        facts: dict[str, Any] = json.loads(file.read_text())
        file.write_text(json.dumps(facts | {"scale": 1.0}))
    return copy


def photographs(given: argparse.Namespace) -> list[np.ndarray]:
    """Return pictures uint8 [H,W,3] of one size."""
    if given.image:
        return [decode(given.image)]
    run = RunFolder.open(given.run)
    files = run.files("val")[:WIDE]
    first, *rest = (decode(Path(run.manifest["data"]["root"]) / file) for file in files)
    return [first, *(picture for picture in rest if picture.shape == first.shape)]


def picture(tiles: list[np.ndarray], side: int, folder: Path) -> Path:
    """Write the tiles side by side, row below row, each row begun with the next tile, as a PNG of SIDE × SIDE."""
    height, width = tiles[0].shape[:2]
    across = -(-side // width)

    def strips() -> Iterator[np.ndarray]:
        for top in range(0, side, STRIP):
            rows = np.arange(top, min(top + STRIP, side))
            lines = [
                np.concatenate([tiles[(row // height + at) % len(tiles)][row % height] for at in range(across)])
                for row in rows.tolist()
            ]
            yield np.stack(lines)[:, :side]

    path = folder / f"{side}.png"
    if not path.is_file():
        with path.open("wb") as file:
            write_png(file, strips(), side, side)
    return path


if __name__ == "__main__":
    guarded(main)
