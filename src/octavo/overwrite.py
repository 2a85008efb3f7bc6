"""Overwriting: which files a command may write to or replace, decided before it computes anything."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import UserError

RUN_MARKS = ("manifest.json", "recipe.toml")
"""Files by which the folder of a run is known."""
RUN_FILES = (
    *RUN_MARKS,
    "samples.csv",
    "ensemble.json",
    "ensemble.trained.json",
    "metrics.json",
    "history.csv",
    "leaks.json",
    "cascade.json",
    "distil.json",
    "precision.json",
    "report.html",
    ".lock",
)
"""Files that training and what comes after it write into a run."""
RUN_FOLDERS = ("members", "predictions", "masks", "explained", "plots", "tensorboard")
"""Folders of a run; all that is in them is the run's."""
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_IMAGE_NAMES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif")


@dataclass(frozen=True)
class Kind:
    """A kind of file that a command writes.

    Attributes:
        what: such a file in words, after "is no".
        wrote: tells whether Octavo wrote such a file, from its content.
        image: whether it is one.
    """

    what: str
    wrote: Callable[[Path], bool]
    image: bool = False


def require_writable(
    out: Path,
    kind: Kind,
    *,
    overwrite: bool = False,
    option: str = "--out",
    inputs: Iterable[Path] = (),
    data: Iterable[Path] = (),
) -> Path:
    """Refuse to write a file where that would destroy something else, or can't work.

    What is there may be replaced if it is of the same kind and Octavo wrote it, or if it is empty. With `overwrite` any
    other file may be, but for images, files of a run, and what the command itself reads.

    Args:
        out: the file; of a link, what it leads to counts.
        kind: what would be written.
        overwrite: whether the user allows more than files of that kind to be replaced.
        option: what named the file, for the message.
        inputs: files that the command reads.
        data: folders of images; files in them are replaced only with `overwrite`, whatever they are.

    Returns:
        What to write: `out`, or what it leads to if it is a link.

    Raises:
        UserError: it may not be written.
    """
    where = f"{option} {out}"
    target = _target(out, where)
    if target.is_dir():
        raise UserError(f"{where}: is a folder; expected the name of a file")
    require_makeable(target, where)
    if not kind.image and out.suffix.lower() in _IMAGE_NAMES:
        raise UserError(f"{where}: ends as an image does, and would be {_a(kind.what)}; choose another name")
    place = target if out.is_symlink() else out
    if not target.exists():
        return place
    if not stat.S_ISREG(target.stat().st_mode):
        raise UserError(f"{where}: is a device, a pipe or a socket; expected the name of a file")
    if any(file.exists() and target.samefile(file) for file in inputs):
        raise UserError(f"{where}: is read by this command, and would be overwritten; choose another name")
    if not kind.image and is_image(target):
        raise UserError(f"{where}: is an image, and would be overwritten; choose another name")
    if overwrite or target.stat().st_size == 0:
        return place
    if not kind.wrote(target):
        raise UserError(
            f"{where}: is there already, and is no {kind.what}; choose another name, or --overwrite replaces it"
        )
    if any(target.is_relative_to(folder.resolve()) for folder in data if folder.is_dir()):
        raise UserError(
            f"{where}: lies among the data, so it may be no prediction but the truth; choose another name, or "
            "--overwrite replaces it"
        )
    return place


def require_makeable(target: Path, where: str) -> None:
    """Refuse a file or folder that the system wouldn't let us make, or that would be one of a run's own.

    Raises:
        UserError: `where`, what is wrong, and what to do.
    """
    above = next(folder for folder in target.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise UserError(f"{where}: {above} is a file, not a folder")
    if not os.access(above, os.W_OK):
        raise UserError(f"{where}: {above} can't be written; choose another place")
    if run := run_of(target):
        name = target.relative_to(run).parts[0]
        if name in RUN_FILES or name in RUN_FOLDERS:
            raise UserError(f"{where}: belongs to the run {run}; choose another name")


def run_of(target: Path) -> Path | None:
    """Return the folder of the run in which a path lies, if it lies in one."""
    return next((above for above in target.parents if all((above / mark).is_file() for mark in RUN_MARKS)), None)


def is_image(path: Path) -> bool:
    """Tell by its first bytes whether a file is an image, one that Octavo can't read too."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return start.startswith(_IMAGES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP") or start[4:8] == b"ftyp"


def table_of(what: str, columns: tuple[str, ...], more: Callable[[str], bool] = lambda column: False) -> Kind:
    """Return the kind of a CSV file that begins with a header of these columns, and then of some for which `more`."""

    def wrote(path: Path) -> bool:
        try:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                header = next(csv.reader(file), [])
        except (OSError, csv.Error):
            return False
        return tuple(header[: len(columns)]) == columns and all(map(more, header[len(columns) :]))

    return Kind(f"{what} (a CSV file with the columns {','.join(columns)})", wrote)


def parsed_by(what: str, parse: Callable[[str], object]) -> Kind:
    """Return the kind of a text file that `parse` takes without a UserError."""

    def wrote(path: Path) -> bool:
        try:
            parse(path.read_text(encoding="utf-8"))
        except (UserError, OSError, ValueError, RecursionError):
            return False
        return True

    return Kind(what, wrote)


def beginning_with(what: str, mark: bytes, within: int, *, image: bool = False) -> Kind:
    """Return the kind of a file that has `mark` among its first bytes."""

    def wrote(path: Path) -> bool:
        try:
            with path.open("rb") as file:
                return mark in file.read(within)
        except OSError:
            return False

    return Kind(what, wrote, image)


UNREADABLE = table_of("list of files that could not be read", ("image_id", "reason"))
"""The list beside predictions."""


def remove_list(errors: Path) -> None:
    """Remove a list of unreadable files that an earlier prediction left; another file of its name stays."""
    if errors.is_file() and UNREADABLE.wrote(errors):
        errors.unlink()


def _target(out: Path, where: str) -> Path:
    try:
        return out.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise UserError(f"{where}: can't be followed ({error})") from None


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
