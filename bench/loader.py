"""Images per CPU-second from JPEG files to batches that a network takes: Octavo's store against torchvision and timm.

    python bench/loader.py FOLDER [--size 224] [--epochs 3] [--batch 64] [--rule crop]     # pip install octavo[bench]

FOLDER has class folders of JPEG files (or --make COUNT writes such a folder first: pictures of --from, resized to
500×375 and saved with quality 90). Rules, the same distributions on all sides:

    crop        random resized crop (35–100 % of the area) and mirroring; normalised
    reference   stretched to a square; mirroring, rotation by up to 15°, perspective .2 in half of the images,
                brightness, contrast and saturation 0.5–1.5 in random order; normalised (timm has no perspective,
                so it isn't in this)

Octavo keeps decoded pixels (the shorter side 256 px) in the first epoch; torchvision (ImageFolder, transforms v2,
DataLoader) and timm (create_loader) decode in every epoch, each in --workers processes (two, as is usual) and in none,
which takes less CPU time. Each side is a process. CPU time is that of the process and its children, batches are float32
on the CPU.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sides import cpu_seconds, guarded, machine
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from octavo.data import readers
from octavo.data.batches import Batches, PixelRows, Steps, loader
from octavo.data.inputs import Inputs
from octavo.data.store import ImageDecoder, build
from octavo.errors import UserError
from octavo.recipe import Augment

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = (".png", ".jpg", ".jpeg")
AREA, JITTER = (0.35, 1.0), (0.5, 1.5)
RULES = {
    "crop": Augment(crop=AREA, hflip=0.5),
    "reference": Augment(
        hflip=0.5,
        rotation=15,
        perspective=0.2,
        perspective_p=0.5,
        brightness=JITTER,
        contrast=JITTER,
        saturation=JITTER,
    ),
}
Epoch = Callable[[], Iterator[Tensor]]


def main() -> None:
    """Run the sides and print images per CPU-second of the first epoch and of the median of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rule", choices=RULES, default="crop")
    parser.add_argument("--make", type=int, default=0, metavar="COUNT")
    parser.add_argument("--from", type=Path, dest="source")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.epochs < 2:
        parser.error("--epochs: expected 2 or more; in the first one there is decoding")
    if given.side:
        measure(given)
        return
    if given.make and not given.source:
        parser.error("--make: expected --from, a folder of pictures")
    count = given.make or sum(path.suffix.lower() in SUFFIXES for path in given.folder.glob("*/*"))
    if count < given.batch:
        parser.error(f"{given.folder}: {count} pictures in class folders, expected a batch of {given.batch} or more")
    if given.make:
        make(given.source, given.folder, given.make)
    print(machine("timm", "pillow"))
    peers = ["torchvision", "timm"] if given.rule == "crop" else ["torchvision"]
    sides = {"octavo": ("octavo", 0)}
    sides |= {f"{name}, {w} processes": (name, w) for w in dict.fromkeys((given.workers, 0)) for name in peers}
    names, found = list(sides), {}
    for name, (side, workers) in sides.items():
        words = [*sys.argv[1:], "--make", "0", "--side", side, "--workers", str(workers)]
        _, _, out = cpu_seconds([sys.executable, __file__, *words])
        found[name] = [float(word) for word in out.split()]
        first, rest = found[name][0], float(np.median(found[name][1:]))
        print(f"{name:24} first epoch {first:7.1f}   later {rest:7.1f} images per CPU-second", flush=True)
    mine = found["octavo"]
    for name in names[1:]:
        first, rest = mine[0] / found[name][0], np.median(mine[1:]) / np.median(found[name][1:])
        print(f"octavo / {name:24} first epoch × {first:.2f}   later × {rest:.2f}")


def make(source: Path, folder: Path, count: int) -> None:
    """Write `count` JPEG files of 500×375 px in two class folders, of the pictures found below `source`."""
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"--from {source}: no PNG or JPEG file below it")
    for index in range(count):
        place = folder / f"class{index % 2}" / f"{index:05d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(paths[index % len(paths)]) as image:
            image.convert("RGB").resize((500, 375), Image.Resampling.LANCZOS).save(place, quality=90)


def measure(given: argparse.Namespace) -> None:
    """Be the process of one side: print images per CPU-second of each epoch."""
    count, epoch = SIDES[given.side](given)
    for _ in range(given.epochs):
        start, seen = spent(), 0
        for images in epoch():
            assert images.dtype == torch.float32 and images.shape[1:] == (3, given.size, given.size)
            seen += len(images)
        assert seen == count, f"{seen} of {count}"
        print(count / (spent() - start), flush=True)


def spent() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in times)


def of_octavo(given: argparse.Namespace) -> tuple[int, Epoch]:
    """Return Octavo's epochs: the first one decodes into a store."""
    samples, cache = readers.read(given.folder), tempfile.TemporaryDirectory()
    inputs = Inputs(given.size, "stretch", MEAN, STD, RULES[given.rule], 0, len(samples.classes))
    epochs = iter(range(given.epochs))

    def epoch() -> Iterator[Tensor]:
        pixels = build(samples, ImageDecoder(256), Path(cache.name))
        labels = np.zeros(len(pixels), np.int64)
        number = next(epochs)
        batches = Batches(PixelRows(pixels), np.arange(len(pixels)), labels, given.batch, seed=0)
        for batch in loader(batches, Steps(len(batches), number, 0, epoch=number)):
            yield inputs.training(batch)[0]

    return len(samples.files), epoch


def of_torchvision(given: argparse.Namespace) -> tuple[int, Epoch]:
    """Return epochs of ImageFolder with transforms v2."""
    own = RULES[given.rule]
    if given.rule == "crop":
        changes = [v2.RandomResizedCrop(given.size, scale=AREA, antialias=True), v2.RandomHorizontalFlip()]
    else:
        changes = [
            v2.Resize((given.size, given.size)),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(own.rotation, interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomPerspective(own.perspective, own.perspective_p),
            v2.ColorJitter(JITTER, JITTER, JITTER),
        ]
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    data = ImageFolder(str(given.folder), v2.Compose([*changes, *last]))
    batches = DataLoader(data, given.batch, shuffle=True, num_workers=given.workers)
    return len(data), lambda: (images for images, _ in batches)


def of_timm(given: argparse.Namespace) -> tuple[int, Epoch]:
    """Return epochs of timm's loader."""
    from timm.data.dataset import ImageDataset
    from timm.data.loader import create_loader

    data = ImageDataset(str(given.folder))
    batches = create_loader(
        data,
        (3, given.size, given.size),
        given.batch,
        is_training=True,
        use_prefetcher=False,
        scale=AREA,
        hflip=0.5,
        color_jitter=0.0,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=given.workers,
        persistent_workers=False,
        device=torch.device("cpu"),
    )
    return len(data) // given.batch * given.batch, lambda: (images for images, _ in batches)


SIDES: dict[str, Callable[[argparse.Namespace], tuple[int, Epoch]]] = {
    "octavo": of_octavo,
    "torchvision": of_torchvision,
    "timm": of_timm,
}


if __name__ == "__main__":
    guarded(main)
