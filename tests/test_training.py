"""Training as a whole: what goes in, what is refused before the first step, what comes out."""

from __future__ import annotations

import csv
import gc
import os
import shutil
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from sklearn.metrics import accuracy_score

import octavo
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.networks.member import MemberNet
from octavo.options import Options
from octavo.progress import Interrupted
from octavo.verbs.training import train

ONE = """\
name = "one"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none", holdout = 0.2}
train = {epochs = 1, batch_size = 32, lr = 1e-3}
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
"""
TWO = ONE + '[[members]]\nname = "other"\nbackbone = "squeezenet1_0"\nweights = "none"\n'


@pytest.fixture
def recipe(tmp_path: Path, cache: Path) -> Path:
    (tmp_path / "one.toml").write_text(ONE)
    (tmp_path / "two.toml").write_text(TWO)
    return tmp_path / "one.toml"


def run_of(recipe: Path, data: Path, out: Path, *overrides: str, **options: Any) -> RunFolder:
    return train(recipe, data, overrides, Options(out=out, device="cpu", **options))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_run_holds_what_went_in_and_what_came_out(trained: RunFolder, digits_folder: Path) -> None:
    manifest = trained.manifest
    assert manifest["classes"] == [str(i) for i in range(10)] and manifest["seed"] == 0
    assert manifest["data"]["root"] == str(digits_folder) and manifest["data"]["own_split"]
    assert manifest["data"]["parts"] == {"fit": 120, "holdout": 40, "val": 40}
    parts = {part: trained.files(part) for part in ("fit", "holdout", "val")}
    assert all(file.startswith("val_10/") for file in parts["val"])
    assert all(file.startswith("train_10/") for file in parts["fit"] + parts["holdout"])
    assert len({file for part in parts.values() for file in part}) == 200
    for part in parts:  # labels are those in the files' names, and every class is in every part
        assert [int(Path(file).name[0]) for file in parts[part]] == trained.labels(part).tolist()
        assert len(set(trained.labels(part))) == 10
    report, labels = trained.metrics, trained.labels("val")
    for system in report.systems[:-1]:
        answers = trained.member(system.name).outputs()["val"].argmax(1)
        assert system.metrics["accuracy"].value == pytest.approx(accuracy_score(labels, answers), abs=1e-9)
    assert report.ensemble.metrics["accuracy"].value > 0.8  # it has learned
    assert not report.flattered and report.fitted_on == "holdout"


def test_history_has_a_row_for_each_epoch_of_each_member(trained: RunFolder) -> None:
    with (trained.path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [(m, str(e)) for m, n in (("vgg", 40), ("squeeze", 4), ("mobile", 4)) for e in range(1, n + 1)]
    assert [(row["member"], row["epoch"]) for row in rows] == expected
    mobile = rows[-1]
    assert int(mobile["step"]) == 4 * 6 and float(mobile["lr"]) == 1e-3
    # The last row's held-out accuracy is before the batch-norm statistics were computed anew; vgg's head has none.
    held = accuracy_score(trained.labels("holdout"), trained.member("vgg").outputs()["holdout"].argmax(1))
    assert float(rows[39]["holdout_accuracy"]) == pytest.approx(held, abs=1e-6)
    losses = [float(row["train_loss"]) for row in rows[:40]]
    assert losses[-1] < 0.8 * losses[0]


def test_two_runs_of_one_recipe_are_the_same_bytes(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    first = run_of(recipe, digits_folder, tmp_path / "a")
    second = run_of(recipe, digits_folder, tmp_path / "b", cache=tmp_path / "another cache")
    one, two = (run.manifest | {"options": None} for run in (first, second))
    assert one == two
    assert files(first.path) | {"manifest.json": b""} == files(second.path) | {"manifest.json": b""}
    third = run_of(recipe, digits_folder, tmp_path / "c", "seed=1")
    assert (
        files(first.path)["members/squeeze/weights.safetensors"]
        != files(third.path)["members/squeeze/weights.safetensors"]
    )


def test_members_do_not_depend_on_one_another(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    alone = run_of(recipe, digits_folder, tmp_path / "alone")
    pair = run_of(recipe.with_name("two.toml"), digits_folder, tmp_path / "pair", "name=one")
    assert alone.member("squeeze").weights.read_bytes() == pair.member("squeeze").weights.read_bytes()


def test_broken_files_are_refused_by_name_or_left_out(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    data, said = tmp_path / "data", list[str]()
    shutil.copytree(digits_folder, data)
    (data / "train_10" / "3_2.png").write_bytes(b"nothing")
    (data / "val_10" / "4_16.png").write_bytes((data / "val_10" / "4_16.png").read_bytes()[:50])
    with pytest.raises(UserError, match=r"2 of 200 files can't be decoded: train_10/3_2\.png .* val_10/4_16\.png"):
        run_of(recipe, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    options = Options(out=tmp_path / "run", device="cpu", skip_broken=True)
    run = train(recipe, data, (), options, say=said.append)
    assert any("2 broken files left out" in line for line in said)
    assert run.manifest["data"]["broken"] == 2 and run.metrics.n == 39
    assert [row["file"] for row in run.samples() if row["part"] == "broken"] == ["train_10/3_2.png", "val_10/4_16.png"]


def test_data_without_a_split_get_one_that_is_kept(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for path in (digits_folder / "train_10").iterdir():
        (data / path.name[0]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, data / path.name[0])
    run = run_of(recipe, data, tmp_path / "run")
    assert not run.manifest["data"]["own_split"]
    assert np.bincount(run.labels("val")).tolist() == [3] * 10  # a fifth of sixteen
    other = run_of(recipe, data, tmp_path / "other", "data.val=0.5")
    assert np.bincount(other.labels("val")).tolist() == [8] * 10


def test_a_test_part_is_kept_apart(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(digits_folder, tmp_path / "data")
    (tmp_path / "data" / "test_10").mkdir()
    for i in range(10):
        shutil.move(tmp_path / "data" / "val_10" / f"{i}_19.png", tmp_path / "data" / "test_10")
    run = run_of(recipe, tmp_path / "data", tmp_path / "run")
    assert run.manifest["data"]["parts"] == {"fit": 130, "holdout": 30, "val": 30, "test": 10}
    report = octavo.load(run.path, "cpu").evaluate(split="test")
    assert (report.n, report.split, report.flattered) == (10, "test", False)


def test_default_out_takes_the_next_free_number(
    recipe: Path, digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [train(recipe, digits_folder, (), Options(device="cpu")).path for _ in range(2)]
    assert names == [Path("runs/one"), Path("runs/one-2")]
    before = files(tmp_path / "runs")
    assert train(recipe, digits_folder, (), Options(device="cpu", resume=True)).path == Path("runs/one-2")
    assert files(tmp_path / "runs") == before
    assert train(recipe, digits_folder, (), Options(device="cpu", overwrite=True)).path == Path("runs/one-2")
    assert files(tmp_path / "runs") == before  # anew, to the same bytes


def test_taken_folder_is_refused_before_anything_is_read(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for options in (Options(out=tmp_path / "mine"), Options(out=tmp_path / "mine", overwrite=True),
                    Options(out=tmp_path / "mine", resume=True)):  # fmt: skip
        with pytest.raises(UserError, match="exists and is not a run; choose another --out"):
            train(recipe, tmp_path / "no data at all", (), options)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_overwriting_keeps_the_old_run_when_the_new_one_cannot_begin(
    recipe: Path, digits_folder: Path, tmp_path: Path
) -> None:
    run = run_of(recipe, digits_folder, tmp_path / "run")
    before = files(run.path)
    for data, overrides in ((tmp_path / "nowhere", ()), (digits_folder, ("members[0].backbone=resnet81",))):
        with pytest.raises(UserError):
            run_of(recipe, data, run.path, *overrides, overwrite=True)
    assert files(run.path) == before


def changed_pixels(data: Path) -> None:
    shutil.copy(data / "train_10" / "1_1.png", data / "train_10" / "2_2.png")


def removed_file(data: Path) -> None:
    (data / "val_10" / "9_16.png").unlink()


def changed_class(data: Path) -> None:
    (data / "val_10" / "0_16.png").rename(data / "val_10" / "0_99.png")


@pytest.mark.parametrize("change", [changed_pixels, removed_file, changed_class])
def test_going_on_with_changed_images_is_refused(
    recipe: Path, digits_folder: Path, tmp_path: Path, change: Any
) -> None:
    shutil.copytree(digits_folder, tmp_path / "data")
    run = run_of(recipe, tmp_path / "data", tmp_path / "run")
    change(tmp_path / "data")
    before = files(run.path)
    with pytest.raises(UserError, match=r"have changed since: 1 file .*; restore them, or choose another --out"):
        train(None, None, (), Options(out=run.path, resume=True, device="cpu"))
    assert files(run.path) == before


def test_going_on_with_changed_labels_is_refused(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    def write(labels: Sequence[int]) -> Path:
        rows = [f"{digits_folder}/train_10/{d}_{i}.png,{labels[d]}" for d in range(4) for i in range(16)]
        (tmp_path / "data.csv").write_text("\n".join(["image,label", *rows]) + "\n")
        return tmp_path / "data.csv"

    run = run_of(recipe, write([0, 1, 2, 3]), tmp_path / "run")
    write([1, 0, 2, 3])  # the same images, the same classes
    with pytest.raises(UserError, match=r"images or labels in .* have changed since"):
        train(None, None, (), Options(out=run.path, resume=True, device="cpu"))


def test_going_on_with_another_recipe_is_refused(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    run = run_of(recipe, digits_folder, tmp_path / "run")
    with pytest.raises(UserError, match=r"--resume with another recipe \(was: lr = 0\.001; now: lr = 0\.002\)"):
        train(recipe, digits_folder, ("train.lr=0.002",), Options(out=run.path, resume=True))
    with pytest.raises(UserError, match="--resume with another recipe"):
        train(None, None, ("seed=3",), Options(out=run.path, resume=True))


def test_resume_where_nothing_is_yet(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder"):
        train(None, None, (), Options(out=tmp_path / "run", resume=True))
    said = list[str]()
    train(recipe, digits_folder, (), Options(out=tmp_path / "run", resume=True, device="cpu"), say=said.append)
    assert said[0].endswith("no run there yet to go on with; it starts from the beginning")


def test_what_a_user_is_told_before_and_between(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    said = list[str]()
    run = train(recipe, digits_folder, (), Options(out=tmp_path / "run", device="cpu"), say=said.append)
    assert said[0] == f"{digits_folder}: layout prefix, 10 classes, images: 130 fit, 30 holdout, 40 val"
    assert said.pop(1).startswith("note: 30 held-out images will calibrate the probabilities; with --set data.folds=5")
    assert said[1].startswith("estimate: about ") and "memory" in said[1] and "disk" in said[1]
    held = accuracy_score(run.labels("holdout"), run.member("squeeze").outputs()["holdout"].argmax(1))
    assert said[2] == f"run: {run.path}"  # early, since it may be a name that the user didn't give
    assert said[3] == f"squeeze: accuracy {held:.3f} on 30 held-out training images"
    assert train.__doc__


def test_weights_chosen_on_the_scored_images_are_labelled(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    two = recipe.with_name("two.toml")
    run = run_of(two, digits_folder, tmp_path / "run", "ensemble.fit_on=val")
    assert run.metrics.flattered and run.metrics.fitted_on == "val"
    assert any("weights were chosen on the images that are scored (val)" in w for w in run.metrics.warnings)


def test_weights_of_the_recipe_are_taken(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    text = TWO + '[ensemble]\ncombine = "weighted"\nweights = {squeeze = 1, other = 3}\n'
    recipe.with_name("weighted.toml").write_text(text)
    run = run_of(recipe.with_name("weighted.toml"), digits_folder, tmp_path / "run")
    assert run.ensemble.weights == (0.25, 0.75) and not run.metrics.flattered
    assert octavo.load(run.path).weights == {"squeeze": 0.25, "other": 0.75}


def test_without_held_out_images(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    run = run_of(recipe, digits_folder, tmp_path / "run", "data.holdout=0", "ensemble.combine=mean_logit")
    assert run.manifest["data"]["parts"] == {"fit": 160, "holdout": 0, "val": 40}
    assert set(run.member("squeeze").outputs()) == {"val"}


def test_diverged_training_is_said(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"squeeze: its .* diverged; lower train\.lr"):
        run_of(recipe, digits_folder, tmp_path / "run", "train.lr=1e30")
    with pytest.raises(UserError, match=r"squeeze: its .* diverged; lower train\.lr"):
        run_of(recipe, digits_folder, tmp_path / "best", "train.lr=1e30", "train.keep=best", "train.patience=1")


def test_training_in_another_thread(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    found = list[octavo.Run]()

    def work() -> None:
        found.append(octavo.train(recipe, digits_folder, out=tmp_path / "run", device="cpu"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].classes == tuple(map(str, range(10))) and list(found[0].members) == ["squeeze"]


def test_stop_while_decoding_leaves_no_run(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int, note: str = "") -> None:
        if done == 20:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        train(recipe, digits_folder, (), Options(out=tmp_path / "run", device="cpu"), progress=stop)
    assert caught.value.signal == signal.SIGTERM and not (tmp_path / "run").exists()
    assert signal.getsignal(signal.SIGTERM) == before


MISTAKES = {
    r'train\.class_weights: 3 weights for 10 classes': "train.class_weights=[1,2,3]",
    r'members\[0\]\.backbone: unknown "resnet81"; did you mean "resnet18"': "members[0].backbone=resnet81",
    r'train\.epocs: unknown key; did you mean "epochs"': "train.epocs=3",
}  # fmt: skip


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_found_before_the_first_step(
    recipe: Path, digits_folder: Path, tmp_path: Path, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        run_of(recipe, digits_folder, tmp_path / "run", MISTAKES[words])
    assert not (tmp_path / "run").exists()


def test_a_recipe_or_a_run_must_be_named(tmp_path: Path, recipe: Path) -> None:
    with pytest.raises(UserError, match="name a recipe, or, with --resume"):
        train(None, None)
    with pytest.raises(UserError, match="name a recipe; `octavo recipes` lists"):
        train(None, "data", (), Options(out=tmp_path / "x"))
    with pytest.raises(UserError, match="name the data: --data FOLDER"):
        train(recipe, None, (), Options(out=tmp_path / "x"))


def test_two_processes_cannot_train_in_one_folder(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    run = run_of(recipe, digits_folder, tmp_path / "run")
    before = (run.path / "metrics.json").read_bytes()
    with run.locked(), pytest.raises(UserError, match="another process is training here"):
        train(None, None, (), Options(out=run.path, resume=True, device="cpu"))
    assert (run.path / "metrics.json").read_bytes() == before


def test_no_other_process_starts_the_run_anew_while_its_report_is_written(
    recipe: Path, digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def bind(run: RunFolder, *_: Any) -> None:
        try:
            RunFolder.new(run.path, overwrite=True).begin(run.recipe, run.manifest, run.samples())
        except UserError as error:
            refused.append(str(error))

    monkeypatch.setattr("octavo.verbs.report.bind", bind)
    run = train(recipe, str(digits_folder), (), Options(out=tmp_path / "run", device="cpu", report=True))
    assert len(refused) == 1 and "another process is training here" in refused[0]
    assert (run.path / "metrics.json").is_file()


def test_resume_remembers_how_the_run_began(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits_folder, data)
    (data / "train_10" / "3_2.png").write_bytes(b"nothing")
    cache = tmp_path / "a cache of its own"
    run = run_of(recipe, data, tmp_path / "run", cache=cache, skip_broken=True)
    before = files(run.path)
    shutil.rmtree(run.member("squeeze").folder)
    train(None, None, (), Options(out=run.path, resume=True))
    assert files(run.path) == before
    assert run.manifest["options"]["device"] == "cpu" and run.manifest["options"]["skip_broken"] is True


def test_resume_on_other_pretrained_weights_is_refused(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / f"{name}.pth")
    own = tmp_path / "own.pth"
    shutil.copy(tmp_path / "a.pth", own)
    run = run_of(recipe, digits_folder, tmp_path / "run", f"members[0].weights={own}")
    shutil.rmtree(run.member("squeeze").folder)
    shutil.copy(tmp_path / "b.pth", own)
    with pytest.raises(UserError, match="the weights that squeeze starts from are another file now"):
        train(None, None, (), Options(out=run.path, resume=True))


def test_folders_may_be_given_as_text(recipe: Path, digits_folder: Path, tmp_path: Path) -> None:
    run = octavo.train(recipe, str(digits_folder), out=str(tmp_path / "run"), cache=str(tmp_path / "c"), device="cpu")
    assert run.folder == tmp_path / "run" and (tmp_path / "c" / "pixels").is_dir()


def test_tensorboard_without_its_package_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.options.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"octavo\[tensorboard\]"):
        Options(tensorboard=True)


def test_a_trained_network_leaves_memory_before_the_next_one_comes(
    recipe: Path, digits_folder: Path, tmp_path: Path
) -> None:
    alive = []

    def look(line: str) -> None:
        if "held-out training images" in line:  # said between two members
            alive.append(sum(type(thing) is MemberNet for thing in gc.get_objects()))

    gc.collect()
    before = sum(type(thing) is MemberNet for thing in gc.get_objects())
    gc.disable()
    try:
        train(recipe.with_name("two.toml"), digits_folder, (), Options(tmp_path / "run", device="cpu"), say=look)
    finally:
        gc.enable()
    assert alive == [before] * 2
