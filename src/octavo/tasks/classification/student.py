"""A finished student beside the ensemble that taught it."""

from __future__ import annotations

from octavo.engine.folder import RunFolder
from octavo.engine.identity import DataIdentity, changed_parts
from octavo.engine.teacher import identity_of
from octavo.errors import Damaged, UserError
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.exact import paired_p
from octavo.numbers.metrics import METRICS, accuracy_of
from octavo.numbers.speed_results import DistilReport
from octavo.progress import Say
from octavo.recipe import ClassifyRecipe

_RULE = (
    "The student saw the training images alone, with their labels and with the ensemble's answers on them. The best "
    "single member is the one that is best on these very images, which flatters it."
)


def graduate(student: RunFolder, teacher: RunFolder, say: Say) -> None:
    """Keep how a finished student does beside its teacher; where the two can't be compared, say why."""
    if why := _against(student, teacher):
        say(f"note: not compared with the ensemble that taught it: {why}")
    else:
        student.distil = compared(teacher, student)


def is_compared(student: RunFolder, say: Say) -> bool:
    """Tell whether a student was compared with its teacher; a damaged comparison is told, and counts as none."""
    try:
        return student.distil is not None
    except Damaged as error:
        say(f"note: {error}")
        return False


def _against(student: RunFolder, teacher: RunFolder) -> str:
    """Return why a student can't be compared with its teacher; empty where it can."""
    try:
        RunFolder.open(teacher.path)
        was, now = student.manifest.get("teacher"), identity_of(teacher)
        if was and was != now:
            return f"{teacher.path} is another than taught it, or was changed since"
        if found := changed_parts(DataIdentity.of_run(teacher), DataIdentity.of_run(student), "val"):
            return f"{teacher.path} was scored on other images: {'; '.join(found)}"
    except (UserError, OSError) as error:
        return str(error)
    return ""


_TRAINED = {"frozen": "the head alone", "finetune": "all layers"}


def _otherwise(teacher: RunFolder, student: RunFolder) -> str:
    """Return what else sets a student apart from members that were trained in another mode; empty: none was."""
    then, now = teacher.recipe_as(ClassifyRecipe), student.recipe_as(ClassifyRecipe)
    own = now.train_of(now.members[0]).mode
    others = [member.name for member in then.members if then.train_of(member).mode != own]
    if not others:
        return ""
    (other,) = set(_TRAINED) - {own}
    return (
        f"The student trained {_TRAINED[own]}, {', '.join(others)} {_TRAINED[other]}: that is in these differences too."
    )


def compared(teacher: RunFolder, student: RunFolder) -> DistilReport:
    """Return how a student does beside its teacher on the validation images, which have to be the same."""
    labels = teacher.labels("val")
    ensemble, own = teacher.ensemble, student.ensemble
    stack, taught = teacher.outputs("val"), student.outputs("val")
    right = (stack.argmax(2) == labels).mean(1)
    best = int(right.argmax())
    answers = {"best": stack[best].argmax(1), "ensemble": ensemble.logits(stack).argmax(1)}
    answers["student"] = own.logits(taught).argmax(1)
    twin = ensemble.names.index(own.names[0]) if len(own.names) == 1 and own.names[0] in ensemble.names else best
    answers["untaught"] = stack[twin].argmax(1)
    boot = Bootstrap(labels, groups=teacher.groups("val"))
    draws = boot.draw({name: accuracy_of(called, labels) for name, called in answers.items()})
    share = {name: float((called == labels).mean()) for name, called in answers.items()}
    above = share["ensemble"] - share["best"]
    metric = METRICS["accuracy"]

    def gap(a: str, b: str):
        return boot.difference(draws[a], draws[b], same=bool((answers[a] == answers[b]).all()))

    right_of = {name: called == labels for name, called in answers.items()}
    return DistilReport(
        student=own.names[0] if len(own.names) == 1 else f"{len(own.names)} members",
        best=ensemble.names[best],
        scored=len(labels),
        best_accuracy=boot.interval(draws["best"], metric),
        ensemble_accuracy=boot.interval(draws["ensemble"], metric),
        student_accuracy=boot.interval(draws["student"], metric),
        gain=gap("student", "best"),
        gap=gap("ensemble", "student"),
        gain_p=paired_p(right_of["student"], right_of["best"]),
        above_p=paired_p(right_of["ensemble"], right_of["best"]),
        untaught=boot.interval(draws["untaught"], metric) if twin != best else None,
        taught=gap("student", "untaught") if twin != best else None,
        share=(share["student"] - share["best"]) / above if above > 0 else None,
        rule=" ".join(filter(None, (_RULE, _otherwise(teacher, student), boot.rule))),
    )
