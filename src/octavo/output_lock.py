"""Lock on what a command writes in more than one step, so that two processes don't write into one place at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from octavo.errors import UserError
from octavo.files import missing_folders, raise_plainly


@contextmanager
def locked_output(files: Iterable[Path], where: str) -> Iterator[None]:
    """Keep others from writing these files meanwhile; the lock of a process that was killed is free.

    Each file's lock is a hidden file beside it that is gone afterwards; so are the folders that had to be made for it,
    if nothing was written into them.

    Args:
        files: what will be written.
        where: the option that named them, for the message.

    Raises:
        UserError: another process, or another thread of this one, is writing one of them.
        NotWritten: the system doesn't let us write there.
        DiskFull: there is no room.
    """
    with ExitStack() as stack:
        for file in sorted({file.parent.resolve() / file.name for file in files}):
            stack.enter_context(_locked(file, where))
        yield


@contextmanager
def _locked(file: Path, where: str) -> Iterator[None]:
    path = _lock_of(file)
    made = missing_folders(path.parent)
    lock = FileLock(path, timeout=0)
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (Timeout, FileNotFoundError):  # or it removed the folder that it had made
            raise UserError(
                f"{where}: another process is writing there; wait until it has ended, or choose another place"
            ) from None
        except OSError as error:
            raise_plainly(error, file)
            raise
        try:
            yield
        finally:
            with suppress(OSError):  # Windows deletes no open file
                path.unlink()  # still held, so that nobody locks the file that goes
            lock.release(force=True)
    finally:
        for folder in made:
            with suppress(OSError):  # something was written into it
                folder.rmdir()


def _lock_of(file: Path) -> Path:
    """Return the lock of a file: a short name, as the file's own may be of any length."""
    return file.with_name(f".octavo-{sha256(os.fsencode(file.name)).hexdigest()[:16]}.lock")
