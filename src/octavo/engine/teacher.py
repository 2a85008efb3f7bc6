"""Teacher of a recipe: the finished run whose ensemble a student learns from, and its identity."""

from __future__ import annotations

from octavo.engine.features import key_of
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.recipe import Recipe


def teacher_of(recipe: Recipe) -> RunFolder | None:
    """Return the run that teaches; None: the recipe names none.

    Raises:
        UserError: there is no run where the recipe says.
    """
    if not recipe.teacher:
        return None
    try:
        return RunFolder.open(recipe.teacher)
    except UserError as error:
        raise UserError(
            f"distil.run: {error}; where a teacher was moved to is told by octavo distil PLACE … --resume, "
            "octavo reproduce … --teacher PLACE, or --set distil.run=PLACE"
        ) from None


def identity_of(run: RunFolder) -> str:
    """Return a name for what a run's ensemble answers, by content: the same wherever the run lies.

    The weights aren't read, those of folds neither: each member's stored outputs follow from them.

    Raises:
        UserError: it isn't finished.
    """
    require_finished(run)
    ensemble, half = run.ensemble, run.bf16
    files = {name: run.member(name) for name in ensemble.names}
    return key_of(
        ensemble=ensemble.to_dict(),
        members={name: [member.facts(), member.outputs_digest()] for name, member in files.items()},
        bf16=half and [half["device"], sorted(half.get("members", ()))],
    )


def require_finished(run: RunFolder) -> None:
    """Refuse a run whose ensemble has members that aren't trained yet.

    Raises:
        UserError: the first of them, and how to train it.
    """
    if unfinished := [name for name in run.ensemble.names if not run.member(name).finished]:
        raise UserError(f"{run.path}: {unfinished[0]} is not trained yet; go on with `{run.resume}`")
