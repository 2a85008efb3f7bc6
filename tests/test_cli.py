"""The command line: what a user types, what is printed, and the exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import octavo
from conftest import Octavo
from octavo import cli
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.recipe import shipped


def test_help_and_version(run_cli: Octavo) -> None:
    for argv in ([], ["--help"], ["-h"]):
        code, out, err = run_cli(*argv)
        assert code == 0 and "Train a recipe on a folder of images" in out and not err
    assert run_cli("--version") == (0, f"{octavo.__version__}\n", "")
    code, out, _ = run_cli("weights")
    assert code == 0 and all(word in out for word in ("list", "pack", "verify"))


MISTAKES = {
    "train octett --data {data}": 'recipe: no recipe and no file "octett"; did you mean "octet"?',
    "train --data {data}": "name a recipe",
    "train demo": "name the data: --data FOLDER",
    "train demo --data {tmp}/nowhere": "nowhere: no such folder or file",
    "train demo --data {data} --set train.epoch=3": 'train.epoch: unknown key; did you mean "epochs"?',
    "train demo --data {data} --set train.epochs": "--set train.epochs: expected KEY=VALUE",
    "train demo --data {data} --device gpu": '--device: unknown "gpu"; ',
    "train demo --data {data} --devices 0": "--devices 0: expected 1 to",
    "train demo --data {data} --out {data}": "exists and is not a run",
    "train demo --data {data} --layout flat": 'layout: unknown "flat"',
    "train --resume --out {tmp}/nowhere": "nowhere: no such run folder",
    "train demo --nope": "No such option",
    "check {tmp}/nowhere": "nowhere: no such folder or file",
    "check": "Missing argument",
    "describe octte": 'did you mean "octet"?',
    "describe octet --member vgg17": 'unknown "vgg17"',
    "describe octet --classes 1": "--classes",
    "evaluate {tmp}/nowhere": "nowhere: no such run folder",
    "evaluate {tmp}": "not a run folder (no manifest.json in it)",
    "evaluate {run} --split tset": '--split: unknown "tset"',
    "evaluate {run} --data {tmp}/nowhere": "nowhere: no such folder or file",
    "evaluate {run} --out {tmp}": "is a folder; expected the name of a file",
    "evaluate {run} --cost --data {data}": "--cost: is of the run's own validation images",
    "predict {run} {data}": "Missing option '--out'",
    "predict {run} {tmp}/nowhere --out {tmp}/x.csv": "nowhere: no such file or folder",
    "predict {run} {data}/empty --out {tmp}/x.csv": "no images found",
    "predict {run} {data} --out {tmp}": "is a folder; expected the name of a file",
    "predict {run} {data} --out {run}/manifest.json/x.csv": "manifest.json is a file, not a folder",
    "predict {run} {data} --out {tmp}/x.csv --member vgg1": '--member: unknown "vgg1"; did you mean "vgg"?',
    "score {tmp}/nowhere.csv --truth {data}": "nowhere.csv",
    "score {run}/predictions/val.csv": "Missing option '--truth'",
    "cache --clear pixel": 'cache: unknown "pixel"; did you mean "pixels"?',
    "weights list octte": 'did you mean "octet"?',
    "weights verify {tmp}/nowhere": "nowhere",
    "weights nope": "No such command",
    "wieghts": "No such command",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    run_cli: Octavo, trained: RunFolder, digits_folder: Path, tmp_path: Path, command: str
) -> None:
    data = tmp_path / "data"
    data.symlink_to(digits_folder)
    words = [w.format(tmp=tmp_path, run=trained.path, data=data) for w in command.split()]
    if "{data}/empty" in command:
        (tmp_path / "void").mkdir()
        words = [w.replace("data/empty", "void") for w in words]
    code, out, err = run_cli(*words)
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, err
    assert MISTAKES[command] in err


def test_every_mistake_of_a_recipe_is_told(run_cli: Octavo, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[train]\nlr = -1\nepocs = 3\n[[members]]\nname = "a"\nbackbone = "vgg11"\n')
    code, _, err = run_cli("describe", tmp_path / "bad.toml")
    assert code == 2 and "train.lr" in err and 'train.epocs: unknown key; did you mean "epochs"?' in err


def test_every_mistake_of_the_sets_is_told(run_cli: Octavo) -> None:
    code, out, err = run_cli("describe", "quick", "--set", "a", "--set", "nonsense", "--set", "train.epocs=3")
    first, second, third = err.splitlines()
    assert (code, out) == (2, "") and first.startswith("error: --set a: ") and second.startswith("--set nonsense: ")
    assert third == 'quick: train.epocs: unknown key; did you mean "epochs"?'


def test_debug_shows_where(run_cli: Octavo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["octavo", "describe", "octte", "--debug"])
    with pytest.raises(UserError, match="octte"):
        cli.main()


def test_a_process_of_its_own_shows_no_traceback_unless_asked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "octavo", "describe", "octte"]
    plain = subprocess.run(command, capture_output=True, text=True)
    assert plain.returncode == 2 and plain.stderr.count("\n") == 1 and "Traceback" not in plain.stderr
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True)
    assert debug.returncode != 0 and "Traceback" in debug.stderr and "UserError" in debug.stderr


def test_interrupt_ends_with_130(run_cli: Octavo, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **options: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("octavo.verbs.describe.describe", interrupted)
    assert run_cli("describe", "octet") == (130, "", "stopped; every file that was written is whole.\n")


def test_check(run_cli: Octavo, digits_folder: Path, tmp_path: Path) -> None:
    code, out, _ = run_cli("check", digits_folder)
    assert code == 0 and "layout prefix, own split" in out and "200 images, 10 classes" in out
    shutil.copytree(digits_folder, tmp_path / "data")
    (tmp_path / "data" / "train_10" / "3_2.png").write_bytes(b"nothing")
    code, out, _ = run_cli("check", tmp_path / "data")
    assert code == 1 and "3_2.png" in out


def test_check_of_photographs_that_are_reduced(run_cli: Octavo, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (700, 600, 3), np.uint8)).save(tmp_path / name)
    shutil.copy(tmp_path / "a" / "1.jpg", tmp_path / "b" / "3.jpg")
    code, out, _ = run_cli("check", tmp_path)
    assert code == 0 and "5 images, 2 classes" in out and "a/1.jpg" in out  # one image, two labels


def test_describe(run_cli: Octavo) -> None:
    code, out, _ = run_cli("describe", "octet", "--member", "vgg16", "--classes", 50)
    assert code == 0 and "144,178" in out and "14,714,688" in out
    assert "Linear(in_features=512, out_features=256, bias=True)" in out and "resnet152" not in out
    code, out, _ = run_cli("describe", "octet", "--member", "vgg16", "--set", "members[0].head.hidden=[]")
    assert code == 0 and "144,178" not in out


def test_recipes(run_cli: Octavo) -> None:
    code, out, _ = run_cli("recipes")
    tasks = {
        line.split()[0]: line.split()[1] for line in out.splitlines() if " classify " in line or " segment " in line
    }
    assert code == 0 and tasks.keys() == shipped().keys()
    assert {name for name, task in tasks.items() if task == "classify"} == {"demo", "octet-224", "octet", "quick"}


def test_cache(run_cli: Octavo, digits_folder: Path, cache: Path) -> None:
    assert run_cli("cache") == (0, f"{cache}: empty\n", "")
    from octavo.data import store, torchvision_data

    store.build(torchvision_data.read(digits_folder), store.ImageDecoder(32), cache)
    code, out, _ = run_cli("cache")
    assert code == 0 and "pixels" in out and str(cache) in "".join(out.split())
    code, out, _ = run_cli("cache", "--clear", "all")
    assert code == 0 and "freed" in out and run_cli("cache")[1] == f"{cache}: empty\n"


def test_evaluate_draws_accuracy_against_cost(run_cli: Octavo, trained: RunFolder, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained.path, tmp_path / "run"))
    code, out, _ = run_cli("evaluate", run, "--cost", "--device", "cpu")
    assert code == 0 and out.index("Accuracy and time") < out.index("The ensemble from one member to all")
    assert (
        "median [ms per image]" in out and "Milliseconds per image on" in out and str(run / "plots" / "cost.png") in out
    )
    assert (run / "plots" / "cost.png").stat().st_size > 10_000


def test_train_then_evaluate_predict_and_score(run_cli: Octavo, digits_folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('data = {size = 32, stored = 32, normalize = "none"}\n[[members]]\nname = "squeeze"\n'
                      'backbone = "squeezenet1_1"\nweights = "none"\n')  # fmt: skip
    run = tmp_path / "run"
    code, out, err = run_cli("train", recipe, "--data", digits_folder, "--out", run, "--set", "train.epochs=1")
    assert code == 0, err
    assert out.splitlines()[-1] == f"run: {run}" and "squeeze" in out and "ensemble" in out
    assert err.splitlines()[0].startswith(f"{digits_folder}: layout prefix, 10 classes")
    assert run_cli("train", recipe, "--data", digits_folder, "--out", run)[0] == 2

    code, out, _ = run_cli("evaluate", run, "--split", "holdout", "--out", tmp_path / "numbers.json")
    assert code == 0 and "flattered" in out
    assert json.loads((tmp_path / "numbers.json").read_text())["split"] == "holdout"

    code, out, err = run_cli("predict", run, digits_folder / "val_10", "--out", tmp_path / "p" / "out.csv")
    assert (code, out, err) == (0, f"40 images → {tmp_path}/p/out.csv\n", "")
    lines = (tmp_path / "p" / "out.csv").read_text().splitlines()
    assert lines[0] == "image_id,label" and lines[1].startswith("0_16.png,") and len(lines) == 41

    code, out, _ = run_cli("score", tmp_path / "p" / "out.csv", "--truth", digits_folder)
    right = sum(line.split("_")[0] == line.split(",")[1] for line in lines[1:])
    assert code == 0 and f"{right} of 40 right" in out
    accuracy = octavo.load(run).metrics.ensemble.metrics["accuracy"].value
    assert accuracy == pytest.approx(right / 40, abs=1e-9)


def test_predict_options(run_cli: Octavo, trained: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    image = digits_folder / "val_10" / "7_16.png"
    assert (
        run_cli("predict", trained.path, image, "--out", out, "--ids", "--probabilities", "--member", "mobile")[0] == 0
    )
    header, row = out.read_text().splitlines()
    assert header.startswith("image_id,label,confidence,p_0,") and row.split(",")[1] in "0123456789"


def test_unreadable_files_give_exit_code_1(
    run_cli: Octavo, trained: RunFolder, digits_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    shutil.copy(digits_folder / "val_10" / "7_16.png", tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_bytes(b"no")
    out = tmp_path / "out.csv"
    code, words, err = run_cli("predict", trained.path, tmp_path / "images", "--out", out)
    assert code == 1 and words == f"1 image → {out}\n"
    assert err == f"1 file could not be read → {tmp_path}/out.errors.csv\n"
    assert out.read_text().splitlines()[1].startswith("a.png,")
    assert (tmp_path / "out.errors.csv").read_text().splitlines()[1].startswith("b.png,")


def test_weights(run_cli: Octavo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("OCTAVO_WEIGHTS", raising=False)
    code, out, _ = run_cli("weights", "list", "quick")
    assert code == 0 and out.count(" missing ") == 3 and "553" in out
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vgg16-397923af.pth").write_bytes(b"damaged")
    code, out, _ = run_cli("weights", "verify", tmp_path / "weights")
    assert code == 1 and out.startswith("corrupt") and out.endswith("1 file: 1 corrupt\n")


def test_names_that_the_terminal_cannot_show(trained: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    """A Latin-1 terminal and a file name that is no text: the verb must not die while it speaks of them."""
    out = tmp_path / b"\xff.csv".decode("utf-8", "surrogateescape")
    shutil.copy(digits_folder / "val_10" / "7_16.png", tmp_path / "\N{SNOWMAN}.png")
    command = [sys.executable, "-m", "octavo", "predict", trained.path, tmp_path / "\N{SNOWMAN}.png", "--out", out]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith("image_id,label\n\N{SNOWMAN}.png,".encode())


@pytest.mark.parametrize("columns", [80])
def test_tables_fit_the_terminal(
    run_cli: Octavo, trained: RunFolder, monkeypatch: pytest.MonkeyPatch, digits_folder: Path, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for argv in (["evaluate", trained.path], ["check", digits_folder], ["recipes"], ["weights", "list", "demo"]):
        code, out, _ = run_cli(*argv)
        assert code == 0 and max(len(line) for line in out.splitlines()) <= columns
        assert "…" not in out.replace("…,", "")  # nothing is cut off


def test_demo_command_runs_its_recipe_on_digits(
    run_cli: Octavo, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octavo import recipe

    small = tmp_path / "demo.toml"
    small.write_text('data = {size = 32, stored = 32, normalize = "none"}\ntrain = {epochs = 1, mode = "frozen"}\n'
                     '[[members]]\nname = "squeeze"\nbackbone = "squeezenet1_1"\nweights = "none"\n')  # fmt: skip
    monkeypatch.setattr(recipe, "shipped", lambda: {"demo": small})
    code, out, _ = run_cli("demo", "--only", "digits", "--out", tmp_path / "run")
    assert code == 0 and "1,797 real handwritten digits" in out and f"octavo predict {tmp_path}/run" in out
    assert RunFolder.open(tmp_path / "run").manifest["data"]["parts"]["val"] == 897
