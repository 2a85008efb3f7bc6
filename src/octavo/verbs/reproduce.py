"""A finished run → the same training once more, from what its folder records, and whether it came out the same."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from octavo.cache import cache_dir
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.material import Material
from octavo.engine.trained_files import done
from octavo.errors import UserError, lookup
from octavo.options import Options
from octavo.progress import Progress, Say, silent, unsaid
from octavo.recipe import Recipe
from octavo.tasks.classification.evaluation import regrade
from octavo.verbs.conditions import (
    changed_data,
    changed_teacher,
    changed_weights,
    other_surroundings,
    surroundings,
)
from octavo.verbs.differing import Comparison, compare_runs
from octavo.verbs.training import train


@dataclass(frozen=True)
class Reproduction:
    """A run that was trained once more.

    Attributes:
        original: the run.
        run: its repetition.
        members: those that were trained again; empty: all.
        conditions: in what code, machine, data or weights were others than then, a line each.
        comparison: what came out otherwise.
    """

    original: RunFolder
    run: RunFolder
    members: tuple[str, ...]
    conditions: tuple[str, ...]
    comparison: Comparison

    @property
    def identical(self) -> bool:
        """Whether every bit that both runs recorded is the same."""
        return not self.comparison.differences

    def lines(self) -> list[str]:
        """Return the outcome in words: differences by member, what couldn't be compared, the verdict."""
        found = self.comparison
        names = self.members or tuple(network.name for network in self.original.recipe.networks)
        places: dict[str, list[str]] = {name: [] for name in (*names, "ensemble")}
        for difference in found.differences:
            places.setdefault(difference.where, []).append(difference.text)
        lines = [f"{name}: bit-identical" for name in names if not places[name]]
        for place, texts in places.items():
            alone = len(texts) == 1 and texts[0].startswith(place)
            lines += texts if alone or not texts else [f"{place}: differs", *(f"  {text}" for text in texts)]
        lines += [f"not as then: {condition}" for condition in self.conditions if not self.identical]
        lines += [f"note: {note}" for note in found.notes]
        if self.members:
            lines.append("note: the ensemble and its numbers need all members; they were not compared")
        compared = ", ".join(f"{count:,} {what}" for what, count in found.counts.items())
        verdict = "bit-identical" if self.identical else "not bit-identical"
        return [*lines, f"{verdict}: {self.run.path} and {self.original.path} ({compared} compared)"]


def reproduce(
    run: RunFolder,
    options: Options | None = None,
    *,
    data: str | Path | None = None,
    members: Sequence[str] = (),
    teacher: str | Path | None = None,
    anyway: bool = False,
    progress: Progress = silent,
    say: Say = unsaid,
) -> Reproduction:
    """Train a finished run once more as its manifest and recipe say, in a folder of its own, and compare the two.

    Files are decoded and features computed anew, beside the new run's folder, and removed in the end; with
    `options.cache` they are taken from there.

    Args:
        run: the run.
        options: `out` (RUN-reproduced by default), `weights_dir`, `device` and `cache`, where they are others than
            then; `resume` goes on with a reproduction that was stopped, `overwrite` deletes what is in `out`.
        data: where the data are now.
        members: only these are trained; the ensemble isn't compared then.
        teacher: where the run is now that a student learned from.
        anyway: go on though data, weights, teacher or recipe are others than then.
        progress: told how far it is.
        say: told, a line each, what isn't as it was then.

    Raises:
        UserError: an unfinished run, changed data, weights, teacher or recipe, and whatever training refuses.
        Interrupted: the user asked to stop; `options.resume` goes on.
    """
    options, manifest = options or Options(), run.manifest
    if not done(run):
        raise UserError(f"{run.path}: this run is not finished, so there is nothing to reproduce; {_go_on(run)}")
    out = _apart(run, options.out)
    if not options.resume:
        RunFolder.new(out, overwrite=options.overwrite)  # refuses what is taken
    recipe, names = _taught(run, _recipe(run, members), teacher), tuple(dict.fromkeys(members))
    given = _as_then(manifest, options, out)
    found: list[str] = []

    def tell(line: str) -> None:
        found.append(line)
        say(line)

    def approve(material: Material, origins: Mapping[str, str]) -> None:
        root = data or manifest["data"]["root"]
        _allow(run, changed_data(run, material), f"restore the data in {root}, or name the right ones by --data",
               anyway, tell)  # fmt: skip
        _allow(run, changed_weights(run, origins), "name the folder of the right ones by --weights-dir", anyway, tell)
        _allow(run, changed_teacher(run, recipe), "name the place of the right one by --teacher", anyway, tell)

    _allow(run, _changed_records(run, manifest), "put them back as they were", anyway, tell)
    with _threads(manifest["hardware"].get("threads")), _scratch(out, options) as scratch:
        hardware = find(given.device, given.devices)
        lines, unrecorded = other_surroundings(manifest, surroundings(hardware))
        for line in lines:
            tell(line)
        if unrecorded:
            say(f"not recorded then, so not compared: {', '.join(unrecorded)}")
        root = str(data or manifest["data"]["root"])
        again = train(recipe, root, (), given, progress=progress, say=say, scratch=scratch, approve=approve)
        if not names:
            _prune_alike(run, again, say)
        return Reproduction(run, again, names, tuple(found), compare_runs(run, again, names, progress=progress))


def asked(run: RunFolder, out: str | Path | None, given: Mapping[str, Any]) -> Reproduction:
    """Reproduce with arguments of `reproduce` and fields of `Options` side by side, as they are given in Python."""
    names = {field.name for field in fields(Options)}
    options = Options(out=Path(out) if out else None, **{k: v for k, v in given.items() if k in names})
    return reproduce(run, options, **{k: v for k, v in given.items() if k not in names})


def _go_on(run: RunFolder) -> str:
    return f"go on with it by `{run.resume}`"


def _apart(run: RunFolder, out: Path | None) -> Path:
    """Return the folder of the reproduction; refuses one that is the run's own, or in it."""
    whole = run.path.resolve()
    out = out or (run.path if run.path.name else whole).with_name(f"{whole.name}-reproduced")
    if whole in (out.resolve(), *out.resolve().parents):
        raise UserError(f"--out {out}: is the folder of the run itself; choose another")
    if out.resolve() in whole.parents:
        raise UserError(f"--out {out}: the run that is to be reproduced lies in it; choose another")
    return out


def _recipe(run: RunFolder, members: Sequence[str]) -> Recipe:
    """Return the run's recipe, with some of its members alone if they are named."""
    recipe = run.recipe
    known = {network.name: network for network in recipe.networks}
    for name in members:
        lookup(known, name, "--member")
    return recipe.of_members(members) if members and set(members) < set(known) else recipe


def _taught(run: RunFolder, recipe: Recipe, teacher: str | Path | None) -> Recipe:
    """Return a student's recipe with its teacher where it is now."""
    if teacher is None:
        return recipe
    if not recipe.teacher:
        raise UserError(f"--teacher {teacher}: {run.path} learned from no other run; leave it away")
    return recipe.taught_in(str(Path(teacher).absolute()))


def _as_then(manifest: Mapping[str, Any], options: Options, out: Path) -> Options:
    """Return the options of the run where none are given."""
    known = {field.name for field in fields(Options)} - {"tensorboard", "report", "out", "resume", "overwrite"}
    kept = {"device": manifest["hardware"]["device"], **manifest.get("options", {})}
    own = Options(out, None, options.weights_dir, options.cache, options.device, options.devices,
                  options.resume, options.overwrite)  # fmt: skip
    return own.over({name: value for name, value in kept.items() if name in known})


def _prune_alike(run: RunFolder, again: RunFolder, say: Say) -> None:
    """Give the repetition of a run that was pruned the pruned ensemble too, where training led to the same one."""
    if run.unpruned is None or run.unpruned == run.ensemble or again.unpruned is not None:
        return
    same = again.ensemble == run.unpruned
    if same:
        again.prune(run.ensemble)
        regrade(again)
    say(
        "the ensemble was pruned after training; "
        + ("the repetition's is pruned alike" if same else "the repetition's is another already before that")
    )


def _changed_records(run: RunFolder, manifest: Mapping[str, Any]) -> list[str]:
    """Return which of the run's own records are others than its manifest says they were."""
    recorded = {"recipe.toml": manifest.get("recipe"), "samples.csv": manifest["data"].get("samples")}
    return [
        f"its {name} was changed after the training began"
        for name, digest in recorded.items()
        if digest and hashlib.sha256((run.path / name).read_bytes()).hexdigest() != digest
    ]


def _allow(run: RunFolder, changes: Sequence[str], mend: str, anyway: bool, tell: Say) -> None:
    """Tell of changes without which a run can't be reproduced, or refuse to go on with them."""
    if changes and not anyway:
        raise UserError(f"{run.path}: can't be reproduced: {'; '.join(changes)}; {mend}, or go on by --anyway")
    for change in changes:
        tell(f"{change}: the run will differ")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute on as many threads as then: the order in which sums are added depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _scratch(out: Path, options: Options) -> Iterator[Path | None]:
    """Give an empty cache beside `out`, or that of a reproduction to go on with; it stays only for another to go on.

    Data sets of torchvision are taken from the cache, for they would be downloaded again.
    """
    if options.cache:
        yield None
        return
    folder = out.with_name(f".{out.name}.cache")
    if not options.resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    datasets = cache_dir() / "datasets"
    with suppress(OSError):
        if datasets.is_dir() and not (folder / "datasets").exists():
            (folder / "datasets").symlink_to(datasets.resolve(), target_is_directory=True)
    try:
        yield folder
    except UserError:
        if not RunFolder(out).begun:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
