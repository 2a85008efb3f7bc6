"""One scripted session with Octavo, by its command line and its public Python API alone; `golden.py` compares two.

`python golden_session.py FOLDER [PART …]` works in FOLDER with whichever `octavo` is on the path. Commands run in
forks of this process, which has imported torch once and computes nothing itself.
"""

from __future__ import annotations

import inspect
import json
import os
import runpy
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

DIGITS = """\
name = "%s"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none", %s}
%s
[[members]]
name = "shuffle"
backbone = "shufflenet_v2_x0_5"
weights = "none"
head = {norm = "batch", hidden = [{width = 8, dropout = 0.2}]}
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
head = {norm = "batch"}
"""
SCENES = """\
name = "%s"
task = "segment"
data = {size = 32, classes = "course", normalize = "none", holdout = 0.25}
stages = {at = [1, 2, "best"], images = ["0101", "0102"]}
%s
[segmenter]
backbone = "shufflenet_v2_x0_5"
weights = "none"
hidden = [{width = 8}]
upsample = "bilinear"
zero_scores = true
"""
RECIPES = {
    "frozen": DIGITS
    % ("frozen", "folds = 2", 'train = {mode = "frozen", epochs = 6, batch_size = 8, optimizer = "adam", lr = 1e-2}'),
    "tuned": DIGITS
    % (
        "tuned",
        "holdout = 0.25",
        """augment = {rotation = 10, hflip = 0.5, crop = [0.7, 1.0], mixup = 0.2}
train = {epochs = 3, batch_size = 9, optimizer = "adamw", lr = 2e-3, ema = 0.5, schedule = "cosine", keep = "best", \
warmup_epochs = 0.5, label_smoothing = 0.1, clip_norm = 1.0, reestimate_norm = true}""",
    ),
    "fcn-frozen": SCENES
    % (
        "fcn-frozen",
        """augment = {hflip = 0.5}
train = {mode = "frozen", views = 2, epochs = 4, batch_size = 3, optimizer = "adam", lr = 1e-2, keep = "best"}""",
    ),
    "fcn-tuned": SCENES
    % (
        "fcn-tuned",
        """augment = {hflip = 0.5, scale = [0.8, 1.3], rotation = 10}
train = {epochs = 4, batch_size = 3, optimizer = "adamw", lr = 3e-3, ema = 0.5, schedule = "cosine", keep = "best"}""",
    ),
    "unknown-key": "colour = 3\n" + DIGITS % ("x", "holdout = 0.25", ""),
    "unknown-network": (DIGITS % ("x", "holdout = 0.25", "")).replace("squeezenet1_1", "squeezenet1_2"),
    "cut-short": 'name = "cut',
}
"""The recipes of the session, by their file's name; the last three are wrong."""
COLOURS = {0: (0, 255, 255), 1: (255, 255, 0), 4: (0, 0, 255), 6: (0, 0, 0)}
"""Some classes of the course's table: how masks show them."""
SHOWN = {0: (40, 200, 190), 1: (200, 190, 40), 4: (30, 40, 180), 6: (15, 15, 15)}
"""The same classes: how images show them."""

Step = tuple[str, Sequence[str]] | Callable[[], object]
"""A command line with a name for its transcript, or something that happens to the files between two of them."""


def write_digits(root: Path, train: int = 12, val: int = 5) -> None:
    """Write a folder of three classes of 32×32 PNGs, `train`/`val` a class: discs, stripes, noise."""
    draw = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in ("disc", "noise", "stripe"):
            folder = root / split / kind
            folder.mkdir(parents=True)
            for i in range(count):
                image = draw.integers(0, 120, (32, 32, 3))
                y, x = np.ogrid[:32, :32]
                if kind == "disc":
                    image[(y - 16) ** 2 + (x - 12 - i % 9) ** 2 < (5 + i % 6) ** 2] += 100
                if kind == "stripe":
                    image[:, i % 3 :: 4 + i % 3] += 100
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{i:02}.png")


def write_scenes(root: Path, train: int = 8, val: int = 3, side: int = 48) -> None:
    """Write scenes and masks in the course's layout: train/ and validation/, NNNN_sat.png with NNNN_mask.png."""
    for split, start, count in (("train", 0, train), ("validation", 100, val)):
        (root / split).mkdir(parents=True)
        for i in range(start, start + count):
            draw = np.random.default_rng(i)
            ids = np.full((side, side), i % 2, np.uint8)
            for value in (1 - i % 2, 6 if i % 4 == 3 else 4):
                top, left = draw.integers(0, side // 2, 2)
                ids[top : top + side // 2, left : left + draw.integers(side // 4, side // 2)] = value
            image = np.array([SHOWN.get(k, (0, 0, 0)) for k in range(7)])[ids] + draw.normal(0, 20, (side, side, 3))
            mask = np.array([COLOURS.get(k, (0, 0, 0)) for k in range(7)], np.uint8)[ids]
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / split / f"{i:04}_sat.png")
            Image.fromarray(mask).save(root / split / f"{i:04}_mask.png")


def prepare() -> None:
    """Write the recipes and the images of the session into the working directory."""
    for name, text in RECIPES.items():
        Path(f"{name}.toml").write_text(text)
    write_digits(Path("digits"))
    write_scenes(Path("scenes"))
    Path("broken").mkdir()
    shutil.copy("digits/val/disc/00.png", "broken/good.png")
    Path("broken/cut.png").write_bytes(Path("digits/val/disc/01.png").read_bytes()[:200])
    Path("empty").mkdir()
    Path("tables").mkdir()
    rows = [f"../{p},{p.parent.name}\n" for p in sorted(Path("digits/val").rglob("*.png"))]
    Path("tables/digits.csv").write_text("image,label\n" + "".join(rows))
    Path("tables/no-labels.csv").write_text("file,colour\na.png,red\n")


def unfinish(run: str, member: str) -> None:
    """Leave a copy of `run`, `run`-stopped, as it was before `member` was trained."""
    copy = Path(f"{run}-stopped")
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "members" / member)
    for name in ("metrics.json", "ensemble.json"):
        (copy / name).unlink(missing_ok=True)


def damage(run: str, file: str) -> None:
    """Turn one byte in the middle of a file in a copy of `run`, `run`-damaged."""
    copy = Path(f"{run}-damaged")
    shutil.copytree(run, copy)
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)


def run_command(name: str, argv: Sequence[str]) -> None:
    """Run `octavo` with `argv` in a fork; its output, errors and exit code go to transcripts/NAME.*."""
    base = Path("transcripts").absolute()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for number, ending in ((1, "out"), (2, "err")):
                os.dup2(os.open(base / f"{name}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["octavo", *argv]
            runpy.run_module("octavo", run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    (base / f"{name}.code").write_text(f"octavo {' '.join(argv)}\n{os.waitstatus_to_exitcode(status)}\n")


def in_fork(work: Callable[[], None]) -> None:
    """Run `work` in a fork, so that this process loads no network."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.waitpid(child, 0)


def signature_of(value: object) -> str:
    """Return kind, parameters and defaults of a public name, without annotations, whose types may be renamed."""
    if isinstance(value, property):
        return "property"
    if not callable(value) or (isinstance(value, type) and issubclass(value, Exception)):
        return type(value).__name__
    parameters = inspect.signature(value).parameters.values()
    return "(" + ", ".join(str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters) + ")"


def describe_api() -> None:
    """Write api.json: each public name of `octavo` and of `Run`, with its signature."""
    import octavo

    found = {name: signature_of(getattr(octavo, name)) for name in octavo.__all__}
    names = [name for name in dir(octavo.Run) if not name.startswith("_")]
    found |= {f"Run.{name}": signature_of(inspect.getattr_static(octavo.Run, name)) for name in names}
    Path("api.json").write_text(json.dumps(found, indent=1))


def use_api() -> None:
    """Write api.npz: what the public API answers on the session's runs."""
    import octavo

    found: dict[str, np.ndarray] = {}
    for name in ("frozen", "tuned"):
        run = octavo.load(name, device="cpu")
        answer = run.predict("digits/val")
        found[f"{name}.probabilities"] = np.asarray(answer.probabilities)
        found[f"{name}.labels"] = np.array(answer.labels)
        found[f"{name}.member"] = np.asarray(run.predict(["digits/val/disc/00.png"], member="squeeze").probabilities)
        found[f"{name}.embed"] = run.embed("digits/val", layer="shuffle.head.1")
        found[f"{name}.weights"] = np.array(list(run.weights.values()))
        found[f"{name}.accuracy"] = np.array(run.evaluate().ensemble.metrics["accuracy"].value)
    for name in ("fcn-frozen", "fcn-tuned"):
        run = octavo.load(name, device="cpu")
        masks = run.masks([f"scenes/validation/{i}_sat.png" for i in ("0100", "0102")])
        found |= {f"{name}.mask.{Path(file).name}": np.asarray(mask) for file, mask in masks.items()}
        found[f"{name}.miou"] = np.array(run.evaluate().miou)
        found[f"{name}.classes"] = np.array(run.classes)
    np.savez("api.npz", **found)  # pyright: ignore[reportArgumentType]


def warm_up() -> None:
    """Import what commands import, but Octavo, once for all forks."""
    import captum.attr
    import matplotlib.pyplot
    import pydantic
    import pytorch_lightning
    import rich.table
    import scipy.stats
    import sklearn.manifold
    import torch
    import torchmetrics
    import torchvision
    import typer

    del captum, matplotlib, pydantic, pytorch_lightning, rich, scipy, sklearn, torch, torchmetrics, torchvision, typer


def main() -> None:
    """Run the session, or the parts of it that are named: train, transcripts, api; `quick` is the least."""
    from golden_commands import COMMANDS, QUICK, TRAININGS

    folder, parts = Path(sys.argv[1]), set(sys.argv[2:])
    (folder / "transcripts").mkdir(parents=True)
    os.chdir(folder)
    prepare()
    if parts - {"quick"}:
        warm_up()
    steps = [*TRAININGS] if parts & {"train", "transcripts", "api"} else []
    steps += COMMANDS if "transcripts" in parts else QUICK if "quick" in parts else []
    for step in steps:
        if callable(step):
            step()
        else:
            run_command(*step)
    if "api" in parts:
        in_fork(describe_api)
        in_fork(use_api)


if __name__ == "__main__":
    main()
