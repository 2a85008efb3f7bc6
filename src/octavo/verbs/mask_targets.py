"""Which mask becomes of which image: known, and refused where it would do harm, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.data import geo
from octavo.data.matching import masks_beside
from octavo.data.walk import list_images
from octavo.errors import UserError


@dataclass(frozen=True)
class Target:
    """What becomes of one image: where it lies, how it is called, and the files that are made of it."""

    image: Path
    name: str
    mask: Path
    overlay: Path | None
    geo: bool


def plan(images: Sequence[str | Path], out: Path, overlay: bool = False) -> list[Target]:
    """Return what would be written of which image, before anything is.

    In folders, masks that lie beside their images by name (`0000_mask.png` beside `0000_sat.jpg`) are left out.

    Raises:
        UserError: no images; two that would become one file; one that would be overwritten; a georeference that would
            be lost for want of rasterio.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; --out names the folder that masks are written to")
    roots = [path for path in map(Path, images) if path.is_dir()]
    earlier = out.resolve()
    inside = {root for root in roots if root.resolve() in earlier.parents}
    targets = []
    found = list_images(images)
    beside = _masks_beside(found)
    for image in found:
        root = next((folder for folder in reversed(image.parents) if folder in roots), None)
        if root and image in beside:
            continue  # the truth of an image that is predicted
        if root in inside and earlier in image.resolve().parents:
            continue  # masks of an earlier prediction
        name = image.relative_to(root or image.parent)
        lies = geo.georeferenced(image)
        mask = out / name.with_suffix(".tif" if lies else ".png")
        targets.append(Target(image, name.as_posix(), mask, mask.with_name(f"{name.stem}_overlay.png") if overlay else
                              None, lies))  # fmt: skip
    _check(targets, out)
    return targets


def _masks_beside(images: Sequence[Path]) -> set[Path]:
    folders: dict[Path, list[str]] = {}
    for image in images:
        folders.setdefault(image.parent, []).append(image.name)
    return {folder / name for folder, names in folders.items() for name in masks_beside(names)}


def _check(targets: Sequence[Target], out: Path) -> None:
    if not targets:
        raise UserError(f"{out}: no images but those in it; name the folder of the images, or another --out")
    inputs = {target.image.resolve() for target in targets}
    owner: dict[Path, Path] = {}
    for target in targets:
        if target.geo and not geo.installed():
            raise UserError(
                f"{target.image}: its georeference would be lost; install rasterio by `pip install octavo[geo]`, "
                "or give the image as PNG if that is meant"
            )
        for file in filter(None, (target.mask, target.overlay)):
            if file in owner:
                raise UserError(
                    f"{owner[file]} and {target.image} would both become {file}; rename one, or predict them into "
                    "different folders"
                )
            if file.resolve() in inputs:
                raise UserError(f"{file}: an image would be overwritten by a mask; choose another --out")
            owner[file] = target.image
