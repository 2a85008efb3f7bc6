"""Writing a file whole or not at all, and tables in files."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from octavo.errors import UserError

STALE = ".tmp"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write `content` (bytes, or a function that writes to the open file) so that `path` is whole or as it was.

    The bytes go to a file beside the target, which is flushed, synced and renamed over it; then the folder is synced.

    Raises:
        UserError: the disk is full; `path` is untouched and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}{STALE}")
    try:
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
        draft.unlink(missing_ok=True)
        full = next((e for e in _chain(error) if isinstance(e, OSError) and e.errno in _FULL), None)
        if full is None:
            raise
        reason = os.strerror(full.errno or errno.ENOSPC)
        raise UserError(
            f"{path}: {reason}; the last good state is kept. Free some space, then go on with --resume"
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those it came from: torch.save tells of a full disk by a RuntimeError of its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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
    """Remove what writers that were killed left behind in `folder` and below."""
    for draft in folder.rglob(f".*{STALE}"):
        draft.unlink(missing_ok=True)


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
