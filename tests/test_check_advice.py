"""Following what `check` advises doesn't lower balanced accuracy, in the mean of five seeds, whatever the imbalance.

Heads are trained as `quick` trains them, on made-up features; `bench/check_advice.py` does the same on real ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from octavo.engine.goals import ClassifyGoal
from octavo.networks.head import make_head
from octavo.recipe import ClassifyRecipe, Train, load
from octavo.tasks.classification.check import check
from octavo.tasks.classification.training import balanced

FEATURES, STEPS = 24, 40
SMALL = ["members[0].head.hidden[0].width=64", "train.batch_size=128"]
SIZES = [(500, 8), (150, 30, 20), (1000, 3)]


def advised(sizes: Sequence[int], root: Path) -> list[str]:
    """Return the `key=value` that check's warnings name, of a folder with so many training images a class."""
    for c, size in enumerate(sizes):
        for part, count in (("train", size), ("val", 2)):
            folder = root / part / f"class{c}"
            folder.mkdir(parents=True)
            Image.fromarray(np.full((8, 8, 3), 20 * c, np.uint8)).save(folder / "0.png")
            for index in range(1, count):
                os.link(folder / "0.png", folder / f"{index}.png")
    texts = check(root, leaks=False).warnings
    return [f"{key}={value}" for text in texts for key, value in re.findall(r"(\w+\.\w+) = (\S+)", text)]


def drawn(sizes: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Features float32 [n,F] around a centre a class, and class ids int64 [n]."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(len(sizes), FEATURES, generator=torch.Generator().manual_seed(1000))
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return 0.5 * centres[labels] + torch.randn(len(labels), FEATURES, generator=random), labels


def trained(train: Train, recipe: ClassifyRecipe, sizes: Sequence[int], seed: int, theirs: bool = False) -> float:
    """Return the balanced accuracy of a head that was trained by these settings; `theirs`: with torch's smoothing."""
    features, labels = drawn(sizes, seed)
    weights = balanced(np.array(sizes)) if train.class_weights == "balanced" else None
    goal = ClassifyGoal(len(sizes), weights, train.label_smoothing)
    if theirs:
        goal.criterion = nn.CrossEntropyLoss(weights, label_smoothing=train.label_smoothing)  # pyright: ignore
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = make_head(recipe.members[0].head, FEATURES, len(sizes))
        optimizer = torch.optim.AdamW(head.parameters(), train.lr, weight_decay=train.weight_decay)
        for _ in range(STEPS):
            rows = torch.randint(len(labels), (train.batch_size,))
            optimizer.zero_grad()
            goal.loss(head(features[rows]), labels[rows]).backward()
            optimizer.step()
    test, truth = drawn([200] * len(sizes), 77)
    return float(balanced_accuracy_score(truth, head.eval()(test).argmax(1)))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_advice_does_not_lower_balanced_accuracy(sizes: tuple[int, ...], tmp_path: Path) -> None:
    advice = advised(sizes, tmp_path)
    assert bool(advice) == (max(sizes) >= 10 * min(sizes))
    if not advice:
        return
    found = []
    for changes in ([], advice):
        recipe = load("quick", [*changes, *SMALL])
        assert isinstance(recipe, ClassifyRecipe)
        found.append([trained(recipe.train, recipe, sizes, seed) for seed in range(5)])
    assert np.mean(found[1]) >= np.mean(found[0])
    # With torch's smoothing all is called the rarest class.
    assert trained(recipe.train, recipe, sizes, 0, theirs=True) < np.mean(found[1]) - 0.05
