"""Random damage to a warm cache: training ends in the same weights or says in one line what to do, in both tasks.

OCTAVO_DAMAGES=300 tries so many instead of a few.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from conftest import Octavo

TRIALS = int(os.environ.get("OCTAVO_DAMAGES", "3"))
RECIPES = {
    "classify": """\
name = "damaged"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none"}
train = {epochs = 1, batch_size = 64}
[[members]]
name = "frozen"
backbone = "squeezenet1_1"
weights = "none"
mode = "frozen"
[[members]]
name = "tuned"
backbone = "squeezenet1_1"
weights = "none"
""",
    "segment": """\
name = "damaged"
task = "segment"
data = {size = 48, classes = "course", normalize = "none"}
train = {epochs = 1, batch_size = 6, mode = "frozen", cache = true}
[segmenter]
backbone = "vgg11"
weights = "none"
hidden = [{width = 8}]
""",
}


def train(run_cli: Octavo, folder: Path, data: Path, cache: Path) -> tuple[int, str]:
    """Train or resume in folder/run; return exit code and standard error."""
    places = ("--data", data, "--out", folder / "run", "--cache", cache)
    code, _, err = run_cli("train", folder / "damaged.toml", *places, "--resume", "--no-report")
    return code, err


def learnt(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}


def damage(files: list[Path], draw: random.Random) -> str:
    """Damage one of the files in one of the ways that disks and people have; return which and how."""
    path = draw.choice(files)
    content = bytearray(path.read_bytes())
    how = draw.choice(["flip", "flip", "flip", "cut", "empty", "gone", "swap", "foreign", "zeros"])
    if how == "flip":
        for _ in range(draw.choice([1, 1, 9])):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[: draw.randrange(len(content))])
    elif how == "gone":
        path.unlink()
    elif how == "swap":
        other = draw.choice(files)
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    else:
        foreign = draw.choice([b"[]", b"{}", b"[" * 9999, b'{"batches": 1}', b"PK\x03\x04"])
        path.write_bytes({"empty": b"", "zeros": bytes(len(content)), "foreign": foreign}[how])
    return f"{how} {path.name}"


@pytest.mark.parametrize("task", RECIPES)
def test_random_damage_to_the_cache_changes_nothing_silently(
    task: str, tmp_path: Path, run_cli: Octavo, digits_folder: Path, scenes_folder: Path
) -> None:
    data = digits_folder if task == "classify" else scenes_folder
    warm = tmp_path / "warm"
    warm.mkdir()
    (warm / "damaged.toml").write_text(RECIPES[task])
    code, err = train(run_cli, warm, data, warm / "cache")
    assert code == 0, err
    expected = learnt(warm / "run")
    told = {"warned": 0, "refused": 0, "unread": 0}
    for seed in range(TRIALS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        shutil.copy(warm / "damaged.toml", folder)
        shutil.copytree(warm / "cache", folder / "cache")
        files = [p for p in (folder / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]
        what = damage(sorted(files), random.Random(f"{task} {seed}"))
        code, err = train(run_cli, folder, data, folder / "cache")
        if code == 2:
            told["refused"] += 1
            lines = [line for line in err.splitlines() if line.startswith("error: ")]
            assert len(lines) == 1 and "run the command again" in lines[0], (what, err)
            code, err = train(run_cli, folder, data, folder / "cache")
        else:
            told["warned" if "warning: " in err else "unread"] += 1
        assert code == 0 and "Traceback" not in err, (what, err)
        assert learnt(folder / "run") == expected, what
        shutil.rmtree(folder)
    print(told)
    assert told["warned"]
