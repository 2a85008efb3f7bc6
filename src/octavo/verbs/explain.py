"""A run → pictures of it, in its folder `plots`: masks by stage, training curves, confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from octavo.cache import cache_dir
from octavo.data import torchvision_data
from octavo.data.classes import ClassTable
from octavo.data.doctor import resolve
from octavo.data.masks import MaskDecoder, paint
from octavo.data.pairs import Pairs
from octavo.data.pixels import BrokenImage, decode
from octavo.engine.folder import RunFolder
from octavo.engine.scenes import mask_names
from octavo.errors import UserError
from octavo.numbers import plots
from octavo.progress import Progress, Say, silent, unsaid
from octavo.recipe import Recipe, SegmentRecipe

_STAGES = ("early", "middle")


def explain(run: RunFolder, *, progress: Progress = silent, say: Say = unsaid) -> list[Path]:
    """Draw a run and return the files: `history.png`, `confusion.png`, and of a segmenter `stages.png`.

    That is the table of predicted masks by stage: original, truth, early, middle, final.

    Args:
        run: a run; the pictures go to its folder `plots`.
        progress: told after every picture.
        say: told what a picture lacks.

    Raises:
        UserError: nothing is trained yet, or the data that the run was made of are gone or others.
    """
    recipe = run.recipe
    trained = [network.name for network in recipe.networks if run.member(network.name).finished]
    if not trained:
        raise UserError(f"{run.path}: nothing is trained yet; go on with `octavo train --resume --out {run.path}`")
    drawings = {"history": lambda: plots.training_curves(_history(run, trained))}
    if isinstance(recipe, SegmentRecipe):
        names = run.table.names
        drawings["confusion"] = lambda: plots.confusion_matrix(_pixels_counted(run, trained[0], len(names)), names)
        if run.stages():
            drawings["stages"] = lambda: _stage_table(run, recipe, say)
        else:
            say("no masks by stage were kept: the recipe's stages name no image or no epoch")
    else:
        drawings["confusion"] = lambda: plots.confusion_matrix(_images_counted(run), run.manifest["classes"])
    files = []
    for name, draw in drawings.items():
        files.append(plots.save(draw(), run.path / "plots" / f"{name}.png"))
        progress("explain", len(files), len(drawings))
    return files


def _history(run: RunFolder, names: Sequence[str]) -> list[dict[str, str]]:
    rows = [(name, row) for name in names for row in run.member(name).history()]
    return [{"member": name, **row} if len(names) > 1 else row for name, row in rows]


def _pixels_counted(run: RunFolder, name: str, classes: int) -> np.ndarray:
    """Return pixels of the validation images by true and predicted class, int64 [C,C]."""
    return run.member(name).outputs()["val"].sum(0)[:classes, :classes]


def _images_counted(run: RunFolder) -> np.ndarray:
    """Return validation images by true and predicted class, int64 [C,C]."""
    ensemble, classes = run.ensemble, len(run.manifest["classes"])
    logits = np.stack([run.member(name).outputs()["val"] for name in ensemble.names])
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (run.labels("val"), ensemble.logits(logits).argmax(1)), 1)
    return counts


def _stage_table(run: RunFolder, recipe: SegmentRecipe, say: Say) -> plots.Figure:
    """Return the reference's table; what is missing in it is said."""
    pairs = _pairs(run)
    decoder = resolve(pairs, run.table, recipe.data.tolerant)
    stages = _columns(run, recipe, say)
    shown = {
        path.relative_to(folder).with_suffix("").as_posix() for _, folder in stages for path in folder.rglob("*.png")
    }
    parts = [row["part"] for row in run.samples()]
    names = mask_names(pairs.files, parts)
    places = [i for i, name in enumerate(names) if name in shown and parts[i] == "val"]
    if lost := sorted(shown - {names[i] for i in places}):
        raise UserError(f"{pairs.root}: has no image of the kept mask {lost[0]}.png any more; restore it")
    rows = []
    for place in places:
        masks = (folder / f"{names[place]}.png" for _, folder in stages)
        pictures = (_picture(pairs.path(place)), _truth(pairs, place, decoder), *map(_kept, masks))
        rows.append(plots.StageRow(names[place], pictures))
    if any(picture is None for row in rows for picture in row.pictures):
        say("some masks of some stages are missing; their places are empty")
    return plots.stage_table(rows, ("original", "truth", *(header for header, _ in stages)), _legend(run.table))


def _legend(table: ClassTable) -> dict[str, tuple[int, int, int]]:
    return {entry.name: entry.colour for entry in table.entries}


def _pairs(run: RunFolder) -> Pairs:
    """Return the images and masks that the run was trained on."""
    data = run.manifest["data"]
    root = str(data["root"])
    if not root.startswith("torchvision:") and not Path(root).exists():
        raise UserError(f"{run.path}: its data are gone from {root}; put them back there to draw masks by stage")
    cache = run.manifest["options"].get("cache")
    pairs = torchvision_data.read_pairs(root, data["layout"], cache=Path(cache) if cache else cache_dir())
    if [row["file"] for row in run.samples()] != list(pairs.files):
        raise UserError(f"{root}: its files are others than those that {run.path} was trained on; restore them")
    return pairs


def _columns(run: RunFolder, recipe: SegmentRecipe, say: Say) -> list[tuple[str, Path]]:
    """Return header and folder of each stage; an epoch that the recipe names but that has no masks is noted."""
    found, epochs = run.stages(), recipe.stage_epochs
    columns = []
    for place, epoch in enumerate(epochs):
        name = f"epoch_{epoch:03d}"
        if name not in found:
            say(f"epoch {epoch} has no masks, so its column is left out: training did not get that far")
            continue
        header = f"{_STAGES[place]}\nepoch {epoch}" if len(epochs) == len(_STAGES) else f"epoch {epoch}"
        columns.append((header, found[name]))
    if "best" in found:
        columns.append((f"final\nepoch {_final_epoch(run, recipe)}", found["best"]))
    return columns


def _final_epoch(run: RunFolder, recipe: Recipe) -> int:
    """Return the epoch whose weights the segmenter became."""
    name = recipe.networks[0].name
    history = run.member(name).history()
    scored = [row for row in history if row.get("holdout_miou")]
    if recipe.train_of(recipe.networks[0]).keep == "best" and scored:
        return int(max(scored, key=lambda row: float(row["holdout_miou"]))["epoch"])
    return int(history[-1]["epoch"])


def _picture(path: Path) -> np.ndarray:
    try:
        return decode(path)
    except BrokenImage as error:
        raise UserError(f"{path}: {error}; put the data back as they were") from error


def _truth(pairs: Pairs, place: int, decoder: MaskDecoder) -> np.ndarray:
    path = pairs.mask_path(place)
    try:
        return paint(decoder.decode(path)[..., 0], decoder.table)
    except BrokenImage as error:
        raise UserError(f"{path}: {error}; put the data back as they were") from error


def _kept(path: Path) -> np.ndarray | None:
    return decode(path) if path.is_file() else None
