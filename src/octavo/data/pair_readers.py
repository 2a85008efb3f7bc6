"""Layouts of images and masks: which file is whose mask, and in which split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from octavo.data.choosing import TABLE, Task, chosen_table
from octavo.data.label_tables import MASKS, ImageTable, holds_table
from octavo.data.layouts import Reader, beside, empty, one_each, others, split_folders, split_of
from octavo.data.matching import APART, TOGETHER, Group, Pair, PairsFound, is_tailed, overlap, partners
from octavo.data.samples import CANONICAL, SPLITS, Problem
from octavo.data.table_rows import left_out, rows_of_table
from octavo.data.voc import devkits, read_voc
from octavo.data.walk import any_image, folders_in, images_in, walk
from octavo.errors import UserError

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "rgb", "photos", "photo", "inputs", "input", "sat",
                 "satellite", "frames")  # fmt: skip
"""What a folder of images may be called, in any case; spaces, `_` and `-` don't count."""
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "gt", "gts",
                "groundtruth", "seg", "segs", "segmentation", "segmentations", "segmentationclass", "targets",
                "target", "lbl")  # fmt: skip
"""What a folder of masks may be called, likewise."""
CITYSCAPES = {"cityscapes": "labelIds", "cityscapes-trainids": "labelTrainIds", "cityscapes-color": "color"}
"""Layout -> the kind of Cityscapes' masks that it reads: each image has several."""

PairReader = Reader[PairsFound]


def _plain(name: str) -> str:
    return re.sub(r"[ _-]", "", name).lower()


def _files(root: Path, folder: Path) -> dict[str, str]:
    """Return the images in and below `folder`: path relative to it -> path relative to `root`."""
    above = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    return {name: above + name for name in walk(folder)}


# ── Both in one folder, told apart by the last word of their names ───────────────────────────────────────────────────


def _group(root: Path, folder: Path, split: str | None) -> Group:
    files = _files(root, folder)
    masks = {name: file for name, file in files.items() if is_tailed(name)}
    return Group(split, {name: file for name, file in files.items() if name not in masks}, masks)


def _mixed(folder: Path) -> bool:
    return overlap(_group(folder, folder, None), TOGETHER)


def _matches_course(root: Path) -> bool:
    return root.is_dir() and _mixed(root)


def _read_course(root: Path) -> PairsFound:
    if not any(_mixed(f) for folders in split_folders(root).values() for f in folders):
        return partners(root, [_group(root, root, None)], TOGETHER)
    folders = one_each(root)
    problems = [*beside(root, others(root)), *(p for split, f in folders.items() for p in empty(f, split))]
    return partners(root, [_group(root, folder, split) for split, folder in folders.items()], TOGETHER, problems)


# ── A folder of images beside a folder of masks ──────────────────────────────────────────────────────────────────────


def halves(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders in `root` that are called, and hold, images or masks."""
    folders = [f for f in folders_in(root) if any_image(f)]
    images, masks = ([f for f in folders if _plain(f.name) in words] for words in (IMAGE_FOLDERS, MASK_FOLDERS))
    return images, masks


def _two(root: Path) -> tuple[Path, Path]:
    """Return the folder of images and the folder of masks in `root`.

    Raises:
        UserError: when there is more than one of a kind, or none.
    """
    chosen = []
    for what, folders in zip(("images", "masks"), halves(root), strict=True):
        if len(folders) > 1:
            names = ", ".join(f'"{f.name}"' for f in folders)
            raise UserError(f"{root}: more than one folder of {what}: {names}; keep one, move the others elsewhere")
        if not folders:
            raise UserError(f'{root}: no folder of {what} here; expected "{what}"')
        chosen.append(_inner(folders[0]))
    return chosen[0], chosen[1]


def _inner(folder: Path) -> Path:
    """Go down where all images lie in one folder below, as in Oxford's `annotations/trimaps`."""
    full = [f for f in folders_in(folder) if any_image(f)]
    if len(full) == 1 and not images_in(folder) and not split_of(full[0].name):
        return _inner(full[0])
    return folder


def _split_halves(root: Path) -> list[Path]:
    return [f for folders in split_folders(root).values() for f in folders if all(halves(f))]


def _matches_halves(root: Path) -> bool:
    return root.is_dir() and (all(halves(root)) or bool(_split_halves(root)))


def _read_halves(root: Path) -> PairsFound:
    if all(halves(root)):
        if inside := _split_halves(root):
            raise UserError(f"{root}: images and masks lie here and in {inside[0].name}/ too; keep one of the two")
        images, masks = _two(root)
        if not any(any_image(f) for folders in split_folders(images).values() for f in folders):
            return partners(root, [Group(None, _files(root, images), _files(root, masks))], APART)
        return _read_splits_inside(root, images, masks)
    problems = beside(root, others(root))
    groups = []
    for split, folder in one_each(root).items():
        if split == "test" and not all(halves(folder)):
            problems.append(Problem(f"{folder}: no folders of images and masks; left out"))
            continue
        images, masks = _two(folder)
        groups.append(Group(split, _files(root, images), _files(root, masks)))
    return partners(root, groups, APART, problems)


def _read_splits_inside(root: Path, images: Path, masks: Path) -> PairsFound:
    """Read `images/train` with `masks/train`; where `masks` has no folders of splits, it is for all of them."""
    parts = one_each(images)
    answers = one_each(masks) if split_folders(masks) else dict.fromkeys(parts, masks)
    problems = [p for half in (images, masks) if split_folders(half) for p in beside(half, others(half))]
    groups = [
        Group(split, *(_files(root, half[split]) if split in half else {} for half in (parts, answers)))
        for split in {**parts, **answers}
    ]
    return partners(root, groups, APART, problems)


# ── A folder of images and a folder of masks for each split, side by side ────────────────────────────────────────────


def _sides(root: Path) -> dict[str, tuple[list[Path], list[Path]]]:
    """Return canonical split -> its folders of images and of masks, as `train` and `trainannot`."""
    sides: dict[str, tuple[list[Path], list[Path]]] = {split: ([], []) for split in SPLITS}
    for folder in folders_in(root):
        plain = _plain(folder.name)
        for word in sorted(CANONICAL, key=len, reverse=True):
            if plain.startswith(word):
                rest = plain.removeprefix(word)
                if (rest == "" or rest in IMAGE_FOLDERS or rest in MASK_FOLDERS) and any_image(folder):
                    sides[CANONICAL[word]][rest in MASK_FOLDERS].append(folder)
                break
    return {split: both for split, both in sides.items() if any(both)}


def _matches_camvid(root: Path) -> bool:
    return root.is_dir() and any(all(both) for both in _sides(root).values())


def _read_camvid(root: Path) -> PairsFound:
    sides = _sides(root)
    groups = []
    for split, both in sides.items():
        for what, folders in zip(("images", "masks"), both, strict=True):
            if len(folders) > 1:
                names = ", ".join(f'"{f.name}"' for f in folders)
                raise UserError(f"{root}: more than one folder of {split} {what}: {names}; keep one, move the others "
                                "elsewhere")  # fmt: skip
        groups.append(Group(split, *(_files(root, folders[0]) if folders else {} for folders in both)))
    if "train" not in sides:
        raise UserError(f"{root}: no train folder beside {', '.join(sides)}; expected train/ and trainannot/")
    known = {f for both in sides.values() for folders in both for f in folders}
    stray = [f for f in folders_in(root) if f not in known and any_image(f)]
    return partners(root, groups, APART, beside(root, stray))


# ── Cityscapes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _city_masks(folder: Path, kind: str) -> Iterable[str]:
    return (name for name in walk(folder) if name.lower().endswith(f"_gtfine_{kind.lower()}.png"))


def _matches_city(kind: str, root: Path) -> bool:
    both = (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()
    return both and next(iter(_city_masks(root / "gtFine", kind)), None) is not None


def _read_city(kind: str, root: Path) -> PairsFound:
    groups = []
    for split in SPLITS:
        images, masks = root / "leftImg8bit" / split, root / "gtFine" / split
        if images.is_dir() and any_image(images):
            answers = {n: f"gtFine/{split}/{n}" for n in _city_masks(masks, kind)} if masks.is_dir() else {}
            groups.append(Group(split, _files(root, images), answers))
    return partners(root, groups, APART)


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def from_table(table: ImageTable, root: Path) -> PairsFound:
    """Return the images and masks that a table names.

    Raises:
        UserError: a faulty line.
    """
    rows, file = rows_of_table(table), table.table.file
    if same := [image for image, cells in rows.items() if cells["mask"] == image]:
        raise UserError(f'{file}: "{same[0]}" is listed as its own mask; expected another file')
    pairs = [Pair(image, cells["mask"], cells.get("split"), cells.get("group", "")) for image, cells in rows.items()]
    used = [name for pair in pairs for name in (pair.image, pair.mask)]
    problems = left_out(table, used) if root.is_dir() else []
    return PairsFound(pairs, problems, table.names.folder, tables=(file,))


def _read_table(root: Path) -> PairsFound:
    return from_table(chosen_table(root, PAIR_TASK), root)


PAIR_READERS: dict[str, PairReader] = {
    "course": Reader("NNNN_sat.jpg with NNNN_mask.png, in train/ and validation/ or in one folder",
                     _matches_course, _read_course),
    "images-masks": Reader("images/ beside masks/, with train/ and val/ above or below, or without",
                           _matches_halves, _read_halves, yields_to=("voc",)),
    "camvid": Reader("train/ beside trainannot/, val/ beside valannot/", _matches_camvid, _read_camvid),
    "voc": Reader("JPEGImages, SegmentationClass and ImageSets/Segmentation/train.txt",
                  lambda p: bool(devkits(p)), read_voc),
    "cityscapes": Reader("leftImg8bit/ beside gtFine/ with …_labelIds.png",
                         partial(_matches_city, "labelIds"), partial(_read_city, "labelIds")),
    "cityscapes-trainids": Reader("leftImg8bit/ beside gtFine/ with …_labelTrainIds.png",
                                  partial(_matches_city, "labelTrainIds"), partial(_read_city, "labelTrainIds")),
    "cityscapes-color": Reader("leftImg8bit/ beside gtFine/ with …_color.png",
                               partial(_matches_city, "color"), partial(_read_city, "color"),
                               yields_to=("cityscapes", "cityscapes-trainids")),
    TABLE: Reader("a CSV file with the header image,mask or image,mask,split",
                  partial(holds_table, kind=MASKS), _read_table),
}  # fmt: skip
"""Layouts by name. A new one is a line here and two functions above."""
PAIR_TASK: Task[PairsFound] = Task(
    PAIR_READERS,
    MASKS,
    lambda found: {pair.image: pair.mask for pair in found.pairs},
    lambda root, layout, found: None,
    "images and masks",
    "image,mask or image,mask,split",
)
"""What the layouts and tables of images and masks are."""
