"""The files of a run against their hashes: which are as they were written; new hashes for those that are accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from octavo.engine.embedding import is_whole
from octavo.engine.folder import RECIPE, SAMPLES, RunFolder
from octavo.engine.member_folder import FILES, MemberFolder
from octavo.engine.run_files import MANIFEST
from octavo.engine.run_results import OF_ENSEMBLE, OF_METRICS, PREDICTIONS, RESULTS
from octavo.errors import Damaged, UserError
from octavo.files import STALE, inside
from octavo.integrity import SEAL, parse_object, sha256_of
from octavo.looks.suspects import LIST
from octavo.progress import Progress, silent
from octavo.verbs.explain import again, taken

_OF_NO_RUN = (".lock", "report.html", "history.csv", f"explained/{LIST}")
"""Files that nothing is read from again, or that are a user's to change."""


@dataclass
class Verified:
    """What was found of a run's files.

    Attributes:
        right: names of those that are as they were written.
        wrong: name of each that isn't → a line on it.
        unhashed: names of those that have no hash.
        accepted: names of those that were changed, and got another hash by `write`.
    """

    right: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    unhashed: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)


def verify(run: RunFolder, *, write: bool = False, progress: Progress = silent) -> Verified:
    """Hold every file of a run against its hash.

    Args:
        run: its folder; it may be damaged.
        write: give each file the hash that it has now: those of a run that was written before files were hashed, and
            those that were changed.
        progress: told after every file.

    Raises:
        UserError: a link that leads out of the run, or a pipe in it; `write`, and a file that hashes are kept in
            can't be read at all.
    """
    run.require_own_files()
    before = _Walk(run, progress).found
    if not write:
        return before
    _write(run)
    after = _Walk(run, progress).found
    after.accepted = sorted(set(before.wrong) & set(after.right))
    return after


class _Walk:
    """Reads every file of a run once, each by what knows it."""

    def __init__(self, run: RunFolder, progress: Progress) -> None:
        self.run, self.progress, self.found, self.known = run, progress, Verified(), set[str]()
        self.files = [run.on_disk.name(path) for path in sorted(run.path.rglob("*")) if path.is_file()]
        self.hashed = self._hashed()
        self.check(MANIFEST, lambda: run.manifest)
        self.check(RECIPE, lambda: run.recipe)
        self.check(SAMPLES, run.samples)
        for path in sorted((run.path / "members").glob("*")):
            self._member(run.member(path.name))
        self._results()
        for path in sorted((run.path / "explained").glob("*.json")):
            self._look(path.stem)
        for path in sorted((run.path / "explained").glob("*.safetensors")):
            if (whole := is_whole(run, path.stem)) is not None:
                self.check(run.on_disk.name(path), partial(_require_whole, whole, path))
        self.found.unhashed += [name for name in self.files if name not in self.known and not _apart(name)]

    def _hashed(self) -> bool:
        try:
            return self.run.on_disk.hashed
        except Damaged:
            return True

    def check(self, name: str, read: Callable[[], object]) -> bool:
        """Read a file, and note what came of it; return whether it could be read."""
        self.known.add(name)
        try:
            read()
        except UserError as error:
            self.found.wrong[name] = str(error)
            return False
        except OSError as error:
            self.found.wrong[name] = f"{self.run.path / name}: can't be read: {error.strerror}"
            return False
        finally:
            self.progress("verify", len(self.known), max(len(self.known), len(self.files)), name)
        (self.found.right if self.hashed else self.found.unhashed).append(name)
        return True

    def _member(self, folder: MemberFolder) -> None:
        name = self.run.on_disk.name
        if not folder.finished or not self.check(name(folder.record), folder.facts):
            return
        read = {name(folder.outputs_file): folder.outputs, name(folder.history_file): folder.history}
        for file in sorted({*folder.files(), *(file for file in read if file in self.files)}):
            self.check(file, read.get(file, partial(folder.check, inside(self.run.path, file, nested=True))))
        for fold in folder.folds():
            self._member(fold)

    def _results(self) -> None:
        """Check the ensemble, what was made of it, the numbers, and what goes with them."""
        run = self.run
        reads: Mapping[str, Callable[[], object]] = {
            "ensemble.json": lambda: run.ensemble,
            "ensemble.trained.json": lambda: run.unpruned,
            "cascade.json": lambda: run.cascade,
            "precision.json": lambda: run.bf16,
            "metrics.json": lambda: run.metrics,
            "leaks.json": lambda: run.leaks,
            "distil.json": lambda: run.distil,
            PREDICTIONS: run.check_predictions,
        }
        listed = set[str]()
        for name, referred in (("ensemble.json", run.results), ("metrics.json", run.files_of_metrics)):
            if name in self.files and self.check(name, reads[name]):
                listed |= set(referred())
        for name in (*OF_ENSEMBLE, *OF_METRICS):
            # Without hashes nothing is listed; with them, nothing is read that isn't, but for leaks and distil.
            if name in listed or (name in self.files and not (self.hashed and name in (*OF_ENSEMBLE, PREDICTIONS))):
                self.check(name, reads[name])

    def _look(self, name: str) -> None:
        """Check what a look left: its words, its pictures and other files."""
        run, remedy = self.run, again(self.run, name)
        if self.check(f"explained/{name}.json", lambda: taken(run, name)):
            for file, digest in taken(run, name).files.items():
                self.check(file, partial(run.on_disk.read, inside(run.path, file, nested=True), digest, remedy))


def _require_whole(whole: bool, path: Path) -> None:
    if not whole:
        raise Damaged(f"{path}: damaged or changed; delete it, `octavo explain` makes it anew where it needs it")


def _apart(name: str) -> bool:
    return name in _OF_NO_RUN or name.startswith("tensorboard/") or name.endswith((STALE, ".ckpt"))


def _write(run: RunFolder) -> None:
    """Write all hashes of a run anew, the manifest's first: until the last is written, the run counts as damaged."""
    objects = {path: _object(run, path) for path in _sealed(run)}
    manifest = _object(run, run.path / MANIFEST)
    run.on_disk.write_manifest(run.with_hashes(manifest))
    for path, value in objects.items():
        plain = {key: item for key, item in value.items() if key not in (FILES, RESULTS)}
        run.on_disk.write_object(path, plain | _references(run, path, value))


def _object(run: RunFolder, path: Path) -> dict[str, Any]:
    value = parse_object(path.read_bytes(), path, run.on_disk.restore)
    value.pop(SEAL, None)
    return value


def _sealed(run: RunFolder) -> list[Path]:
    """Return the JSON files of a run that are sealed, in the order in which they are written."""
    names = ("ensemble.json", *OF_ENSEMBLE, *OF_METRICS, "metrics.json")
    found = sorted((run.path / "members").rglob("member.json"))
    found += [run.path / name for name in names if name.endswith(".json")]
    found += sorted((run.path / "explained").glob("*.json"))
    return [path for path in found if path.is_file()]


def _references(run: RunFolder, path: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hashes of other files that a file holds, as those are now."""
    name = run.on_disk.name(path)
    if path.name == "member.json":
        return {FILES: _hashes(run, _left_by(run, path.parent))}
    if name == "ensemble.json":
        results = [file for file in OF_ENSEMBLE if (run.path / file).is_file()]
        return {RESULTS: results} if results else {}
    if name == "metrics.json":
        return {FILES: _hashes(run, [run.path / file for file in OF_METRICS])}
    if name.startswith("explained/"):
        thumbs = (value.get("points") or {}).get("thumbs")
        files = [run.plot(Path(shown["file"]).name) for shown in value.get("shown", ())]
        return {FILES: _hashes(run, [*files, *([run.explained(Path(thumbs).name)] if thumbs else [])])}
    return {}


def _left_by(run: RunFolder, folder: Path) -> list[Path]:
    """Return the files that a member's training left: those of its folder, and a segmenter's masks."""
    own = [folder / name for name in ("weights.safetensors", "outputs.safetensors", "history.csv")]
    return [*own, *sorted((run.path / "masks").rglob("*.png")), *sorted((run.path / "predictions").rglob("*.png"))]


def _hashes(run: RunFolder, paths: Iterable[Path]) -> dict[str, str]:
    return {run.on_disk.name(path): sha256_of(path) for path in sorted(paths) if path.is_file()}
