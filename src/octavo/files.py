"""Writing a file whole or not at all, and tables in files."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from octavo.errors import Damaged, DiskFull, NotWritten, UserError

STALE = ".tmp"
_PROCESS = secrets.token_hex(4)  # in a container that was started again, another process has our number
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a disk, a quota or the largest size of a file is reached."""
_REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EEXIST,
)
_DRAFT = re.compile(r"\.octavo-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<process>[0-9a-f]{8})-\d+\.tmp")
_OLD_DRAFT = re.compile(r"\..+\.\d+\.tmp")  # as older versions called them
_FOREIGN_DAYS = 7  # after which a draft of another computer on a shared disk counts as abandoned
_numbers = itertools.count()
_swept: set[Path] = set()


def draft_beside(path: Path) -> Path:
    """Return where to prepare what will be renamed to `path`: a short name, as that of `path` may be of any length.

    It names its process, so that `sweep` knows what was left by one that is dead.
    """
    return path.with_name(f".octavo-{_host()}-{os.getpid()}-{_PROCESS}-{next(_numbers)}{STALE}")


def write_atomic(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write `content` (bytes, or a function that writes to the open file) so that `path` is whole or as it was.

    The bytes go to a draft beside the target, which is flushed, synced and renamed over it; then the folder is synced.
    What killed processes left in the folder is removed when this process first writes there.

    Raises:
        DiskFull: `path` is untouched and nothing is left beside it.
        NotWritten: there may be no such file, or not by this user; likewise.
    """
    draft, made = draft_beside(path), missing_folders(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent)
        with draft.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):  # not there, or something else is in it by now
                folder.rmdir()
        raise_plainly(error, path)
        raise


def raise_plainly(error: BaseException, path: Path) -> None:
    """Raise, in place of an error that came of writing `path`, one for the user; return where it is of another kind.

    Raises:
        DiskFull: the disk is full.
        NotWritten: the system doesn't let us.
    """
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in FULL:
            raise DiskFull(f"{path}: {os.strerror(cause.errno)}; the last good state is kept") from error
    if isinstance(error, OSError) and error.errno in _REFUSED:
        raise NotWritten(f"{path}: can't be written ({os.strerror(error.errno).lower()})") from error


def missing_folders(folder: Path) -> list[Path]:
    """Return which of a folder and those above it aren't there, the lowest first."""
    return list(itertools.takewhile(lambda path: not os.path.lexists(path), (folder, *folder.parents)))


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those it came from: torch.save tells of a full disk by a RuntimeError of its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def inside(folder: Path, name: str, *, nested: bool = False) -> Path:
    """Return where a file of `folder` lies whose name was read from a file, which anyone may have written.

    Args:
        folder: in a run.
        name: of a file directly in it; `nested` allows folders between.

    Raises:
        UserError: the name leads somewhere else.
    """
    path = Path(name)
    clean = path.parts and not path.anchor and ".." not in path.parts and "\0" not in name
    if not clean or (len(path.parts) > 1 and not nested):
        raise UserError(
            f"{folder}: {name[:100]!r} is no file in this folder; expected a bare name. The run's files were changed: "
            "get it again from where it came from"
        )
    return folder / path


def stray(folder: Path) -> Path | None:
    """Return the first thing in `folder` or below that reading or writing it could reach something else by.

    Those are links that lead out of it, and what is neither file nor folder, such as a named pipe.
    """
    home, waiting = folder.resolve(), [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = Path(entry.path)
                if entry.is_symlink():
                    if not _leads_into(path, home):
                        return path
                elif entry.is_dir():
                    waiting.append(path)
                elif not entry.is_file():
                    return path
    return None


def _leads_into(link: Path, home: Path) -> bool:
    try:
        return link.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # in a circle
        return False


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut (a no-op where folders can't be opened, as on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove the drafts, files and folders, that killed processes left in a run's `folder` and below."""
    for draft in [*folder.rglob(f".*{STALE}")]:
        if _OLD_DRAFT.fullmatch(draft.name) or _abandoned(draft):
            _remove(draft)


def _sweep_once(folder: Path) -> None:
    """Remove what killed processes left in `folder` itself, the first time that this process writes there."""
    place = folder.absolute()
    if place in _swept:
        return
    _swept.add(place)
    with os.scandir(folder) as entries:
        drafts = [Path(entry.path) for entry in entries if entry.name.endswith(STALE)]
    for draft in drafts:
        if _abandoned(draft):
            _remove(draft)


def _remove(draft: Path) -> None:
    if draft.is_dir() and not draft.is_symlink():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _abandoned(path: Path) -> bool:
    """Tell whether this is a draft whose process is dead."""
    name = _DRAFT.fullmatch(path.name)
    if name is None:
        return False
    if name["host"] != _host():
        return time.time() - path.lstat().st_mtime > _FOREIGN_DAYS * 86400
    if int(name["pid"]) == os.getpid():
        return name["process"] != _PROCESS
    import psutil  # slow to load, and seldom needed

    return not psutil.pid_exists(int(name["pid"]))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> None:
    """Write rows as CSV, whole or not at all; see `csv_bytes`."""
    write_atomic(path, csv_bytes(rows, first))


def csv_bytes(rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> bytes:
    """Return rows as CSV (RFC 4180 quoting, UTF-8); columns `first`, then as they are met."""
    columns, text = list(dict.fromkeys([*first, *(key for row in rows for key in row)])), io.StringIO()
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n", quoting=quoting)
        writer.writeheader()
        writer.writerows(rows)
        if "\r" not in text.getvalue():  # older Pythons leave it without quotes, and readers end the line there
            break
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows that `write_csv` wrote."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def read_rows(content: bytes, path: Path, remedy: str) -> list[dict[str, str]]:
    """Return the rows that `csv_bytes` wrote.

    Raises:
        Damaged: it is no CSV, or its rows have more or fewer cells than the header.
    """
    text = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
    try:
        rows = list(csv.DictReader(text))
    except csv.Error as error:
        raise Damaged(f"{path}: damaged: not CSV ({error}); {remedy}") from None
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise Damaged(f"{path}: damaged: row {number} has other columns than the header; {remedy}")
    return rows


def as_json(value: Mapping[str, Any]) -> bytes:
    """Return a value as JSON of several lines; names that are no UTF-8 are read back as they were."""
    # Their bytes become \udcXX.
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def read_json(path: Path) -> Any:
    """Return what a JSON file of Octavo's holds.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path}: damaged, no JSON ({error}); put it back from a copy, or delete it and make it anew"
        ) from None
