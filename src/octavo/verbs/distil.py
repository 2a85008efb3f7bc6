"""A run's ensemble → one network that learns from its answers, and how much of the ensemble's gain it keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.metrics import METRICS, accuracy_of
from octavo.numbers.results import DistilReport
from octavo.options import Options
from octavo.progress import Progress, Say, silent, unsaid
from octavo.recipe import ClassifyRecipe, Recipe, load
from octavo.verbs.training import train

_RULE = (
    "The student saw the training images alone, with their labels and with the ensemble's answers on them. The best "
    "single member is the one that is best on these very images, which flatters it."
)


def distil(
    teacher: RunFolder,
    student: str,
    overrides: Iterable[str] = (),
    options: Options | None = None,
    *,
    data: str | None = None,
    temperature: float = 2.0,
    weight: float = 0.9,
    progress: Progress = silent,
    say: Say = unsaid,
) -> tuple[RunFolder, DistilReport]:
    """Train one network on the soft labels of a run's ensemble; return its run, and how it does beside its teacher.

    Args:
        teacher: a finished run of classifiers.
        student: a member's name, or a backbone; of a backbone that no member has, the published weights are taken and
            the head of the first member.
        overrides: changes of the student's recipe, such as `train.epochs=30`.
        options: how to run it; `out` is RUN-STUDENT beside the teacher's folder by default; layout, corrected labels
            and skipping are the teacher's.
        data: folder or CSV file; the teacher's by default.
        temperature: see `recipe.distil`.
        weight: see `recipe.distil`.
        progress: told how far it is.
        say: told what a user should know before it starts.

    Raises:
        UserError: as `train`; a teacher that is a segmenter, isn't finished, or knows other classes.
    """
    options = options or Options()
    manifest, name = teacher.manifest, student.removeprefix("timm:")
    options = replace(options, out=options.out or teacher.path.with_name(f"{teacher.path.name}-{name}"))
    same = ("labels", "layout", "skip_broken")
    options = options.over({key: kept for key, kept in manifest["options"].items() if key in same})
    if not options.resume:
        recipe = _recipe(teacher, student, temperature, weight)
        chosen: Recipe | None = load(recipe, overrides)
    else:
        chosen = None
    source = data or (None if options.resume else str(manifest["data"]["root"]))
    run = train(chosen, source, () if chosen else overrides, options, progress=progress, say=say)
    report = compared(teacher, run)
    run.write_distil(report.model_dump(mode="json"))
    return run, report


def _recipe(teacher: RunFolder, student: str, temperature: float, weight: float) -> Recipe:
    """Return the teacher's recipe with one member, which learns from the teacher."""
    recipe = teacher.recipe_as(ClassifyRecipe)
    known = {member.backbone: member for member in reversed(recipe.members)}
    known |= {member.name: member for member in recipe.members}
    table: dict[str, Any] = recipe.model_dump(mode="json", exclude_none=True)
    if student in known:
        member = known[student].model_dump(mode="json", exclude_none=True)
    else:
        head = recipe.members[0].head.model_dump(mode="json", exclude_none=True)
        member = {"name": student.removeprefix("timm:"), "backbone": student, "head": head}
    table["name"] = f"{recipe.name}-{member['name']}"
    table["description"] = f"{member['name']}, taught by the ensemble of {recipe.name}"
    table["members"], table["ensemble"] = [member], {"combine": "mean_logit"}
    table["data"] = table["data"] | {"folds": 0}
    table["augment"] = table["augment"] | {"mixup": 0.0, "cutmix": 0.0}
    table["distil"] = {"run": str(teacher.path.resolve()), "temperature": temperature, "weight": weight}
    return load(type(recipe).model_validate(table))


def compared(teacher: RunFolder, student: RunFolder) -> DistilReport:
    """Return how a student does beside its teacher on the validation images of both.

    Raises:
        UserError: they were scored on different images.
    """
    labels = teacher.labels("val")
    if not np.array_equal(labels, student.labels("val")):
        raise UserError(
            f"{student.path}: its validation images aren't those of {teacher.path}; compare by octavo score"
        )
    ensemble, own = teacher.ensemble, student.ensemble
    stack = np.stack([teacher.member(name).outputs()["val"] for name in ensemble.names])
    taught = np.stack([student.member(name).outputs()["val"] for name in own.names])
    right = (stack.argmax(2) == labels).mean(1)
    best = int(right.argmax())
    answers = {"best": stack[best].argmax(1), "ensemble": ensemble.logits(stack).argmax(1)}
    answers["student"] = own.logits(taught).argmax(1)
    boot = Bootstrap(labels, seed=teacher.recipe.seed, groups=teacher.groups("val"))
    draws = boot.draw({name: accuracy_of(called, labels) for name, called in answers.items()})
    share = {name: float((called == labels).mean()) for name, called in answers.items()}
    above = share["ensemble"] - share["best"]
    metric = METRICS["accuracy"]

    def gap(a: str, b: str):
        return boot.difference(draws[a], draws[b], same=bool((answers[a] == answers[b]).all()))

    return DistilReport(
        student=own.names[0],
        best=ensemble.names[best],
        scored=len(labels),
        best_accuracy=boot.interval(draws["best"], metric),
        ensemble_accuracy=boot.interval(draws["ensemble"], metric),
        student_accuracy=boot.interval(draws["student"], metric),
        gain=gap("student", "best"),
        gap=gap("ensemble", "student"),
        share=(share["student"] - share["best"]) / above if above > 0 else None,
        rule=f"{_RULE} {boot.rule}",
    )
