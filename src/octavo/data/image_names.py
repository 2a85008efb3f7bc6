"""Names of images in tables, found among the files of a folder: by path, by the end of a path, or without an ending."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from octavo.data.formats import IMAGE_SUFFIXES, unread_format
from octavo.data.walk import walk


class ImageNames:
    """The images below a folder, found by what tables call them.

    Attributes:
        folder: paths of files are relative to it.
    """

    def __init__(self, folder: Path) -> None:
        """Know the folder; it is looked through when a name isn't a path in it."""
        self.folder = folder

    @cached_property
    def files(self) -> frozenset[str]:
        """All images, as paths relative to the folder."""
        return frozenset(walk(self.folder))

    @cached_property
    def _named(self) -> dict[str, list[str]]:
        """Last name of each path, with and without its ending → the paths."""
        found: dict[str, list[str]] = {}
        for file in sorted(self.files):
            path = PurePosixPath(_composed(file))
            found.setdefault(path.name, []).append(file)
            if path.stem != path.name:
                found.setdefault(path.stem, []).append(file)
        return found

    def find(self, cell: str, base: str = "") -> tuple[str, ...]:
        """Return the images that a table's cell may mean, one where it is plain; `base` is the table's folder.

        That is the file of this path, with backslashes too. Else, of the images whose last name it is, with or without
        the ending, those whose path ends in the cell's, or the other way round: `part_1/a.jpg` for `a`, and `a.jpg`
        for `/other/disk/a.jpg`. Of several with the ending, the one below the table's folder counts.
        """
        plain = cell.strip()
        for text in dict.fromkeys([cell, plain, plain.replace("\\", "/")]):
            path = posixpath.normpath(posixpath.join(base, text)) if text.strip() else ""
            if path and self._is_there(path):
                return (path,)
            parts = _parts(_composed(text))
            if parts and (found := self._ending_in(parts)):
                whole = base not in ("", ".") and parts[-1].lower().endswith(IMAGE_SUFFIXES)
                own = tuple(file for file in found if whole and file.startswith(f"{base}/"))
                return own if len(own) == 1 else found
        return ()

    def near(self, cell: str) -> tuple[str, ...]:
        """Return the images that would be meant if case and ending didn't count: `a.jpg` for `A.JPG` and `a.dcm`."""
        parts = _parts(_composed(cell.strip().replace("\\", "/")).casefold())
        if not parts:
            return ()
        last = PurePosixPath(parts[-1])
        stem = last.stem if called_image(parts[-1]) else last.name
        return tuple(file for file in self._folded.get(stem, ()) if _alike(_composed(file).casefold(), parts))

    def numbered(self, cell: str) -> tuple[str, ...]:
        """Return the images whose names are the same number but for zeros ahead: `007.jpg` for `7`."""
        text = cell.strip()
        return tuple(self._numbers.get(text.lstrip("0"), ())) if text.isdecimal() else ()

    @cached_property
    def _numbers(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in sorted(self.files):
            if (stem := PurePosixPath(file).stem).isdecimal():
                found.setdefault(stem.lstrip("0"), []).append(file)
        return found

    @cached_property
    def _folded(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in sorted(self.files):
            found.setdefault(PurePosixPath(_composed(file).casefold()).stem, []).append(file)
        return found

    def _is_there(self, path: str) -> bool:
        if "files" in self.__dict__ and path in self.files:
            return True
        try:
            return (self.folder / path).is_file()
        except (OSError, ValueError):  # too long a name, or a zero byte
            return False

    def _ending_in(self, parts: Sequence[str]) -> tuple[str, ...]:
        return tuple(file for file in self._named.get(parts[-1], ()) if _alike(_composed(file), parts))


def called_image(name: str) -> bool:
    """Tell whether a name ends as those of images do, of formats that aren't read too."""
    suffix = PurePosixPath(name.strip().lower()).suffix
    return suffix in IMAGE_SUFFIXES or unread_format(suffix) is not None


def _alike(file: str, parts: Sequence[str]) -> bool:
    """Tell whether of the folders of a file and of a name those of one end as those of the other."""
    own, above = file.split("/")[:-1], list(parts[:-1])
    length = min(len(own), len(above))
    return own[len(own) - length :] == above[len(above) - length :]


def prefix_of(cell: str, file: str) -> str:
    """Return what stands before an image's path in a table's cell: `/other/disk` of `/other/disk/a.jpg`."""
    parts, own = _parts(cell.strip().replace("\\", "/")), file.count("/") + 1
    return "/".join(parts[: len(parts) - own]) if len(parts) > own else ""


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".", "..")]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
