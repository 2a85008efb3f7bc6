"""Image files on the disk: finding them, and putting them in natural order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from natsort import natsort_keygen

from octavo.data.formats import IMAGE_SUFFIXES, SNIFFED, format_of, unread_format
from octavo.errors import UserError

_PLAIN = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".html", ".htm", ".yaml", ".yml", ".toml", ".ini",
          ".log", ".py", ".ipynb", ".npy", ".npz", ".mat", ".pkl", ".pt", ".pth", ".h5", ".hdf5", ".zip", ".gz", ".tar",
          ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".parquet", ".tfrecord", ".mp4", ".avi", ".mov"}  # fmt: skip
"""Endings of files that are no images; the first bytes of others are looked at."""
_IGNORED = {"__macosx", "thumbs.db", "desktop.ini"}
_natural = natsort_keygen()


def natural(name: str) -> tuple:
    """Return a sorting key by which "2" comes before "10"."""
    return _natural(name), name  # the name itself settles "1" against "01"


def one_line(text: str) -> str:
    """Return a message without line breaks; file and class names may hold them."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def list_images(paths: Sequence[str | Path]) -> tuple[Path, ...]:
    """List image files: those named, and those in folders, recursively, in natural order, once.

    In folders these are the files that have the ending or the first bytes of an image, read or not.

    Raises:
        UserError: when a path isn't there, or nothing is found at all.
    """
    listed = dict.fromkeys(image for path in paths for image in images_at(Path(path)))
    if not listed:
        where = ", ".join(map(str, paths)) or "images"
        raise UserError(f"{where}: no images found; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return tuple(listed)


def images_at(path: Path) -> list[Path]:
    """Return a file itself, or the image files in and below a folder in natural order; see `list_images`.

    Raises:
        UserError: there is neither at `path`.
    """
    if path.is_dir():
        files = (name for name, entry in entries_below(path) if is_image(entry) or format_in(entry))
        return [path / file for file in sorted(files, key=natural)]
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    return [path]


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder without hidden files and the litter of archives and file managers.

    Raises:
        UserError: when it can't be read.
    """
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _IGNORED]
    except OSError as error:
        raise UserError(f"{folder}: can't be read ({(error.strerror or str(error)).lower()})") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether this is a folder, or leads to one; a link in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Tell whether this is a file, or leads to one; a link in a circle is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_image(entry: os.DirEntry[str]) -> bool:
    """Tell whether this is an image file by its ending."""
    # A link to nowhere is listed too, so that it is reported and not passed over; pipes and sockets are not.
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and (
        is_file(entry) or (entry.is_symlink() and not Path(entry.path).exists())
    )


def format_in(entry: os.DirEntry[str]) -> str | None:
    """Return the image format of a file that has no image's ending, by its own ending or its first bytes, if any."""
    suffix = Path(entry.name).suffix.lower()
    if (name := unread_format(suffix)) or suffix in _PLAIN or not is_file(entry):
        return name
    try:
        with Path(entry.path).open("rb") as file:
            return format_of(file.read(SNIFFED))
    except OSError:
        return None


def entries_below(
    folder: Path, above: frozenset[tuple[int, int]] = frozenset(), prefix: str = ""
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files in and below `folder`, with their paths relative to it.

    Hidden files are left out, and links back to a folder above aren't followed.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in sorted(scan(folder), key=lambda e: e.name):
        if is_folder(entry):
            yield from entries_below(Path(entry.path), above | {here}, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry


def walk(folder: Path) -> Iterator[str]:
    """Yield the files in and below `folder` that end as images do, as paths relative to it."""
    return (name for name, entry in entries_below(folder) if is_image(entry))


def folders_in(root: Path) -> list[Path]:
    """List the folders directly in `root`, by name; none when it is a file."""
    return [root / e.name for e in sorted(scan(root), key=lambda e: e.name) if is_folder(e)] if root.is_dir() else []


def images_in(folder: Path) -> list[str]:
    """List the names of the images directly in `folder`, in natural order."""
    return sorted((e.name for e in scan(folder) if not is_folder(e) and is_image(e)), key=natural)


def any_image(folder: Path) -> bool:
    """Tell whether an image lies in or below `folder`."""
    return next(walk(folder), None) is not None
