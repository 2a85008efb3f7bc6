"""The run folder: with `member_folder` all that knows the names of its files. Every file is whole or absent."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from octavo.data.classes import ClassTable
from octavo.engine.member_folder import MemberFolder
from octavo.errors import UserError, suggest
from octavo.files import (
    STALE,
    as_json,
    inside,
    read_csv,
    read_json,
    stray,
    sweep,
    sync_folder,
    write_atomic,
    write_csv,
)
from octavo.numbers.bootstrap import group_ids
from octavo.numbers.ensemble import Ensemble
from octavo.numbers.mask_results import SegmentReport, read_report
from octavo.numbers.results import Report
from octavo.numbers.speed_results import DistilReport
from octavo.overwrite import RUN_FILES, RUN_FOLDERS, RUN_MARKS, require_makeable
from octavo.recipe import ClassifyRecipe, Recipe, dumps, load

MANIFEST = "manifest.json"
R = TypeVar("R", bound=Recipe)


class RunFolder:
    """A run's folder: new, or opened to be read or gone on with."""

    def __init__(self, path: Path) -> None:
        self.path = path

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
        folder._require_own_files()
        return folder

    def _require_own_files(self) -> None:
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
        require_makeable(path.resolve() if path.name else path.resolve() / "run", f"--out {path}")
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
        return MemberFolder(inside(self.path / "members", name))

    @property
    def resume(self) -> str:
        """The command that goes on with it."""
        out, recipe = shlex.quote(str(self.path)), self.recipe if self.begun else None
        if isinstance(recipe, ClassifyRecipe) and recipe.distil.run:
            teacher, student = shlex.quote(recipe.distil.run), recipe.members[0].name
            return f"octavo distil {teacher} --student {student} --out {out} --resume"
        return f"octavo train --resume --out {out}"

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return load(self.path / "recipe.toml")

    def recipe_as(self, kind: type[R]) -> R:
        """Return the resolved recipe of a run of one kind.

        Raises:
            UserError: the run is of another task.
        """
        recipe = self.recipe
        if not isinstance(recipe, kind):
            raise UserError(f'{self.path}: is a run of task "{recipe.task}", for which this is not made')
        return recipe

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, hashes of data and weights, seed, hardware."""
        return read_json(self.path / MANIFEST)

    @property
    def data(self) -> Path | None:
        """Where the data lay that the run was trained on, as far as that is known."""
        root = self.manifest.get("data", {}).get("root")
        return Path(root) if isinstance(root, str) else None

    @property
    def table(self) -> ClassTable:
        """Names and colours of the classes of masks (runs of segmenters)."""
        return ClassTable.from_dict(self.manifest["table"])

    def stages(self) -> dict[str, Path]:
        """Return the folders of predicted masks by stage, `epoch_NNN` in their order and then `best`."""
        folders = [path for path in (self.path / "masks").glob("*") if path.is_dir()]
        return {path.name: path for path in sorted(folders, key=lambda path: (path.name == "best", path.name))}

    @property
    def begun(self) -> bool:
        """Whether a run was started here."""
        return (self.path / MANIFEST).is_file()

    def begin(self, recipe: Recipe, manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> None:
        """Write what is fixed before the first step: recipe, samples by part, manifest; a run in the way is deleted.

        The folder appears with all of them or not at all, so that a run that is killed can always be gone on with.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}{STALE}")
        shutil.rmtree(draft, ignore_errors=True)
        write_atomic(draft / "recipe.toml", dumps(recipe).encode())
        write_csv(draft / "samples.csv", samples)
        write_atomic(draft / MANIFEST, as_json(manifest))
        if self.begun:
            with self.locked():  # another process may be training the run that is to be deleted
                shutil.rmtree(self.path)
        elif self.path.is_dir():
            self.path.rmdir()
        draft.replace(self.path)
        sync_folder(self.path.parent)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder; the lock of a process that was killed is free.

        Raises:
            UserError: another process holds it.
        """
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            raise UserError(
                f"{self.path}: another process is training here; wait for it, or choose another --out"
            ) from None

    def sweep(self) -> None:
        """Remove the drafts of a training that was killed."""
        sweep(self.path)

    def samples(self) -> list[dict[str, str]]:
        """Return a row per image: file, label, part (`fit`, `holdout`, `val`, `test`, `broken`, `unused`)."""
        return read_csv(self.path / "samples.csv")

    def labels(self, part: str) -> np.ndarray:
        """Return class ids int64 [n] of the images of one part, in the order of the stored logits."""
        ids = {name: i for i, name in enumerate(self.manifest["classes"])}
        return np.array([ids[row["label"]] for row in self.samples() if row["part"] == part], np.int64)

    def outputs(self, part: str) -> np.ndarray:
        """Return the stored logits of one part, of the ensemble's members in its order, float32 [M,n,C]."""
        return np.stack([self.member(name).outputs()[part] for name in self.ensemble.names])

    def files(self, part: str) -> list[str]:
        """Return the images of one part, in the order of the stored logits."""
        return [row["file"] for row in self.samples() if row["part"] == part]

    def groups(self, part: str) -> np.ndarray | None:
        """Return what group each image of one part is of, int64 [n]; None where the data have no groups."""
        return group_ids([row.get("group", "") for row in self.samples() if row["part"] == part])

    def collect_history(self, names: Sequence[str]) -> None:
        """Write `history.csv` from the histories of the members that are finished."""
        rows = [{"member": n, **row} for n in names if self.member(n).finished for row in self.member(n).history()]
        write_csv(self.path / "history.csv", rows)

    @property
    def ensemble(self) -> Ensemble:
        """How the members are combined.

        Raises:
            UserError: training has not come that far.
        """
        path = self.path / "ensemble.json"
        if not path.is_file():
            raise UserError(f"{self.path}: this run is not finished; go on with `{self.resume}`")
        return Ensemble.from_dict(read_json(path))

    @ensemble.setter
    def ensemble(self, ensemble: Ensemble) -> None:
        write_atomic(self.path / "ensemble.json", as_json(ensemble.to_dict()))

    @property
    def combined(self) -> bool:
        """Whether the members have been combined."""
        return (self.path / "ensemble.json").is_file()

    @property
    def unpruned(self) -> Ensemble | None:
        """The ensemble as training left it; None where it still is that."""
        path = self.path / "ensemble.trained.json"
        return Ensemble.from_dict(read_json(path)) if path.is_file() else None

    def prune(self, ensemble: Ensemble) -> None:
        """Take another ensemble of the same members, and keep the one that training left."""
        if self.unpruned is None:
            write_atomic(self.path / "ensemble.trained.json", as_json(self.ensemble.to_dict()))
        self.ensemble = ensemble

    def unprune(self) -> None:
        """Take the ensemble back that training left."""
        if (kept := self.unpruned) is not None:
            self.ensemble = kept
            (self.path / "ensemble.trained.json").unlink()

    @property
    def metrics(self) -> Report | SegmentReport:
        """The numbers of the run's own evaluation.

        Raises:
            UserError: training has not come that far.
        """
        path = self.path / "metrics.json"
        if not path.is_file():
            raise UserError(f"{self.path}: this run is not finished; go on with `{self.resume}`")
        return read_report(path.read_text(encoding="utf-8"), str(path))

    @metrics.setter
    def metrics(self, report: Report | SegmentReport) -> None:
        write_atomic(self.path / "metrics.json", report.to_json().encode())

    @property
    def leaks(self) -> dict[str, Any] | None:
        """Which images parts of the data share, and how they were looked for; None where nobody did."""
        path = self.path / "leaks.json"
        return read_json(path) if path.is_file() else None

    @leaks.setter
    def leaks(self, found: Mapping[str, Any]) -> None:
        write_atomic(self.path / "leaks.json", as_json(found))

    @property
    def cascade(self) -> dict[str, Any] | None:
        """The cascade that was fitted last, and how it did; None where none was."""
        path = self.path / "cascade.json"
        return read_json(path) if path.is_file() else None

    @cascade.setter
    def cascade(self, fitted: Mapping[str, Any]) -> None:
        write_atomic(self.path / "cascade.json", as_json(fitted))

    @property
    def distil(self) -> DistilReport | None:
        """How a student does beside its teacher; None where nobody taught it, or the two can't be compared."""
        path = self.path / "distil.json"
        return DistilReport.from_json(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None

    @distil.setter
    def distil(self, report: DistilReport) -> None:
        write_atomic(self.path / "distil.json", report.to_json().encode())

    @property
    def bf16(self) -> dict[str, Any] | None:
        """What was found of members that were trained in float32 and answer in bfloat16; None where none do."""
        path = self.path / "precision.json"
        return read_json(path) if path.is_file() else None

    @bf16.setter
    def bf16(self, found: Mapping[str, Any] | None) -> None:
        if found is None:
            (self.path / "precision.json").unlink(missing_ok=True)
        else:
            write_atomic(self.path / "precision.json", as_json(found))

    def bf16_members(self, device: str) -> list[str]:
        """Return the members that `octavo ensemble precision --apply` let answer in bfloat16 on this kind of device."""
        found = self.bf16
        return sorted(found.get("members", ())) if found is not None and found["device"] == device else []

    def in_bf16(self, name: str, device: str) -> bool:
        """Tell whether a member is one of `bf16_members`."""
        return name in self.bf16_members(device)

    def state(self, of: Iterable[str]) -> str:
        """Return a digest of what may change in a finished run: `ensemble`, `cascade`, `precision`, `distil`."""
        digest = hashlib.sha256()
        for path in (self.path / f"{fact}.json" for fact in of):
            digest.update(path.read_bytes() if path.is_file() else b"")
            digest.update(b"\0")
        return digest.hexdigest()

    def explained(self, name: str) -> Path:
        """Return where a file lies that a look at the run left, such as `confusion.json`."""
        return inside(self.path / "explained", name)

    def write_explained(self, name: str, content: bytes) -> None:
        """Write a file of what a look found."""
        write_atomic(self.explained(name), content)

    def plot(self, name: str) -> Path:
        """Return where a picture lies, such as `confusion.png`."""
        return inside(self.plots, name)

    @property
    def plots(self) -> Path:
        """The folder of pictures."""
        return self.path / "plots"

    @property
    def page(self) -> Path:
        """Where the report lies."""
        return self.path / "report.html"

    def write_page(self, html: str) -> Path:
        """Write the report and return its path."""
        write_atomic(self.page, html.encode("utf-8", "replace"))
        return self.page

    def write_predictions(self, split: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write `predictions/SPLIT.csv` and return its path."""
        path = inside(self.path / "predictions", f"{split}.csv")
        write_csv(path, rows)
        return path
