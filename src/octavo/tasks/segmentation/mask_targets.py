"""Which mask becomes of which image: known, and refused where it would do harm, before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.data import geo
from octavo.data.matching import masks_beside
from octavo.data.png import PNG
from octavo.data.tiff import georeferenced
from octavo.data.walk import list_images
from octavo.errors import UserError
from octavo.overwrite import UNREADABLE, is_image, require_makeable, require_writable


@dataclass(frozen=True)
class Target:
    """What becomes of one image: where it lies, how it is called, and the files that are made of it."""

    image: Path
    name: str
    mask: Path
    overlay: Path | None
    geo: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """What is made of it."""
        return (self.mask, self.overlay) if self.overlay else (self.mask,)


ERRORS = "errors.csv"
"""The list of images that could not be read, in the folder of masks."""


def plan(
    images: Sequence[str | Path],
    out: Path,
    overlay: bool = False,
    *,
    overwrite: bool = False,
    data: Path | None = None,
) -> list[Target]:
    """Return what would be written of which image, before anything is.

    In folders, masks that lie beside their images by name (`0000_mask.png` beside `0000_sat.jpg`) are left out.

    Args:
        images: files and folders.
        out: folder to write to.
        overlay: whether there are overlays too.
        overwrite: whether files that no prediction wrote may be replaced.
        data: folder of the images that the run was trained on.

    Raises:
        UserError: no images; two that would become one file; something that would be overwritten; a georeference that
            would be lost for want of rasterio.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; expected the folder that masks are written to")
    require_writable(out / ERRORS, UNREADABLE, overwrite=overwrite)
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
        if root in inside and earlier in _real(image).parents:
            continue  # masks of an earlier prediction
        name = image.relative_to(root or image.parent)
        lies = georeferenced(image)
        mask = out / name.with_suffix(".tif" if lies else ".png")
        targets.append(Target(image, name.as_posix(), mask, mask.with_name(f"{name.stem}_overlay.png") if overlay else
                              None, lies))  # fmt: skip
    _check(targets, out)
    _require_places(targets, overwrite, data)
    return targets


def _require_places(targets: Sequence[Target], overwrite: bool, data: Path | None) -> None:
    """Refuse masks among images, or over anything but earlier masks."""
    sources = {folder.resolve() for folder in {target.image.parent for target in targets}}
    written = {file for target in targets for file in target.files}
    for folder in {file.parent for file in written}:
        require_makeable(folder.resolve() / "mask", f"--out {folder}")
        if folder.resolve() in sources:
            raise UserError(
                f"--out {folder}: holds images that are predicted, and masks among them would be taken for images; "
                "choose another folder"
            )
        if not overwrite and (other := _foreign_image(folder, written)):
            raise UserError(
                f"--out {folder}: holds images that are no masks of ours ({other.name}), and masks among them would be "
                "taken for images; choose another folder, or --overwrite writes there"
            )
    for target in targets:
        for file in target.files:
            if file.is_symlink() or file.exists():
                kind = geo.GEOTIFF if target.geo and file == target.mask else PNG
                require_writable(file, kind, overwrite=overwrite, data=[data] if data else [])


def _foreign_image(folder: Path, written: Collection[Path]) -> Path | None:
    """Return an image in a folder that no prediction wrote, of those that this one doesn't replace."""
    files = sorted(file for file in folder.iterdir() if file not in written) if folder.is_dir() else []
    images = (file for file in files if file.is_file() and is_image(file))
    return next((file for file in images if not PNG.wrote(file) and not geo.GEOTIFF.wrote(file)), None)


def _real(image: Path) -> Path:
    """Return where an image lies; a link in a circle, which can't be read, lies where it is."""
    try:
        return image.resolve()
    except (OSError, RuntimeError):
        return image.absolute()


def _masks_beside(images: Sequence[Path]) -> set[Path]:
    folders: dict[Path, list[str]] = {}
    for image in images:
        folders.setdefault(image.parent, []).append(image.name)
    return {folder / name for folder, names in folders.items() for name in masks_beside(names)}


def _check(targets: Sequence[Target], out: Path) -> None:
    if not targets:
        raise UserError(f"{out}: no images but those in it; name the folder of the images, or another --out")
    inputs = {_real(target.image) for target in targets}
    owner: dict[Path, Path] = {}
    for target in targets:
        if target.geo and not geo.installed():
            raise UserError(
                f"{target.image}: its georeference would be lost; install rasterio by `pip install octavo[geo]`, "
                "or give the image as PNG if that is meant"
            )
        for file in target.files:
            if file in owner:
                raise UserError(
                    f"{owner[file]} and {target.image} would both become {file}; rename one, or predict them into "
                    "different folders"
                )
            if file.resolve() in inputs:
                raise UserError(f"{file}: an image would be overwritten by a mask; choose another --out")
            owner[file] = target.image
