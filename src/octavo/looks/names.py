"""How files and classes are called where others read it: in letters of any program, and with no word of the machine."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath, PurePosixPath

_LOST = "\N{REPLACEMENT CHARACTER}"
_SHALLOW = 2
"""Steps from the root that a folder needs, so that names relative to it don't tell of the machine."""
_PATH = re.compile(r"(?<![\w.:/\\~-])(?:~?/|[A-Za-z]:[\\/])[^\s\"'`()<>|;,:]+")
"""An absolute path in a sentence; one with a blank in it ends there."""


def displayable(text: str) -> str:
    """Return text that can be written as UTF-8 and drawn in a line: what is no character becomes a question mark.

    Names on disk may hold bytes that are no UTF-8, which Python keeps as surrogates, and control characters.
    """
    valid = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(_LOST if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in valid)


def travelling(files: Sequence[str], root: str) -> list[str]:
    """Return how files are shown to readers who don't have the machine.

    Paths in their folder stay as they are. Where a list names files elsewhere, all become relative to the folder that
    they have in common; where that is the whole disk, as many of their last parts are left as tell them apart.

    Args:
        files: POSIX paths relative to the data's folder, or absolute.
        root: the data's folder, or a list of them in CSV.
    """
    if not any(_leaves(file) for file in files):
        return list(map(displayable, files))
    files = [file.replace("\\", "/") for file in files]
    folder = posixpath.dirname(root) if root.lower().endswith(".csv") else root
    whole = [posixpath.normpath(file if _rooted(file) else posixpath.join(folder, file)) for file in files]
    try:
        common = posixpath.commonpath([posixpath.dirname(path) for path in whole])
    except ValueError:  # another disk, or none
        common = ""
    if len([part for part in common.split("/") if part]) >= _SHALLOW:
        return [displayable(path[len(common) :].lstrip("/")) for path in whole]
    return list(map(displayable, last_parts(whole)))


def mask_title(mask: str, image: str) -> str:
    """Return how a mask is shown: one that is called by a path is called by the path that its image is shown by."""
    if "/" not in mask:
        return displayable(mask)
    whole = PurePosixPath(image)
    return image if whole.suffix == PurePosixPath(mask).suffix else str(whole.with_suffix(""))


def last_parts(paths: Sequence[str]) -> list[str]:
    """Return the last parts of paths, as many as it takes to tell different ones apart, and never a root."""
    split = [[part for part in re.split(r"[\\/]", path) if part and not part.endswith(":")] for path in paths]
    different = len(set(map(tuple, split)))
    for length in range(1, max(map(len, split), default=0)):
        names = ["/".join(parts[-length:]) for parts in split]
        if len(set(names)) == different:
            return names
    return ["/".join(parts) for parts in split]


def without_machine(text: str, names: Mapping[str, str], folders: Iterable[str]) -> str:
    """Return a sentence without absolute paths: each by the name it is shown by, or by its last part.

    Args:
        text: such as an error.
        names: file → how it is shown.
        folders: known folders, which may have blanks in their names.
    """
    for file in sorted((file for file in names if _leaves(file) and file in text), key=len, reverse=True):
        text = text.replace(file, names[file])
    for folder in sorted(set(folders), key=len, reverse=True):
        if PurePath(folder).name and PurePath(folder).is_absolute():
            text = text.replace(folder, PurePath(folder).name)
    return displayable(_PATH.sub(lambda found: re.split(r"[\\/]", found.group().rstrip("/\\."))[-1], text))


def _leaves(file: str) -> bool:
    """Return whether a path is absolute or leads out of its folder."""
    return _rooted(file) or ".." in re.split(r"[\\/]", file)


def _rooted(file: str) -> bool:
    return file.startswith("/") or bool(re.match(r"[A-Za-z]:[\\/]", file))
