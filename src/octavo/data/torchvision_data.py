"""torchvision's own data sets by name: exported once to PNG files and a CSV in the cache, then read like any folder."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from octavo.cache import locked, open_cache
from octavo.data import folder_sums, pairs, readers
from octavo.data.pairs import Pairs
from octavo.data.samples import Samples
from octavo.errors import Damaged, UserError, lookup, suggest
from octavo.integrity import check, sha256_of
from octavo.log import warn
from octavo.progress import Progress, silent

PREFIX = "torchvision:"


@dataclass(frozen=True)
class Part:
    """The arguments that pick one part of a torchvision data set."""

    split: str
    arguments: Mapping[str, Any]


def _flagged() -> tuple[Part, ...]:
    return Part("train", {"train": True}), Part("val", {"train": False})


def _split(val: str, *, test: str | None = None, train: str = "train") -> tuple[Part, ...]:
    parts = [Part("train", {"split": train}), Part("val", {"split": val})]
    return (*parts, Part("test", {"split": test})) if test else tuple(parts)


DATASETS: dict[str, tuple[Part, ...]] = {
    "CIFAR10": _flagged(), "CIFAR100": _flagged(), "MNIST": _flagged(), "FashionMNIST": _flagged(),
    "KMNIST": _flagged(), "USPS": _flagged(),
    "SVHN": _split("test"), "STL10": _split("test"), "GTSRB": _split("test"), "Food101": _split("test"),
    "OxfordIIITPet": _split("test", train="trainval"), "Imagenette": _split("val"),
    "Flowers102": _split("val", test="test"), "DTD": _split("val", test="test"),
    "FGVCAircraft": _split("val", test="test"), "Country211": _split("valid", test="test"),
    "RenderedSST2": _split("val", test="test"), "PCAM": _split("val", test="test"),
    "EuroSAT": (Part("train", {}),), "Caltech101": (Part("train", {}),),
}  # fmt: skip
"""Data sets by torchvision's name, with their parts. Where torchvision has only a test part, that is "val" here."""
PAIR_DATASETS = ("VOCSegmentation",)
"""Data sets of images and masks by torchvision's name: PASCAL VOC 2012."""


def read(
    data: str | Path, layout: str | None = None, columns: str | None = None, *, strict: bool = True,
    cache: Path | None = None, progress: Progress = silent,
) -> Samples:  # fmt: skip
    """Read whatever a user may name as data: a folder, a CSV file (see `readers.read`), or `torchvision:NAME`.

    A torchvision data set is downloaded where it isn't on disk, and exported to the cache folder, once.

    Raises:
        UserError: as `readers.read`, and when the data set is unknown or can't be had.
    """
    if not str(data).startswith(PREFIX):
        return readers.read(data, layout, columns, strict=strict)
    name = _known(data, layout, DATASETS, PAIR_DATASETS, "images and masks, for a segmenter")
    folder = export(name, open_cache(cache), progress)
    return replace(readers.read(folder, "csv", strict=strict), root=str(data), layout="torchvision")


def read_pairs(
    data: str | Path, layout: str | None = None, columns: str | None = None, *, strict: bool = True,
    cache: Path | None = None, progress: Progress = silent,
) -> Pairs:  # fmt: skip
    """Read images and masks: a folder, a CSV file (see `pairs.read_pairs`), or `torchvision:VOCSegmentation`.

    Raises:
        UserError: as `pairs.read_pairs`, and when the data set is unknown or can't be had.
    """
    if not str(data).startswith(PREFIX):
        return pairs.read_pairs(data, layout, columns, strict=strict)
    name = _known(data, layout, PAIR_DATASETS, DATASETS, "images and their classes, for a classifier")
    folder = _unpack_voc(name, open_cache(cache), progress)
    return replace(pairs.read_pairs(folder, "voc", strict=strict), root=str(data), layout="torchvision")


def holds_masks(data: str | Path, layout: str | None = None, columns: str | None = None) -> bool:
    """Return whether `data` is images with masks, and not images in classes; what can't be told counts as classes."""
    if str(data).startswith(PREFIX):
        return str(data).removeprefix(PREFIX).lower() in {name.lower() for name in PAIR_DATASETS}
    if columns:
        return "mask" in [part.partition("=")[0] for part in columns.split(",")]
    if layout and layout != "csv":
        return layout in pairs.PAIR_READERS
    if not Path(data).exists():
        return False
    readers = pairs.PAIR_READERS if layout is None else {layout: pairs.PAIR_READERS[layout]}
    return any(reader.matches(Path(data)) for reader in readers.values())


def _known(data: str | Path, layout: str | None, names: Iterable[str], others: Iterable[str], what: str) -> str:
    """Return torchvision's own spelling of a data set's name; `others` are data sets of `what` instead."""
    if layout not in (None, "torchvision"):
        raise UserError(f'layout: {data} is a torchvision data set; leave layout "{layout}" away')
    given = str(data).removeprefix(PREFIX)
    if given.lower() in {other.lower() for other in others}:
        raise UserError(f"{data}: holds {what}{suggest('', names)}")
    name = {known.lower(): known for known in names}.get(given.lower(), given)
    return lookup({known: known for known in names}, name, "torchvision")


def _unpack_voc(name: str, cache: Path, progress: Progress) -> Path:
    """Return `cache`/datasets/NAME, which holds torchvision's own folder VOC2012; it appears whole or not at all."""
    folder = cache / "datasets" / name
    if folder.is_dir() and (folder_sums.noted_in(folder) or _adopted(folder)):
        folder_sums.require(folder, f"delete {folder}, and it is unpacked again")
        return folder
    with locked(cache, f"datasets-{name}"):
        if not folder.is_dir():
            raw = cache / "datasets" / f"{name}.raw"
            unpacked = raw / "VOCdevkit"
            if any(raw.glob("*.tar")):  # unpacked anew: a killed process may have left half of it
                shutil.rmtree(unpacked, ignore_errors=True)
            progress(f"get {name}", 0, 1)
            _load(name, Part("train", {"image_set": "train", "download": not unpacked.is_dir()}), cache)
            progress(f"get {name}", 1, 1)
            folder_sums.note(unpacked, folder_sums.sums_of(unpacked), {}, name)
            unpacked.rename(folder)
    return folder


def _adopted(folder: Path) -> bool:
    """Note the checksums of a folder that was made before there were any, and tell the user; return True."""
    warn(f"{folder}: was made by an earlier version of Octavo, without checksums; they are added now")
    folder_sums.note(folder, folder_sums.sums_of(folder), {}, folder.name)
    return True


def _whole(folder: Path, tell: Callable[[str], None] | None = None) -> bool:
    """Tell whether an exported data set is there and what was written; `tell` is told why a damaged one isn't."""
    if not folder.is_dir():
        return False
    try:
        if folder_sums.noted_in(folder) or _adopted(folder):
            folder_sums.require(folder, "it is exported again")
    except Damaged as error:
        if tell:
            tell(str(error))
        return False
    return True


def _require_raw(folder: Path, raw: Path) -> None:
    """Refuse to export again from files of torchvision's that have changed since the first time.

    Raises:
        Damaged: one isn't what it was.
    """
    try:
        _, made_from, _ = folder_sums.noted(folder, "")
    except Damaged:  # nothing says what they were
        return
    there = {name: digest for name, digest in made_from.items() if (raw / name).is_file()}
    for name, digest in there.items():
        check(raw / name, sha256_of(raw / name), digest, "delete it, and torchvision downloads it again")


def export(name: str, cache: Path, progress: Progress = silent) -> Path:
    """Write a torchvision data set to `cache`/datasets/NAME: PNG files and labels.csv; return that folder.

    torchvision's own files are downloaded to, or found in, `cache`/datasets/NAME.raw. The folder appears whole or not
    at all.

    Raises:
        UserError: when the data set can't be had.
    """
    folder, raw = cache / "datasets" / name, cache / "datasets" / f"{name}.raw"
    if _whole(folder):
        return folder
    with locked(cache, f"datasets-{name}"):
        if not _whole(folder, warn):
            _require_raw(folder, raw)
            parts = [(part.split, _load(name, part, cache)) for part in DATASETS[name]]
            temporary = folder.with_name(f"{name}.tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                _write(temporary, parts, progress)
                folder_sums.note(temporary, folder_sums.sums_of(temporary), folder_sums.sums_of(raw), name)
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _load(name: str, part: Part, cache: Path) -> Any:
    from torchvision import datasets  # takes seconds, and most runs bring their own folder

    raw = cache / "datasets" / f"{name}.raw"
    raw.mkdir(parents=True, exist_ok=True)
    make = getattr(datasets, name)
    try:
        return make(**{"root": str(raw), "download": True, **part.arguments})
    except Exception as error:  # each data set fails in its own way: network, checksum, archive, missing package
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{PREFIX}{name}: can't be downloaded or read ({reason}); put torchvision's own files for {name} into "
            f"{raw}, or give a folder of images instead"
        ) from error


def _write(folder: Path, parts: list[tuple[str, Any]], progress: Progress) -> None:
    total = sum(len(data) for _, data in parts)
    rows: list[tuple[str, str, str]] = []
    for split, data in parts:
        (folder / split).mkdir(parents=True)
        width = len(str(len(data) - 1))
        for index, (image, label) in enumerate(_items(data)):
            file = f"{split}/{index:0{width}d}.png"
            image.save(folder / file)
            rows.append((file, label, split))
            progress(f"export {folder.stem}", len(rows), total)
    head = ("image", "label", "split") if len(parts) > 1 else ("image", "label")
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(row[: len(head)] for row in rows)


def _items(data: Any) -> Iterator[tuple[Image.Image, str]]:
    names = getattr(data, "classes", None) or getattr(data, "categories", None)
    for index in range(len(data)):
        image, label = data[index]
        name = names[int(label)] if names else str(int(label))
        yield image, name[0] if isinstance(name, tuple) else str(name)  # Imagenette has tuples of synonyms
