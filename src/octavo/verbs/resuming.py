"""Going on with a run that was stopped: which it is, how far it is, and whether it is still the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from octavo.engine.checkpoint_file import position, verify
from octavo.engine.folder import RunFolder
from octavo.engine.identity import DataIdentity, changes
from octavo.engine.material import Material
from octavo.engine.teacher import identity_of, teacher_of
from octavo.errors import UserError
from octavo.options import Options
from octavo.progress import Say
from octavo.recipe import Recipe, dumps
from octavo.words import counted


def place_of(first: Path, options: Options) -> Path:
    """Return where a run goes for which no folder was named: `first`, or with a number behind it where that is taken.

    A run that is to be gone on with, or to be deleted first, is the last one there.
    """
    taken = [first, *(first.with_name(f"{first.name}-{i}") for i in range(2, 10_000))]
    free = next(i for i, path in enumerate(taken) if not path.exists())
    return taken[max(free - 1, 0) if options.resume or options.overwrite else free]


def begun_before(
    out: Path, named: bool, options: Options, inputs: Mapping[str, Path | None], say: Say
) -> RunFolder | None:
    """Return the run to go on with, or None to begin one; refuses a folder that is taken before any work is done.

    A run that was killed before it began has left nothing: with recipe and data `named`, it simply begins. `inputs` are
    the files and folders that training reads, by what named them: none of them may be deleted.
    """
    if options.resume and (RunFolder(out).begun or not named):
        return RunFolder.open(out)
    RunFolder.new(out, overwrite=options.overwrite)
    if options.overwrite:
        for option, path in inputs.items():
            if path is not None and path.resolve().is_relative_to(out.resolve()):
                raise UserError(f"{option} {path}: lies in the run that --overwrite deletes; copy it elsewhere first")
    if options.resume:
        say(f"{out}: no run there yet to go on with; it starts from the beginning")
    return None


def all_trained(run: RunFolder) -> bool:
    """Tell whether every network of a run is trained, so that nothing that they started from is needed any more."""
    return all(run.member(network.name).finished for network in run.recipe.networks)


def how_far(run: RunFolder) -> str:
    """Return in words how much of a run is done."""
    recipe = run.recipe
    folders = {network.name: run.member(network.name) for network in recipe.networks}
    finished = [name for name, folder in folders.items() if folder.finished]
    if len(finished) == len(folders):
        return "all is trained; --overwrite trains it anew"
    name, folder = next((name, folder) for name, folder in folders.items() if not folder.finished)
    fold = next((fold for fold in range(recipe.folds) if not folder.fold(fold).finished), None)
    if fold is not None:
        name, folder = f"{name} fold {fold + 1}", folder.fold(fold)
    began = f"{name} starts"
    if folder.checkpoint.is_file():
        epoch, step = position(folder.checkpoint)
        began = f"{name} is in epoch {epoch + 1}, after {counted(step, 'step')} of it"
    return began if len(folders) == 1 else f"{len(finished)} of {len(folders)} members are trained, {began}"


def require_checkpoints(run: RunFolder) -> None:
    """Refuse to resume from a checkpoint that isn't what was written; the user decides to do without it.

    Raises:
        Damaged: the first such file, and how its network is trained from its start.
    """
    folders = [run.member(network.name) for network in run.recipe.networks]
    for folder in [*folders, *(top.fold(fold) for top in folders for fold in range(run.recipe.folds))]:
        if not folder.finished and folder.checkpoint.is_file():
            verify(folder.checkpoint, folder.best)


def require_taught_by(run: RunFolder, teacher: RunFolder) -> None:
    """Refuse to go on with a student under a teacher that answers otherwise than the one that it began with."""
    was, now = run.manifest.get("teacher"), identity_of(teacher)
    if was and was != now:
        raise UserError(
            f"{run.path}: --resume, but the ensemble in {teacher.path} is another than the one that it began with, or "
            f"was changed (by content {now[:8]}…, was {was[:8]}…); name that one, or choose another --out"
        )


def require_same(run: RunFolder, recipe: Recipe, material: Material, origins: Mapping[str, str]) -> None:
    """Refuse to go on with a run on another recipe, other data, under another teacher or from other weights."""
    teacher = None if all_trained(run) else teacher_of(recipe)
    if recipe.teacher and run.recipe.teacher:  # what the teacher says counts, not where it is
        recipe = recipe.taught_in(run.recipe.teacher)
    if run.recipe != recipe:
        pairs = zip(dumps(run.recipe).splitlines(), dumps(recipe).splitlines(), strict=False)
        was, now = next(((a, b) for a, b in pairs if a != b), ("fewer keys", "more keys"))
        raise UserError(
            f"{run.path}: --resume with another recipe (was: {was}; now: {now}); leave the recipe out, or "
            "choose another --out"
        )
    if teacher:
        require_taught_by(run, teacher)
    data, labels = run.manifest["data"], material.corrections.facts() if material.corrections else {}
    if data.get("labels", {}).get("sha256") != labels.get("sha256"):
        raise UserError(
            f"{run.path}: --resume, but the corrected labels are others now ({labels.get('file', 'none')}, was "
            f"{data.get('labels', {}).get('file', 'none')}); restore the file, or choose another --out"
        )
    if found := changes(DataIdentity.of_run(run), material.identity(run.recipe)):
        raise UserError(
            f"{run.path}: --resume, but the images or labels in {material.samples.root} have changed since: "
            f"{'; '.join(found)}; restore them, or choose another --out"
        )
    for name, digest in origins.items():
        if run.manifest["weights"][name] != digest:
            raise UserError(
                f"{run.path}: --resume, but the weights that {name} starts from are another file now (sha256 "
                f"{digest[:8]}…, was {run.manifest['weights'][name][:8]}…); name the folder by --weights-dir"
            )
