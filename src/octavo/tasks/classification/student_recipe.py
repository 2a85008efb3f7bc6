"""Recipe of a student: one member that learns from the ensemble of a teacher's recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.recipe import ClassifyRecipe, load, member_name

_HOLDOUT = 0.1
"""Share of the training images held out for a student whose teacher held out folds alone."""


def resumed(run: RunFolder, teacher: RunFolder, student: str, own: Mapping[str, float]) -> ClassifyRecipe:
    """Return the recipe of a student to go on with, its teacher where it is now; refuses another than it began as."""
    recipe, asked = run.recipe_as(ClassifyRecipe), _member(teacher.recipe_as(ClassifyRecipe), student)
    if not recipe.distil.run:
        raise UserError(f"{run.path}: is a run that no other teaches; choose another --out")
    member = recipe.members[0]
    if student != member.name and (asked["name"], asked["backbone"]) != (member.name, member.backbone):
        raise UserError(
            f"--student {student}: the one in {run.path} is {member.name} ({member.backbone}); name that, or choose "
            "another --out"
        )
    for name, value in own.items():
        if value != (was := getattr(recipe.distil, name)):
            raise UserError(f"--{name} {value:g}: {run.path} began with {was:g}; leave it out, or choose another --out")
    return recipe.taught_in(str(teacher.path.resolve()))


def recipe_of(
    teacher: RunFolder, student: str, overrides: Iterable[str] = (), own: Mapping[str, float] | None = None
) -> ClassifyRecipe:
    """Return a teacher's recipe with one member, which learns from it; `own` are its temperature and weight.

    Raises:
        UserError: the teacher is a segmenter, or what comes of the overrides is no recipe.
    """
    recipe = teacher.recipe_as(ClassifyRecipe)
    member = _member(recipe, student)
    table: dict[str, Any] = recipe.model_dump(mode="json", exclude_none=True)
    table["name"] = f"{recipe.name}-{member['name']}"
    table["description"] = f"{member['name']}, taught by the ensemble of {recipe.name}"
    table["members"], table["ensemble"] = [member], {"combine": "mean_logit"}
    # Where the teacher chose epochs on images out of fold, the student has to hold some out.
    holdout = recipe.data.holdout or (_HOLDOUT if recipe.folds else 0.0)
    table["data"] |= {"folds": 0, "holdout": holdout}
    table["augment"] |= {"mixup": 0.0, "cutmix": 0.0}
    table["distil"] = {"run": str(teacher.path.resolve()), **(own or {})}
    made = cast(ClassifyRecipe, load(table, overrides))
    if made.data.stored != recipe.data.stored:
        return made  # an override says otherwise
    # The teacher sees images as large as those that it was trained on: the size of its largest member made them.
    stored = max(recipe.stored_side, made.stored_side)
    return made.model_copy(update={"data": made.data.model_copy(update={"stored": stored})})


def _member(recipe: ClassifyRecipe, student: str) -> dict[str, Any]:
    """Return the member that `student` names in a teacher's recipe, or a new one of that backbone."""
    known = {member.backbone: member for member in reversed(recipe.members)}
    known |= {member.name: member for member in recipe.members}
    if student in known:
        return known[student].model_dump(mode="json", exclude_none=True)
    head = recipe.members[0].head.model_dump(mode="json", exclude_none=True)
    return {"name": member_name(student), "backbone": student, "head": head}
