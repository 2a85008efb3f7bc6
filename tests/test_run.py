"""A run as Python sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import octavo
from octavo.engine.folder import RunFolder
from octavo.errors import UserError


def test_run_tells_what_it_is(trained: RunFolder) -> None:
    run = octavo.load(trained.path, "cpu")
    assert repr(run) == f"Run({str(trained.path)!r}, members=['vgg', 'squeeze', 'mobile'])"
    assert run.recipe.name == "small" and run.classes == tuple(map(str, range(10)))
    assert run.metrics == trained.metrics and sum(run.weights.values()) == pytest.approx(1)
    assert len(run.members) == 3 and "vgg" in run.members and "nobody" not in run.members
    assert run.members["mobile"] is run.members["mobile"]  # loaded once
    assert run.evaluate(split="holdout").split == "holdout"


def test_images_may_be_one_path_or_many(trained: RunFolder, digits_folder: Path) -> None:
    run, val = octavo.load(trained.path, "cpu"), digits_folder / "val_10"
    one = run.predict(str(val / "1_16.png"))
    many = run.predict([val / "1_16.png", val / "2_16.png"])
    assert one.files == ("1_16.png",) and many.files == ("1_16.png", "2_16.png")
    np.testing.assert_allclose(one.probabilities[0], many.probabilities[0], atol=1e-5)
    assert one.sets is None
    sets = run.predict([val / "1_16.png"], coverage=0.9).sets
    assert sets is not None and sets.shape == (1, 10) and sets[0, one.ids[0]]
    assert run.embed(val / "1_16.png", "squeeze.backbone").shape == (1, 512)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        octavo.load(tmp_path)


def test_options_of_other_tasks_at_their_defaults_mean_nothing(trained: RunFolder, segmented: RunFolder) -> None:
    assert octavo.load(trained.path).evaluate(rule=None) == trained.metrics
    assert octavo.load(segmented.path).evaluate(coverage=None, like_reference=False) == segmented.metrics
    with pytest.raises(UserError, match=r'Run\.figure\("cost"\)'):
        octavo.load(trained.path).evaluate(cost=True)
