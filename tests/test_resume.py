"""Training that is stopped, at any moment and in any way, ends in the same bytes as training that isn't."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.engine.checkpoint_file import position

SHARED = """\
name = "stopped"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none", holdout = 0.25}
augment = {rotation = 10, hflip = 0.5%s}
[train]
epochs = 3
batch_size = 20
optimizer = "adamw"
lr = 1e-3
ema = 0.9
schedule = "cosine"
warmup_epochs = 0.5
accumulate = 2
clip_norm = 1.0
keep = "best"
patience = 2
reestimate_norm = true
views = %d
checkpoint_minutes = 1e-6
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
head.hidden = [{width = 16, dropout = 0.3}]
"""
MIXED = """
[[members]]
name = "mobile"
backbone = "mobilenet_v3_small"
weights = "none"
"""
CACHED = """
[[members]]
name = "frozen"
backbone = "shufflenet_v2_x0_5"
weights = "none"
mode = "frozen"
epochs = 5
lr = 1e-2
head = {norm = "batch", hidden = [{width = 16, dropout = 0.5}]}
"""
RECIPES = {"mixed": SHARED % (", mixup = 0.2", 1) + MIXED, "cached": SHARED % ("", 2) + CACHED}
MEMBERS = {"mixed": ["squeeze", "mobile"], "cached": ["squeeze", "frozen"]}
SIGNALS = [
    ("SIGTERM", 3, 143),  # between two optimiser steps
    ("SIGINT", 2, 130),  # gradients gathered, step not taken
    ("SIGTERM", 5, 143),  # the last batch of an epoch
    ("SIGTERM in validation", 1, 143),
]


class Lives:
    """A process that runs the command line in forks of its own; each life ends as it is told."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        for name, text in RECIPES.items():
            (folder / f"{name}.toml").write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("lives.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
        )

    def live(self, name: str, kind: str = "none", n: float = 0, *more: str) -> int:
        """Train RECIPE in runs/RECIPE-… until the end or until death; return the exit code."""
        assert self.process.stdin and self.process.stdout
        argv = [*self.argv(name), *more]
        order = {"argv": argv, "kind": kind, "n": n, "log": str(self.folder / f"{name}.log")}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def argv(self, name: str) -> list[str]:
        recipe, data = self.folder / f"{name.split('-')[0]}.toml", self.data
        places = ["--out", str(self.run(name)), "--cache", str(self.folder / "caches" / name)]
        return ["train", str(recipe), "--no-report", "--data", str(data), *places]

    def run(self, name: str) -> Path:
        return self.folder / "runs" / name

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Iterator[Lives]:
    found = Lives(tmp_path_factory.mktemp("lives"), digits_folder)
    yield found
    found.process.communicate(timeout=30)
    shutil.rmtree(found.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(lives: Lives) -> dict[str, dict[str, bytes]]:
    """What training without a stop leaves: recipe → file → bytes."""
    for recipe in RECIPES:
        assert lives.live(f"{recipe}-whole") == 0, lives.log(f"{recipe}-whole")
    return {recipe: files(lives.run(f"{recipe}-whole")) for recipe in RECIPES}


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    content = {str(path.relative_to(folder)): path.read_bytes() for path in found}
    if manifest := content.get("manifest.json"):  # which also says where this run's own cache was
        content["manifest.json"] = json.dumps(json.loads(manifest) | {"options": None, "sha256": None}).encode()
    return content


def assert_same(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_run_without_a_stop_is_what_is_meant(whole: dict[str, dict[str, bytes]], recipe: str) -> None:
    expected = {"recipe.toml", "manifest.json", "samples.csv", "leaks.json", "ensemble.json", "metrics.json"}
    expected.add("history.csv")
    expected |= {f"members/{m}/{f}" for m in MEMBERS[recipe]
                 for f in ("weights.safetensors", "outputs.safetensors", "history.csv", "member.json")}  # fmt: skip
    assert set(whole[recipe]) == expected | {"predictions/val.csv"}
    rows = whole[recipe]["history.csv"].decode().splitlines()
    assert [row.split(",")[:2] for row in rows[1:4]] == [["squeeze", "1"], ["squeeze", "2"], ["squeeze", "3"]]


def test_killed_at_random_moments_ends_in_the_same_bytes(lives: Lives, whole: dict[str, dict[str, bytes]]) -> None:
    draw = random.Random(20)
    kinds = ["step", "half-written", "before fsync", "before rename", "time"]
    kills, runs, with_checkpoint, drafts = dict.fromkeys(kinds, 0), 0, 0, 0
    while sum(kills.values()) < 22 or min(kills.values()) == 0:
        runs += 1
        assert runs < 12, f"22 kills didn't fit in {runs} runs: {kills}"
        recipe = list(RECIPES)[runs % 2]
        name, ended = f"{recipe}-killed-{runs}", None
        while ended != 0:
            kind = kinds[(sum(kills.values()) + runs) % len(kinds)] if sum(kills.values()) < 40 else "none"
            n = draw.uniform(0.3, 2.5) if kind == "time" else draw.randrange(1 if kind == "step" else 0, 9)
            ended = lives.live(name, kind, n, "--resume")
            assert ended in (0, -signal.SIGKILL), lives.log(name)
            if ended:
                kills[kind] += 1
                with_checkpoint += any(lives.run(name).rglob("last.ckpt"))
                drafts += any((lives.folder / "runs").rglob(".*.tmp"))
        assert_same(files(lives.run(name)), whole[recipe])
        once(lives.folder / f"{name}.members", MEMBERS[recipe])
    assert with_checkpoint >= 8 and drafts >= 3  # mid-training, and while a file was written


def once(log: Path, members: list[str]) -> None:
    """Assert that no member is trained after it was finished, and that all are trained in their order."""
    lines = log.read_text().split("\n")[:-1]
    for place, line in enumerate(lines):
        word, member = line.split()
        if word == "finish":
            assert f"start {member}" not in lines[place:]
    starts = [line.removeprefix("start ") for line in lines if line.startswith("start")]
    assert set(starts) == set(members) and starts == sorted(starts, key=members.index)


@pytest.mark.parametrize(("kind", "n", "code"), SIGNALS)
def test_signal_saves_and_leaves_with_a_code_of_its_own(
    lives: Lives, whole: dict[str, dict[str, bytes]], kind: str, n: int, code: int
) -> None:
    name = f"mixed-{kind}-{n}".replace(" ", "-")
    assert lives.live(name, kind, n) == code, lives.log(name)
    assert lives.log(name).splitlines()[-1].startswith("stopped; what was reached is saved.")
    epoch, step = position(lives.run(name) / "members/squeeze/last.ckpt")
    assert epoch * 6 + step > n  # nothing of what was done before the signal is lost
    assert lives.live(name, "none", 0, "--resume") == 0
    assert_same(files(lives.run(name)), whole["mixed"])


def test_a_damaged_checkpoint_is_given_up_by_the_user_alone(lives: Lives, whole: dict[str, dict[str, bytes]]) -> None:
    name = "cached-damaged"
    assert lives.live(name, "SIGTERM", 3) == 143
    checkpoint = lives.run(name) / "members/squeeze/last.ckpt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    before = files(lives.run(name))
    assert lives.live(name, "none", 0, "--resume") == 2
    told = lives.log(name).splitlines()[-1]
    assert told.startswith(f"error: {checkpoint}: damaged or changed: ") and "--resume trains squeeze from its" in told
    assert_same(files(lives.run(name)), before)
    checkpoint.unlink()
    assert lives.live(name, "none", 0, "--resume") == 0
    assert_same(files(lives.run(name)), whole["cached"])


def test_full_disk_keeps_the_last_good_state(lives: Lives, whole: dict[str, dict[str, bytes]]) -> None:
    assert lives.live("mixed-full", "disk full", 3) == 2
    lines = lives.log("mixed-full").splitlines()
    assert [line for line in lines if line.startswith("error:")] == lines[-1:]
    assert (
        "No space left on device" in lines[-1]
        and "--resume" in lines[-1]
        and "Traceback" not in lives.log("mixed-full")
    )
    folder = lives.run("mixed-full") / "members/squeeze"
    assert {p.name for p in folder.iterdir()} == {"last.ckpt", "best.safetensors"}  # and no draft
    assert position(folder / "last.ckpt") == (1, 2)
    assert lives.live("mixed-full", "none", 0, "--resume") == 0
    assert_same(files(lives.run("mixed-full")), whole["mixed"])


def test_resuming_a_finished_run_leaves_its_bytes(lives: Lives, whole: dict[str, dict[str, bytes]]) -> None:
    before = lives.log("mixed-whole")
    assert lives.live("mixed-whole", "none", 0, "--resume") == 0, lives.log("mixed-whole")
    assert_same(files(lives.run("mixed-whole")), whole["mixed"])
    assert lives.log("mixed-whole").removeprefix(before).count("accuracy") >= 4  # its numbers are shown again
    once(lives.folder / "mixed-whole.members", MEMBERS["mixed"])


def test_real_process_stopped_from_outside_goes_on_exactly(lives: Lives, whole: dict[str, dict[str, bytes]]) -> None:
    out, environment = lives.run("mixed-outside"), os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "octavo", *lives.argv("mixed-outside")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, text=True)
    end = time.monotonic() + 120
    while not (out / "members/squeeze/last.ckpt").is_file():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 143 and words.splitlines()[-1].startswith("stopped;")
    resumed = [
        sys.executable,
        "-m",
        "octavo",
        "train",
        "--resume",
        "--no-report",
        *command[-4:],
    ]  # recipe and data are in the run
    subprocess.run(resumed, check=True, capture_output=True, env=environment, timeout=120)
    assert_same(files(out), whole["mixed"])
