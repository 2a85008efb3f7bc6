"""Predicted masks while a segmenter learns: the same images after some epochs, for people to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import nn

from octavo.errors import UserError, suggest
from octavo.recipe import SegmentRecipe, Stages


def chosen_images(stages: Stages, files: Sequence[str], val: np.ndarray) -> np.ndarray:
    """Return which validation images are kept by stage, int64: those that are named, or some, evenly spaced.

    Args:
        stages: what the recipe says; an image is named by its path, its name, its stem, or the stem up to an
            underscore where no other has the same (`0010` for `0010_sat.jpg`).
        files: names of all images.
        val: int64 [n], the validation images.

    Raises:
        UserError: a name that is none of theirs.
    """
    if not stages.images:
        count = min(stages.count, len(val))
        return val[np.linspace(0, len(val) - 1, count).round().astype(np.int64)] if count else val[:0]
    known: dict[str, int] = {}
    paths = {int(index): PurePosixPath(files[int(index)]) for index in val.tolist()}
    begin = Counter(path.stem.split("_")[0] for path in paths.values())
    known |= {name: i for i, path in paths.items() if begin[name := path.stem.split("_")[0]] == 1}
    for called in (lambda path: path.stem, lambda path: path.name, str):  # the fuller name wins
        known |= {called(path): i for i, path in reversed(paths.items())}
    for name in stages.images:
        if name not in known:
            raise UserError(f'stages.images: no validation image "{name}"{suggest(name, known)}')
    return np.array(list(dict.fromkeys(known[name] for name in stages.images)), np.int64)


class StageMasks(pl.Callback):
    """Writes the masks of chosen images after chosen epochs, by the weights that the network would become then.

    They are written before the next checkpoint, so a training that goes on after being killed has them all.
    """

    def __init__(
        self,
        epochs: Sequence[int],
        predict: Callable[[nn.Module], Iterator[tuple[int, np.ndarray]]],
        write: Callable[[int, int, np.ndarray], None],
        written: Callable[[], None],
    ) -> None:
        """`predict` gives places and ids uint8 [H,W] of the chosen images; `write` takes epoch (from 1), place, ids.

        `written` is called after the masks of each stage.
        """
        self.epochs, self.predict, self.write, self.written = tuple(epochs), predict, write, written

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the masks if it is one of the epochs."""
        epoch = int(pl_module.current_epoch) + 1
        if epoch not in self.epochs or not trainer.is_global_zero:
            return
        net = pl_module.best_net
        training = net.training
        net.eval()
        for index, ids in self.predict(net):
            self.write(epoch, index, ids)
        self.written()
        net.train(training)
        pl_module.thaw(epoch)


def late(recipe: SegmentRecipe) -> str:
    """Say which masks by stage there won't be, since fewer epochs are trained than the recipe counts on."""
    late, kept = ([str(epoch) for epoch in epochs] for epochs in (recipe.late_stages, recipe.stage_epochs))
    after = f"are kept after epoch{'s' * (len(kept) > 1)} {', '.join(kept)}" if kept else "aren't kept on the way"
    never = f"epochs {', '.join(late)} never come" if len(late) > 1 else f"epoch {late[0]} never comes"
    return f"stages.at: {never}, train.epochs is {recipe.train.epochs}; masks by stage {after}"
