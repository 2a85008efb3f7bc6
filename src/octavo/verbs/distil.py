"""A run's ensemble → one network that learns from its answers, and how much of the ensemble's gain it keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from octavo.engine.folder import RunFolder
from octavo.engine.identity import DataIdentity, changed_parts
from octavo.engine.material import Material
from octavo.errors import UserError
from octavo.numbers.speed_results import DistilReport
from octavo.options import Options
from octavo.progress import Progress, Say, silent, unsaid
from octavo.recipe import Recipe, member_name
from octavo.tasks.known import task_of
from octavo.verbs.resuming import place_of, require_taught_by
from octavo.verbs.training import train


def distil(
    teacher: RunFolder,
    student: str,
    overrides: Iterable[str] = (),
    options: Options | None = None,
    *,
    data: str | None = None,
    temperature: float | None = None,
    weight: float | None = None,
    progress: Progress = silent,
    say: Say = unsaid,
) -> tuple[RunFolder, DistilReport]:
    """Train one network on the soft labels of a run's ensemble; return its run, and how it does beside its teacher.

    Args:
        teacher: a finished run of classifiers.
        student: a member's name, or a backbone; of a backbone that no member has, the published weights are taken and
            the head of the first member.
        overrides: changes of the student's recipe, such as `train.epochs=30`.
        options: how to run it; `out` is RUN-STUDENT beside the teacher's folder by default, with a number where
            that is taken. The folder of weights is the teacher's; layout, corrected labels and skipping are too where
            the data are.
        data: folder or CSV file with the teacher's validation images; the teacher's by default.
        temperature: see `recipe.distil`; by default 2, or with `options.resume` what the run began with.
        weight: see `recipe.distil`; by default 0.9, or with `options.resume` what the run began with.
        progress: told how far it is.
        say: told what a user should know before it starts.

    Raises:
        UserError: as `train`; a teacher that is a segmenter, isn't finished, knows other classes or was scored on
            other images; with `options.resume` another teacher, student, temperature or weight than then.
    """
    task, options = task_of(teacher.recipe), options or Options()
    options = replace(options, out=options.out or place_of(_beside(teacher, student), options))
    own = {name: value for name, value in {"temperature": temperature, "weight": weight}.items() if value is not None}
    before = _begun(options)
    if before:
        require_taught_by(before, teacher)
        recipe, source = task.resumed_student(before, teacher, student, own), data
    else:
        recipe, source = (
            task.student_recipe(teacher, student, overrides, own),
            data or str(teacher.manifest["data"]["root"]),
        )
        options = _inherited(teacher, options, data)

    def approve(material: Material, origins: Mapping[str, str]) -> None:
        _require_same_images(teacher, material, recipe)

    changes = overrides if before else ()
    run = train(recipe, source, changes, options, progress=progress, say=say, approve=approve)
    if run.distil is None:
        raise UserError(f"{run.path}: trained, but not compared with {teacher.path}, for the reason above")
    return run, run.distil


def _beside(teacher: RunFolder, student: str) -> Path:
    """Return the folder of a student for which none was named."""
    place = teacher.path if teacher.path.name not in ("", "..") else teacher.path.resolve()
    return place.with_name(f"{place.name}-{member_name(student)}")


def _begun(options: Options) -> RunFolder | None:
    """Return the student to go on with; None: it is to begin, though it may be said to go on."""
    run = RunFolder(options.out) if options.resume and options.out else None
    return RunFolder.open(run.path) if run and run.begun else None


def _inherited(teacher: RunFolder, options: Options, data: str | None) -> Options:
    """Return the options with the teacher's where none are given; those of its data only where those are taken."""
    same = ("weights_dir",) if data else ("weights_dir", "labels", "layout", "columns", "skip_broken")
    return options.over({key: kept for key, kept in teacher.manifest.get("options", {}).items() if key in same})


def _require_same_images(teacher: RunFolder, material: Material, recipe: Recipe) -> None:
    """Refuse data whose validation images aren't the teacher's: the two are compared on them, image by image."""
    then, now = DataIdentity.of_run(teacher), material.identity(recipe)
    found = changed_parts(then, now, "val")
    if found:
        raise UserError(
            f"{material.data}: its validation images aren't those of {teacher.path}, on which the two are compared: "
            f"{'; '.join(found)}; restore them, and leave --data, seed and data.val as they were"
        )
