"""PASCAL VOC's folders of images and masks, with the lists that say which image is in which split."""

from __future__ import annotations

from pathlib import Path

from octavo.data.matching import Pair, PairsFound, without_mask
from octavo.data.samples import SPLITS, Problem
from octavo.data.walk import folders_in, images_in, natural
from octavo.errors import UserError

_LISTS = "ImageSets/Segmentation"


def devkits(root: Path) -> list[Path]:
    """Return the folders of a year's data in `root`: it itself, `VOC2012` in it, or `VOCdevkit/VOC2012`."""
    parents = [root, *(f for f in folders_in(root) if f.name.lower() == "vocdevkit")]
    below = [f for parent in parents for f in folders_in(parent) if f.name.lower().startswith("voc")]
    return [f for f in (root, *below) if (f / "SegmentationClass").is_dir() and (f / _LISTS).is_dir()]


def read_voc(root: Path) -> PairsFound:
    """Read the images that the lists of a year's data name.

    Raises:
        UserError: more than one year, or no list of training images.
    """
    if len(kits := devkits(root)) > 1:
        raise UserError(f"{root}: more than one year: {', '.join(k.name for k in kits)}; name the folder of one")
    kit = kits[0]
    images, masks = ({Path(n).stem: f"{half}/{n}" for n in images_in(kit / half)} if (kit / half).is_dir() else {}
                     for half in ("JPEGImages", "SegmentationClass"))  # fmt: skip
    split_by, problems = _voc_lists(kit)
    if missing := [name for name in split_by if name not in images]:
        problems.append(Problem(f"{kit}: {len(missing)} of {len(split_by)} listed images are not in JPEGImages: "
                                f"{', '.join(missing[:5])}; unpack the archive again, or mend {_LISTS}",
                                fatal=True))  # fmt: skip
    found = PairsFound([], problems, kit)
    for split in SPLITS:
        listed = [name for name, own in split_by.items() if own == split and name in images]
        found.pairs.extend(Pair(images[name], masks[name], split) for name in listed if name in masks)
        if lone := sorted((images[name] for name in listed if name not in masks), key=natural):
            found.lone_images.extend(lone)
            found.problems.append(without_mask(kit, split, lone, len(listed)))
    return found


def _voc_lists(kit: Path) -> tuple[dict[str, str], list[Problem]]:
    """Return name -> split from ImageSets/Segmentation; without `train.txt`, the rest of `trainval.txt` is train."""
    folder = kit / _LISTS
    listed = {split: _names(folder / f"{split}.txt") for split in SPLITS if (folder / f"{split}.txt").is_file()}
    if "train" not in listed:
        if not (folder / "trainval.txt").is_file():
            raise UserError(f"{folder}: neither train.txt nor trainval.txt; expected a list of image names there")
        known = {name for names in listed.values() for name in names}
        listed["train"] = [name for name in _names(folder / "trainval.txt") if name not in known]
    split_by: dict[str, str] = {}
    problems = []
    for split, names in listed.items():
        if twice := [name for name in names if split_by.get(name, split) != split]:
            problems.append(Problem(f"{folder / split}.txt: {len(twice)} names are in {split_by[twice[0]]}.txt too "
                                    f"(first: {twice[0]}); list each in one", fatal=True))  # fmt: skip
        split_by |= {name: split for name in names if name not in split_by}
    return split_by, problems


def _names(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]
