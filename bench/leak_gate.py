"""How many injected copies the leak gate finds, and how many of the pairs it reports are true, kind by kind.

    python bench/leak_gate.py DATA [--task segment] [--copies 120] [--known PAIRS.csv] [--seed 1]
    python bench/leak_gate.py PHOTOS --photos 1000 [--side 64 [--square]]

DATA is a folder that `octavo train` reads, or with `--photos` any folder of images: so many of them, drawn at random,
half for each part. `--side` reduces them to that many pixels on the shorter side first, `--square` cuts out the middle.
Training images are copied into the validation part with a change:
compressed as JPEG of quality 45 to 55; resized by 0.6 to 1.6, half of them back again; mirrored left to right; upside
down; cropped to 80 to 95 % of the area, half of them resized back; brightness, contrast and saturation changed by 5 to
10 % each and the hue by up to 10 % of the circle. `--tiles SIDE` adds windows of SIDE pixels: one into each part, both
out of one training image, sharing 50 to 80 % of their area; they are searched by themselves, among such windows of all
images.

A source is drawn once. Recall is the share of copies that are reported with their source. Precision of a kind is the
share of true pairs among all pairs that its copies are in; a pair of `--known` (columns `first` and `second`, file
names), judged by eye before, is set aside, and so is a copy whose source is in one.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from copies import KINDS
from PIL import Image
from sides import guarded

from octavo.data import store, torchvision_data
from octavo.leaks.find import find_leaks
from octavo.leaks.leak import Leak


@dataclass(frozen=True)
class Loose:
    """Files anywhere, for the pixel store."""

    root: str
    files: tuple[str, ...]
    folder: str = "/"

    def path(self, index: int) -> Path:
        """Return where a file lies."""
        return Path(self.files[index])


def main() -> None:
    """Inject, search, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--task", choices=("classify", "segment"), default="classify")
    parser.add_argument("--copies", type=int, default=120)
    parser.add_argument("--photos", type=int, metavar="N", help="DATA is a folder of images: how many to take")
    parser.add_argument("--side", type=int, help="with --photos: pixels of the shorter side")
    parser.add_argument("--square", action="store_true", help="with --side: the middle of each photograph")
    parser.add_argument("--tiles", type=int, metavar="SIDE")
    parser.add_argument("--known", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--untouched", type=Path, metavar="CSV", help="inject nothing, write the pairs that are found")
    given = parser.parse_args()
    known = known_pairs(given.known)
    with tempfile.TemporaryDirectory() as folder:
        train, val = photographs(given, Path(folder)) if given.photos else splits(given)
        if given.untouched:
            untouched(train, val, Path(folder), given.untouched)
        elif given.tiles:
            tiles(train, val, Path(folder), given)
        else:
            copies(train, val, Path(folder), given, known)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def splits(given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the files of the training and the validation part."""
    read = torchvision_data.read if given.task == "classify" else torchvision_data.read_pairs
    data = read(given.data)
    train, val = ([str(data.path(int(i)).resolve()) for i in data.splits[split]] for split in ("train", "val"))
    return train, val


def photographs(given: argparse.Namespace, folder: Path) -> tuple[list[str], list[str]]:
    """Return files of two parts, drawn from a folder of images and reduced as asked."""
    found = sorted(file for file in Path(given.data).rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    chosen = np.random.default_rng(given.seed).permutation(len(found))[: given.photos]
    files = [reduced(found[i], folder, given.side, given.square) for i in chosen.tolist()]
    return files[len(files) // 2 :], files[: len(files) // 2]


def reduced(file: Path, folder: Path, side: int | None, square: bool) -> str:
    """Return the file of a smaller copy of an image, its shorter side `side` pixels; of the image itself without."""
    if side is None:
        return str(file.resolve())
    image = Image.open(file).convert("RGB")
    factor = min(1.0, side / min(image.size))
    width, height = (max(side, round(length * factor)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    if square:
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    out = folder / f"{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{file.stem}.png"
    image.save(out)
    return str(out)


def known_pairs(path: Path | None) -> set[frozenset[str]]:
    """Return pairs of file names."""
    if path is None:
        return set()
    with path.open(newline="") as file:
        return {frozenset((row["first"], row["second"])) for row in csv.DictReader(file)}


def search(files: list[str], parts: dict[str, np.ndarray], folder: Path) -> tuple[Leak, ...]:
    """Decode, search, and say how long the search took."""
    pixels = store.build(Loose("bench", tuple(files)), store.ImageDecoder(), folder / "cache")
    start, cpu = time.perf_counter(), time.process_time()
    leaks = find_leaks(pixels, parts, progress=bar)
    print(file=sys.stderr)
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    counts = " and ".join(f"{len(index):,} {name}" for name, index in parts.items())
    print(f"{counts} images searched in {wall:.1f} s ({used:.1f} CPU s), {len(leaks)} pairs")
    return leaks


def bar(what: str, done: int, total: int, note: str = "") -> None:
    """Show progress in one line."""
    print(f"\r{what} {done:,} of {total:,}   ", end="", file=sys.stderr)


def untouched(train: list[str], val: list[str], folder: Path, out: Path) -> None:
    """Write the pairs that the data hold by themselves, for the eye to judge."""
    files = val + train
    parts = {"val": np.arange(len(val)), "fit": np.arange(len(val), len(files))}
    leaks = search(files, parts, folder)
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second", "kind", "similarity"])
        writer.writerows((Path(files[x.first]).name, Path(files[x.second]).name, x.kind, x.similarity) for x in leaks)


def copies(
    train: list[str], val: list[str], folder: Path, given: argparse.Namespace, known: set[frozenset[str]]
) -> None:
    """Inject copies of all kinds into the validation part."""
    draw = np.random.default_rng(given.seed)
    total = given.copies * len(KINDS)
    sources = draw.permutation(len(train))[np.arange(total) % len(train)]  # few images serve several kinds
    if len(train) < total:
        sources = np.concatenate([draw.permutation(len(train))[: given.copies] for _ in KINDS])
    written = []
    for number, (kind, source) in enumerate(zip(np.repeat(list(KINDS), given.copies), sources, strict=True)):
        image = KINDS[kind](Image.open(train[source]).convert("RGB"), draw)
        written.append(str(folder / f"copy_{number:05}.png"))
        image.save(written[-1])
    files = val + written + train
    fit = np.arange(len(val) + total, len(files))
    leaks = search(files, {"val": np.arange(len(val) + total), "fit": fit}, folder)
    table(leaks, files, len(val), sources + len(val) + total, known, given.copies)


def table(
    leaks: tuple[Leak, ...], files: list[str], start: int, sources: np.ndarray, known: set[frozenset[str]], each: int
) -> None:
    """Print recall and precision, kind by kind and of all, and what was reported of the data's own images."""
    names = [Path(file).name for file in files]
    sets = {name for pair in known for name in pair}
    print(f"{'kind':14}{'copies':>8}{'found':>8}{'recall':>8}{'pairs':>8}{'true':>8}{'precision':>11}   reported as")
    sums = np.zeros(4, int)
    for at, kind in enumerate(KINDS):
        mine = range(at * each, (at + 1) * each)
        mine = [k for k in mine if names[sources[k]] not in sets]
        truth = {start + k: int(sources[k]) for k in mine}
        own = [leak for leak in leaks if leak.first in truth]
        true = [leak for leak in own if names[leak.second] == names[truth[leak.first]]]
        found = len({leak.first for leak in true})
        kinds = {kind: sum(leak.kind == kind for leak in true) for kind in dict.fromkeys(leak.kind for leak in true)}
        line(kind, len(mine), found, len(own), len(true), kinds)
        sums += (len(mine), found, len(own), len(true))
        for leak in own:
            if leak not in true:
                copied, other = names[truth[leak.first]], names[leak.second]
                print(f"  false: copy of {copied} = {other}, {leak.kind}, {leak.similarity}")
        for k in sorted(set(truth) - {leak.first for leak in true}):
            print(f"  missed: {names[truth[k]]}")
    line("all", *sums.tolist(), {})
    rest = [leak for leak in leaks if leak.first < start]
    news = [leak for leak in rest if frozenset((names[leak.first], names[leak.second])) not in known]
    print(f"of the data's own images: {len(rest)} pairs, {len(rest) - len(news)} of them known")
    true, told = sums[3] + len(rest) - len(news), sums[2] + len(rest)
    print(f"precision of all pairs, of copies and of the data's own images: {true / max(told, 1):.1%}")
    for leak in news:
        print(f"  unknown: {names[leak.first]} = {names[leak.second]}, {leak.kind}, {leak.similarity}")


def line(kind: str, copies: int, found: int, pairs: int, true: int, kinds: dict[str, int]) -> None:
    """Print one line of the table."""
    told = ", ".join(f"{n} {name}" for name, n in kinds.items())
    recall, precision = found / max(copies, 1), true / max(pairs, 1)
    print(f"{kind:14}{copies:8}{found:8}{recall:8.1%}{pairs:8}{true:8}{precision:11.1%}   {told}")


def tiles(train: list[str], val: list[str], folder: Path, given: argparse.Namespace) -> None:
    """Cut windows out of all images, and out of some training images two that overlap."""
    draw, side = np.random.default_rng(given.seed), given.tiles
    number = 0

    def cut(image: Image.Image, x: int, y: int) -> str:
        nonlocal number
        number += 1
        image.crop((x, y, x + side, y + side)).save(folder / f"tile_{number:05}.png")
        return str(folder / f"tile_{number:05}.png")

    opened = [Image.open(file).convert("RGB") for file in (*train, *val)]
    room = [(image.width - side, image.height - side) for image in opened]
    if min(min(r) for r in room) < side / 2:
        sys.exit(f"--tiles {side}: expected two thirds of the smallest image's side or less")
    first, second, shares = [], [], []
    for source in draw.permutation(len(train))[: given.copies].tolist():
        while True:
            x, y, u, v = (int(draw.integers(0, r + 1)) for r in (*room[source], *room[source]))
            share = (side - abs(x - u)) * (side - abs(y - v)) / side**2
            if 0.5 <= share <= 0.8:
                break
        shares.append(share)
        first.append(cut(opened[source], x, y))
        second.append(cut(opened[source], u, v))
    twins = set(range(len(first)))
    rest = [cut(image, int(draw.integers(0, r[0] + 1)), int(draw.integers(0, r[1] + 1)))
            for image, r in zip(opened[len(train) :], room[len(train) :], strict=True)]  # fmt: skip
    files = first + rest + second
    half = len(first) + len(rest)
    leaks = search(files, {"val": np.arange(half), "fit": np.arange(half, len(files))}, folder)
    true = [leak for leak in leaks if leak.first in twins and leak.second == half + leak.first]
    kinds = {kind: sum(x.kind == kind for x in true) for kind in dict.fromkeys(x.kind for x in true)}
    line("overlapping", len(first), len(true), len(leaks), len(true), kinds)
    missed = sorted(twins - {leak.first for leak in true})
    print("missed:", ", ".join(f"{files[k][-9:-4]} ({shares[k]:.2f})" for k in missed))


if __name__ == "__main__":
    guarded(main)
