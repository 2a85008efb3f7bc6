"""A segmenter's training that is stopped, at any moment, ends in the same bytes as one that isn't."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.options import Options
from octavo.recipe import load
from octavo.verbs.training import train
from test_resume import Lives, assert_same, files

SHARED = """\
name = "stopped"
task = "segment"
data = {size = 32, classes = "course", normalize = "none", holdout = 0.25, scale = 0.67}
stages = {at = [1, 2, "best"], images = ["0001", "0003"]}
%s
[segmenter]
backbone = "shufflenet_v2_x0_5"
weights = "none"
hidden = [{width = 8, dropout = 0.5}]
zero_scores = true
"""
RECIPES = {
    "moving": SHARED % """\
augment = {hflip = 0.5, scale = [0.8, 1.3], rotation = 10}
train = {epochs = 3, batch_size = 3, optimizer = "adamw", lr = 3e-3, ema = 0.8, keep = "best", accumulate = 1, \
schedule = "cosine", checkpoint_minutes = 1e-6}
""",
    "cached": SHARED % """\
augment = {hflip = 0.5}
train = {mode = "frozen", views = 2, epochs = 4, batch_size = 3, lr = 1e-2, momentum = 0.9, keep = "best", \
checkpoint_minutes = 1e-6}
""",
}  # fmt: skip


class Trainings(Lives):
    """Lives of segmenters."""

    def argv(self, name: str) -> list[str]:
        return [*super().argv(name), "--layout", "course"]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory, scenes_folder: Path) -> Iterator[Trainings]:
    found = Trainings(tmp_path_factory.mktemp("lives"), scenes_folder)
    for name, text in RECIPES.items():
        (found.folder / f"{name}.toml").write_text(text)
    yield found
    found.process.communicate(timeout=30)
    shutil.rmtree(found.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(lives: Trainings) -> dict[str, dict[str, bytes]]:
    """What training without a stop leaves: recipe → file → bytes."""
    for recipe in RECIPES:
        assert lives.live(f"{recipe}-whole") == 0, lives.log(f"{recipe}-whole")
    return {recipe: files(lives.run(f"{recipe}-whole")) for recipe in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES)
def test_run_without_a_stop_is_what_is_meant(whole: dict[str, dict[str, bytes]], recipe: str) -> None:
    expected = {"recipe.toml", "manifest.json", "samples.csv", "leaks.json", "metrics.json", "history.csv"}
    expected |= {f"members/segmenter/{f}" for f in ("weights.safetensors", "outputs.safetensors", "history.csv",
                                                   "member.json")}  # fmt: skip
    expected |= {f"masks/{stage}/{name}_sat.png" for stage in ("epoch_001", "epoch_002", "best")
                 for name in ("0001", "0003")}  # fmt: skip
    expected |= {f"predictions/val/{i:04}_sat.png" for i in range(4)}
    assert set(whole[recipe]) == expected


def test_killed_at_random_moments_ends_in_the_same_bytes(lives: Trainings, whole: dict[str, dict[str, bytes]]) -> None:
    draw = random.Random(3)
    kinds = ["step", "before rename", "half-written", "time", "before fsync"]
    kills, runs, stopped_inside = dict.fromkeys(kinds, 0), 0, 0
    while sum(kills.values()) < 8 or min(kills.values()) == 0:
        runs += 1
        assert runs < 8, f"8 kills didn't fit in {runs} runs: {kills}"
        recipe = list(RECIPES)[runs % 2]
        name, ended = f"{recipe}-killed-{runs}", None
        while ended != 0:
            kind = kinds[sum(kills.values()) % len(kinds)] if sum(kills.values()) < 12 else "none"
            low, high = {"step": (1, 6), "before rename": (0, 12), "before fsync": (0, 12)}.get(kind, (0, 4))
            n = draw.uniform(0.3, 1.5) if kind == "time" else draw.randrange(low, high)
            ended = lives.live(name, kind, n, "--resume")
            assert ended in (0, -signal.SIGKILL), lives.log(name)
            if ended:
                kills[kind] += 1
                stopped_inside += any(lives.run(name).rglob("last.ckpt"))
        assert_same(files(lives.run(name)), whole[recipe])
    assert stopped_inside >= 3


@pytest.mark.parametrize(("kind", "n", "code"), [("SIGTERM", 4, 143), ("SIGINT", 1, 130)])
def test_signal_saves_and_resume_ends_in_the_same_bytes(
    lives: Trainings, whole: dict[str, dict[str, bytes]], kind: str, n: int, code: int
) -> None:
    name = f"moving-{kind}"
    assert lives.live(name, kind, n) == code, lives.log(name)
    assert lives.log(name).splitlines()[-1].startswith("stopped; what was reached is saved.")
    assert lives.live(name, "none", 0, "--resume") == 0, lives.log(name)
    assert_same(files(lives.run(name)), whole["moving"])


def test_masks_that_changed_since_are_refused(lives: Trainings, whole: dict[str, dict[str, bytes]]) -> None:
    mask = lives.data / "train/0000_mask.png"
    other, was = lives.data / "train/0001_mask.png", mask.read_bytes()
    try:
        mask.write_bytes(other.read_bytes())
        assert lives.live("moving-whole", "none", 0, "--resume") == 2
    finally:
        mask.write_bytes(was)
    assert "the images or labels in" in lives.log("moving-whole").splitlines()[-1]
    assert_same(files(lives.run("moving-whole")), whole["moving"])


def test_a_finished_run_needs_nothing_that_it_started_from(
    segmented: RunFolder, scenes_folder: Path, tmp_path: Path
) -> None:
    start = Path(shutil.copy(segmented.member("segmenter").weights, tmp_path / "start.safetensors"))
    recipe = load(segmented.path / "recipe.toml", ["train.epochs=1", f"segmenter.start={start}"])
    options = Options(out=tmp_path / "run", cache=tmp_path / "cache", device="cpu")
    run = train(recipe, scenes_folder, (), options)
    metrics = run.metrics
    start.unlink()
    said: list[str] = []
    assert train(None, None, (), replace(options, resume=True), say=said.append).metrics == metrics
    assert any(line.endswith("all is trained; --overwrite trains it anew") for line in said)
    run.member("segmenter").record.unlink()  # what is still to be trained does need it
    with pytest.raises(UserError, match=r"segmenter\.start: .*no such run folder or weights file"):
        train(None, None, (), replace(options, resume=True))
