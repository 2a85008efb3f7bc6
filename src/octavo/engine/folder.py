"""The run folder: with `member_folder` all that knows the names of its files. Every file is whole or absent."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from octavo.engine.consistency import require_members
from octavo.engine.member_folder import MemberFolder
from octavo.engine.run_files import MANIFEST
from octavo.engine.run_inputs import RECIPE, SAMPLES, RunInputs
from octavo.errors import NotWritten, UserError, suggest
from octavo.files import (
    STALE,
    draft_beside,
    inside,
    raise_plainly,
    stray,
    sweep,
    sync_folder,
    write_atomic,
    write_csv,
)
from octavo.integrity import sha256_of
from octavo.log import warn
from octavo.numbers.ensemble import Ensemble
from octavo.overwrite import RUN_FILES, RUN_FOLDERS, RUN_MARKS, require_makeable
from octavo.recipe import Recipe, dumps

_LOCK = ".lock"
_BUSY = "another process is training here; wait for it, or choose another --out"


class RunFolder(RunInputs):
    """A run's folder: new, or opened to be read or resumed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock: FileLock | None = None  # held from `begin` on

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Return the folder of an existing run.

        Raises:
            UserError: there is no run at `path`.
        """
        folder = cls(Path(path))
        if not folder.path.is_dir():
            siblings = [p.name for p in folder.path.parent.glob("*/") if (p / MANIFEST).is_file()]
            raise UserError(f"{path}: no such run folder{suggest(folder.path.name, siblings)}")
        if not (folder.path / MANIFEST).is_file():
            raise UserError(f"{path}: not a run folder (no {MANIFEST} in it); expected what `octavo train` wrote")
        folder.require_own_files()
        if not folder.on_disk.hashed:
            add = f"octavo verify {shlex.quote(str(path))} --write adds the hashes"
            warn(f"{path}: was written before files were hashed; {add}")
        return folder

    def require_own_files(self) -> None:
        """Refuse what reading or writing the run could reach something else by: links out of it, pipes, devices.

        Raises:
            UserError: there is such a thing.
        """
        try:
            found = stray(self.path)
        except OSError as error:
            raise UserError(f"{error.filename}: can't be read ({(error.strerror or str(error)).lower()})") from error
        if found is None:
            return
        what = f"links to {found.readlink()}, out of the run" if found.is_symlink() else "is neither file nor folder"
        raise UserError(f"{found}: {what}; expected a file of the run: put the file itself there, or remove it")

    @classmethod
    def new(cls, path: Path, *, overwrite: bool = False) -> RunFolder:
        """Return the folder that a new run may `begin` in; nothing is touched yet.

        Raises:
            UserError: there is something at `path` that isn't a run, a run without `overwrite`, or one with files in it
                that no run has; or the system wouldn't let us write there.
        """
        folder = cls(path)
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file; choose another --out")
        if path.resolve() == Path.cwd():
            raise UserError(f"--out {path}: is the folder that you are in; name one that isn't there yet")
        require_makeable(path.resolve() if path.name else path.resolve() / "run", f"--out {path}")
        if folder.begun and folder.busy:
            raise UserError(f"{path}: {_BUSY}")
        if path.is_dir() and any(path.iterdir()) and not (overwrite and folder.begun):
            hint = "--resume goes on with it, --overwrite starts it anew" if folder.begun else "choose another --out"
            raise UserError(f"{path}: exists and is {'a run' if folder.begun else 'not a run'}; {hint}")
        if folder.begun:
            folder._require_nothing_else()
        return folder

    def _require_nothing_else(self) -> None:
        """Refuse to delete a run with other things in its folder, or what only looks like a run."""
        if missing := next((mark for mark in RUN_MARKS if not (self.path / mark).is_file()), None):
            raise UserError(
                f"{self.path}: has no {missing}, so it may be no run; delete it yourself, or choose another --out"
            )
        known = {*RUN_FILES, *RUN_FOLDERS, ".DS_Store"}
        for path in sorted(self.path.iterdir()):
            if path.name not in known and not path.name.endswith(STALE):
                raise UserError(
                    f"{path}: is no file of a run, and --overwrite would delete it; move it elsewhere first, or choose "
                    "another --out"
                )

    def member(self, name: str) -> MemberFolder:
        """Return the files of the member `name`."""
        return MemberFolder(inside(self.path / "members", name), self.on_disk)

    @property
    def resume(self) -> str:
        """The command that resumes training."""
        out, recipe = shlex.quote(str(self.path)), self.recipe if self.begun else None
        if recipe and recipe.teacher:
            teacher, student = shlex.quote(recipe.teacher), recipe.networks[0].name
            return f"octavo distil {teacher} --student {student} --out {out} --resume"
        return f"octavo train --resume --out {out}"

    def stages(self) -> dict[str, Path]:
        """Return the folders of predicted masks by stage, `epoch_NNN` in their order and then `best`."""
        top = self.path / "masks"
        if self.on_disk.hashed:
            known = [name.split("/") for network in self.recipe.networks for name in self._files_of(network.name)]
            names = {parts[1] for parts in known if parts[0] == top.name}
        else:
            names = {path.name for path in top.glob("*") if path.is_dir()}
        return {name: top / name for name in sorted(names, key=lambda name: (name == "best", name))}

    def _files_of(self, member: str) -> dict[str, str]:
        return self.member(member).files() if self.member(member).finished else {}

    @property
    def begun(self) -> bool:
        """Whether a run was started here."""
        return (self.path / MANIFEST).is_file()

    def begin(self, recipe: Recipe, manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> None:
        """Write what is fixed before the first step: recipe, samples by part, manifest; a run in the way is deleted.

        The folder appears with all of them or not at all, so that a run that is killed can always be resumed, and
        locked, so that of several processes that begin here one goes on.

        Raises:
            UserError: another process trains here, or was faster.
        """
        draft, old = draft_beside(self.path), draft_beside(self.path)
        try:
            new = RunFolder(draft)
            write_atomic(draft / RECIPE, dumps(recipe).encode())
            write_csv(draft / SAMPLES, samples)
            new.on_disk.write_manifest(new.with_hashes(manifest))
            lock = FileLock(draft / _LOCK, timeout=0)
            lock.acquire()
            if self.begun:
                with self.locked():  # another process may be training the run that is to be deleted
                    self.path.replace(old)
            self._appear(draft)
            self._lock = lock
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)

    def _appear(self, draft: Path) -> None:
        """Rename the draft of the run to its place, which must be free or an empty folder."""
        with suppress(OSError):
            self.path.rmdir()  # where it is there and empty: not every system renames over it
        try:
            draft.replace(self.path)
        except OSError as error:
            raise_plainly(error, self.path)
            raise UserError(f"{self.path}: another process began a run here meanwhile; choose another --out") from error
        sync_folder(self.path.parent)

    def with_hashes(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Return a manifest with the hashes of recipe and samples as they are now."""
        data = {**manifest.get("data", {}), "samples": sha256_of(self.path / SAMPLES)}
        return {**manifest, "recipe": sha256_of(self.path / RECIPE), "data": data}

    def _require_fitting(self, ensemble: Ensemble, path: Path) -> None:
        if self.on_disk.hashed:
            return
        names, classes = [network.name for network in self.recipe.networks], len(self.manifest["classes"])
        require_members(ensemble, names, classes, path, self.on_disk.restore)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder; the lock of a process that was killed is free.

        Raises:
            UserError: another process holds it.
        """
        lock, self._lock = self._lock or FileLock(self.path / _LOCK, timeout=0), None
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"{self.path}: {_BUSY}") from None
        try:
            yield
        finally:
            lock.release(force=True)

    @property
    def busy(self) -> bool:
        """Whether another process trains here."""
        if not (self.path / _LOCK).is_file():
            return False
        try:
            with FileLock(self.path / _LOCK, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a run that can only be read
            return False

    @property
    def writable(self) -> bool:
        """Whether the system lets us write into the run."""
        return os.access(self.path, os.W_OK)

    def require_writable(self) -> None:
        """Refuse at once what could not be kept in the end.

        Raises:
            NotWritten: the system doesn't let us write into the run.
        """
        if not self.writable:
            raise NotWritten(f"{self.path}: can't be written, so nothing can be kept in it; work on a copy of the run")

    def sweep(self) -> None:
        """Remove the drafts of a training that was killed."""
        sweep(self.path)

    def outputs(self, part: str) -> np.ndarray:
        """Return the stored logits of one part, of the ensemble's members in its order, float32 [M,n,C]."""
        return np.stack([self.member(name).outputs()[part] for name in self.ensemble.names])

    def collect_history(self, names: Sequence[str]) -> None:
        """Write `history.csv` from the histories of the members that are finished."""
        rows = [{"member": n, **row} for n in names if self.member(n).finished for row in self.member(n).history()]
        write_csv(self.path / "history.csv", rows)
