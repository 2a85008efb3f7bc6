"""A student: its loss, its teacher's answers, its run and its report."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from PIL import Image
from scipy.special import log_softmax, softmax

from conftest import Octavo, reseal
from octavo.cache import caches
from octavo.data.batches import Batch, Batches, PixelRows
from octavo.engine.folder import RunFolder
from octavo.engine.goals import ClassifyGoal, DistilGoal
from octavo.engine.hardware import Hardware
from octavo.engine.job import Job
from octavo.engine.restore import Shared, batch_of, restore_all, together
from octavo.engine.teacher import identity_of
from octavo.errors import UserError
from octavo.options import Options
from octavo.progress import silent
from octavo.recipe import ClassifyRecipe
from octavo.tasks.classification.data import prepare
from octavo.tasks.classification.student import compared, graduate
from octavo.tasks.classification.student_recipe import recipe_of
from octavo.tasks.classification.teacher import _Teacher, answers_of
from octavo.verbs.distil import distil
from octavo.verbs.reproduce import reproduce
from octavo.verbs.resuming import place_of
from octavo.verbs.training import train


@pytest.fixture(scope="module")
def folder(trained: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that is trained for an epoch, the cache that it left, and its teacher, which was moved since."""
    folder = tmp_path_factory.mktemp("taught")
    shutil.copytree(trained.path, folder / "run")
    options = Options(out=folder / "student", cache=folder / "cache", device="cpu")
    distil(RunFolder.open(folder / "run"), "mobile", ["train.epochs=1"], options, temperature=3.0)
    (folder / "run").rename(folder / "moved")
    return folder


@pytest.fixture
def stopped(folder: Path, tmp_path: Path) -> RunFolder:
    """A copy of the student, killed as it began."""
    run = RunFolder.open(shutil.copytree(folder / "student", tmp_path / "stopped"))
    shutil.rmtree(run.member("mobile").folder)
    return run


def changed(run: RunFolder) -> RunFolder:
    """Give a run's ensemble other weights, as pruning does."""
    path = run.path / "ensemble.json"
    table = json.loads(path.read_text())
    first, *others = table["weights"]
    path.write_text(json.dumps(table | {"weights": {first: 1.0} | dict.fromkeys(others, 0.0)}))
    reseal(run)
    return run


def rewritten(run: RunFolder, **sections: dict[str, Any]) -> RunFolder:
    """Change sections of a run's recipe."""
    path = run.path / "recipe.toml"
    table = tomllib.loads(path.read_text())
    path.write_text(tomli_w.dumps(table | {name: table[name] | keys for name, keys in sections.items()}))
    reseal(run)
    return run


@pytest.fixture
def copied(trained: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(trained.path, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (2.0, 0.9), (4.0, 0.5), (3.0, 0.0)])
def test_the_loss_is_hintons(temperature: float, weight: float) -> None:
    """Against NumPy and SciPy: w T² KL(teacher ‖ student) at T, and (1 - w) cross-entropy."""
    draw = np.random.default_rng(0)
    teacher, student, labels = draw.normal(size=(7, 5)), draw.normal(size=(7, 5)), draw.integers(0, 5, 7)
    soft = softmax(teacher / temperature, axis=1)
    kl = (soft * (np.log(soft) - log_softmax(student / temperature, axis=1))).sum(1).mean()
    cross = -log_softmax(student, axis=1)[np.arange(7), labels].mean()
    goal = DistilGoal(ClassifyGoal(5), temperature, weight)
    targets = torch.from_numpy(np.concatenate([teacher, labels[:, None]], axis=1)).float()
    found = goal.loss(torch.from_numpy(student).float(), targets)
    assert float(found) == pytest.approx(weight * temperature**2 * kl + (1 - weight) * cross, rel=1e-5)


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_a_student_learns_from_the_ensembles_answers(
    mode: str, copied: RunFolder, tmp_path: Path, run_cli: Octavo, cache: Path
) -> None:
    words = ["--set", f"train.mode={mode}", "--set", "train.epochs=2", "--no-report", "--out", str(tmp_path / "s")]
    if mode == "frozen":
        words += ["--set", "augment.hflip=0", "--set", "train.cache=false"]
    code, out, err = run_cli("distil", str(copied.path), "--student", "mobile", *words)
    assert code == 0, err
    student = RunFolder.open(tmp_path / "s")
    report = json.loads((student.path / "distil.json").read_text())
    assert "best single" in out and report["scored"] == 40 and report["student"] == "mobile"
    recipe = student.recipe_as(ClassifyRecipe)
    assert recipe.distil.run == str(copied.path) and len(recipe.members) == 1
    found, labels = student.distil, copied.labels("val")
    alone = (copied.member("mobile").outputs()["val"].argmax(1) == labels).mean()
    assert found and (found.best == "mobile") == (found.untaught is None)
    if found.untaught and found.taught:
        assert found.untaught.value == pytest.approx(alone) and "mobile, as a member" in out
        assert found.taught.value == pytest.approx(found.student_accuracy.value - alone)
    own = copied.recipe_as(ClassifyRecipe)
    otherwise = any(own.train_of(member).mode != mode for member in own.members)
    assert ("that is in these differences too" in " ".join(out.split())) == otherwise
    kept = next(e for e in caches(cache) if e.kind == "features" and np.load(e.path / "features.npy").shape[2] == 10)
    answers = np.load(kept.path / "features.npy")[0]
    images = [np.asarray(picture) for picture in pictures(copied, 5)]
    members = restore_all(copied, copied.ensemble.names, torch.device("cpu"))
    expected = copied.ensemble.logits(together(members, batch_of(images)))
    np.testing.assert_allclose(answers[:5], expected, atol=1e-3)
    seen = [row["part"] in ("fit", "holdout") for row in student.samples()]
    np.testing.assert_array_equal(answers.any(1), seen)  # validation images aren't trained on


def pictures(run: RunFolder, count: int) -> list[np.ndarray]:
    from octavo.data.pixels import decode

    recipe, root = run.recipe_as(ClassifyRecipe), Path(run.manifest["data"]["root"])
    return [decode(root / row["file"], side=recipe.stored_side) for row in run.samples()[:count]]


def test_the_share_of_the_gain(copied: RunFolder) -> None:
    """A run as its own student keeps all of it."""
    report = compared(copied, copied)
    labels, names = copied.labels("val"), copied.ensemble.names
    each = {name: (copied.member(name).outputs()["val"].argmax(1) == labels).mean() for name in names}
    assert report.best_accuracy.value == max(each.values()) == each[report.best]
    assert report.gap.value == 0
    whole, best = report.ensemble_accuracy.value, report.best_accuracy.value
    assert report.share == (pytest.approx(1.0) if whole > best else None)
    assert report.gain.value == pytest.approx(whole - best)


def test_a_stopped_student_goes_on(copied: RunFolder, tmp_path: Path, run_cli: Octavo, cache: Path) -> None:
    words = ["distil", copied.path, "--student", "mobile", "--no-report", "--out", tmp_path / "s", "--resume"]
    code, _, err = run_cli(*words, "--set", "train.epochs=1")
    assert code == 0 and "no run there yet to go on with; it starts from the beginning" in err
    code, out, err = run_cli(*words)
    assert code == 0 and "student" in out and "all is trained" in err, err
    kept = tmp_path / "s" / "distil.json"
    was = kept.read_bytes()
    kept.unlink()
    code, out, err = run_cli("train", "--resume", "--out", tmp_path / "s", "--no-report")
    assert code == 0 and "best single" in out and kept.read_bytes() == was, err


def test_what_cannot_teach_is_refused(
    copied: RunFolder, segmented: RunFolder, tmp_path: Path, run_cli: Octavo, cache: Path
) -> None:
    out = ["--out", str(tmp_path / "s"), "--no-report"]
    code, _, err = run_cli("distil", str(segmented.path), "--student", "resnet18", *out)
    assert code == 2 and len(err.strip().splitlines()) == 1
    code, _, err = run_cli("distil", str(copied.path), "--student", "mobil", *out)
    assert code == 2 and "mobil" in err
    code, _, err = run_cli("distil", str(copied.path), "--student", "mobile", "--set", "augment.mixup=0.2", *out)
    assert code == 2 and "teacher's answers can't be mixed" in err
    manifest = json.loads((copied.path / "manifest.json").read_text())
    manifest["classes"][3] = "another"
    (copied.path / "manifest.json").write_text(json.dumps(manifest))
    reseal(copied)
    code, _, err = run_cli("distil", str(copied.path), "--student", "mobile", *out)
    assert code == 2 and "other classes than these data" in err
    assert not (tmp_path / "s").exists()


def test_what_cannot_be_compared_is_told(copied: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(copied.path, tmp_path / "other")
    other, lines = RunFolder.open(tmp_path / "other"), list[str]()
    graduate(other, copied, lines.append)
    assert not lines and other.distil and other.distil.share in (None, pytest.approx(1.0))
    (other.path / "distil.json").unlink()

    def refused(words: str, teacher: RunFolder = copied) -> None:
        graduate(other, teacher, lines.append)
        assert words in lines[-1] and other.distil is None and len(lines[-1].splitlines()) == 1

    refused("nowhere", RunFolder(tmp_path / "nowhere"))
    was = (other.path / "manifest.json").read_text()
    manifest = json.loads(was)
    (other.path / "manifest.json").write_text(json.dumps(manifest | {"teacher": "0" * 64}))
    reseal(other)
    refused("another than taught it, or was changed since")
    (other.path / "manifest.json").write_text(was)
    reseal(other)
    table = other.path / "samples.csv"
    rows = table.read_text()
    content = next(row["pixels"] for row in other.samples() if row["part"] == "val")
    table.write_text(rows.replace(content, "0" * len(content)))
    reseal(other)
    refused("1 file with other pixels")
    table.write_text(rows.replace("3_17.png", "3_71.png"))
    assert table.read_text() != rows
    reseal(other)
    refused("scored on other images")
    table.write_text(rows)
    reseal(other)
    (copied.member("mobile").folder / "outputs.safetensors").unlink()
    graduate(other, copied, lines.append)
    assert other.distil is None and "not compared with the ensemble that taught it" in lines[-1]


def test_a_teacher_is_known_by_what_it_answers(trained: RunFolder, copied: RunFolder) -> None:
    """Wherever it lies, and however new its files are."""
    assert identity_of(copied) == identity_of(trained)
    identities = {identity_of(trained), identity_of(changed(copied))}
    copied.bf16 = {"device": "cpu", "members": ["squeeze"]}
    identities.add(identity_of(copied))
    outputs = copied.member("squeeze").folder / "outputs.safetensors"
    outputs.write_bytes(outputs.read_bytes()[::-1])
    reseal(copied)
    assert len(identities | {identity_of(copied)}) == 4


def test_a_teacher_of_folds(digits_folder: Path, tmp_path: Path, cache: Path) -> None:
    """Its weights lie in the folders of its folds; what it chose out of fold the student chooses on images held out."""
    (tmp_path / "r.toml").write_text(
        'data = {size = 32, resize = "stretch", normalize = "none", holdout = 0, folds = 2}\n'
        'train = {epochs = 1, batch_size = 40, keep = "best", patience = 3}\n'
        '[[members]]\nname = "squeeze"\nbackbone = "squeezenet1_1"\nweights = "none"\n'
    )
    teacher = train(tmp_path / "r.toml", digits_folder, (), Options(out=tmp_path / "run", device="cpu"))
    student, report = distil(teacher, "squeezenet1_1", (), Options(device="cpu"))
    recipe = student.recipe_as(ClassifyRecipe)
    assert student.path == tmp_path / "run-squeezenet1_1" and report.scored == 40
    assert (recipe.data.folds, recipe.data.holdout, recipe.train.keep) == (0, 0.1, "best")


def test_the_students_recipe(copied: RunFolder) -> None:
    rewritten(copied, data={"size": 48, "folds": 3, "holdout": 0.0}, train={"keep": "best", "patience": 2})
    path = copied.path / "recipe.toml"
    path.write_text(
        path.read_text().replace("stored = 32\n", "").replace('name = "vgg"\n', 'name = "vgg"\nsize = 64\n')
    )
    reseal(copied)
    made = recipe_of(copied, "squeeze", ["data.holdout=0.2"], {"weight": 0.5})
    assert made.data.stored == 74 and (made.data.holdout, made.distil.weight, made.distil.temperature) == (0.2, 0.5, 2)
    assert recipe_of(copied, "squeeze", ["data.size=128"]).stored_side == 147
    assert recipe_of(copied, "squeeze", ["data.stored=40"]).stored_side == 40
    found = recipe_of(copied, "timm:hf-hub:timm/x")
    assert (found.members[0].name, found.members[0].backbone) == ("hf-hub-timm-x", "timm:hf-hub:timm/x")
    with pytest.raises(UserError, match=r"^small-squeeze: train.patience chooses on held-out [^\n]*$"):
        recipe_of(copied, "squeeze", ["data.holdout=0"])
    with pytest.raises(UserError, match=r"train.epoch: unknown key; did you mean .epochs..\n.*distil.temperature"):
        recipe_of(copied, "squeeze", ["train.epoch=1"], {"temperature": 0.0})


def test_a_run_is_taught_from_within_its_folder(
    copied: RunFolder, monkeypatch: pytest.MonkeyPatch, run_cli: Octavo
) -> None:
    place = copied.path.with_name("run-mobile")
    place.mkdir()
    (place / "file").touch()
    monkeypatch.chdir(copied.path)
    code, _, err = run_cli("distil", ".", "--student", "mobile", "--overwrite")
    assert code == 2 and f"{place}: exists and is not a run" in err


def test_a_place_of_its_own(tmp_path: Path) -> None:
    first = tmp_path / "run-mobile"
    assert place_of(first, Options()) == place_of(first, Options(resume=True)) == first
    first.mkdir()
    assert place_of(first, Options()).name == "run-mobile-2" and place_of(first, Options(overwrite=True)) == first
    (tmp_path / "run-mobile-2").mkdir()
    assert place_of(first, Options()).name == "run-mobile-3"
    assert place_of(first, Options(resume=True)).name == "run-mobile-2"


def test_a_teacher_is_not_deleted_for_its_student(copied: RunFolder, run_cli: Octavo) -> None:
    words = ["--student", "mobile", "--out", copied.path, "--overwrite", "--no-report"]
    code, _, err = run_cli("distil", copied.path, *words)
    assert code == 2 and "the run that teaches lies there; choose another" in err and copied.member("vgg").finished


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_the_teachers_options(given: str | None, copied: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder of weights always holds; what is said of its data only holds for these."""
    own = {"layout": "flat", "labels": "/labels.csv", "skip_broken": True, "weights_dir": "/weights"}
    path = copied.path / "manifest.json"
    path.write_text(json.dumps(copied.manifest | {"options": copied.manifest["options"] | own}))
    reseal(copied)
    seen: list[Options] = []

    def stop(recipe: object, data: str, changes: object, options: Options, **others: object) -> None:
        seen.append(options)
        raise UserError(data)

    monkeypatch.setattr("octavo.verbs.distil.train", stop)
    with pytest.raises(UserError, match=given or copied.manifest["data"]["root"]):
        distil(copied, "mobile", data=given)
    of_data = (None, None, False) if given else ("flat", Path("/labels.csv"), True)
    assert (seen[0].layout, seen[0].labels, seen[0].skip_broken) == of_data and seen[0].weights_dir == Path("/weights")


def test_other_validation_images_are_refused(
    copied: RunFolder, digits_folder: Path, tmp_path: Path, run_cli: Octavo
) -> None:
    data = Path(shutil.copytree(digits_folder, tmp_path / "data"))
    words = ["distil", copied.path, "--student", "mobile", "--data", data, "--out", tmp_path / "s", "--no-report"]
    picture = data / "val_10" / "3_17.png"
    Image.fromarray(np.asarray(Image.open(picture)) ^ 1).save(picture)
    code, _, err = run_cli(*words)
    line = err.splitlines()[-1]
    assert code == 2 and line.startswith(f"error: {data}: its validation images aren't those of {copied.path}, ")
    assert "1 file with other pixels (val_10/3_17.png); restore them" in line
    picture.rename(picture.with_name("4_17.png"))
    code, _, err = run_cli(*words)
    assert code == 2 and "1 file is gone (val_10/3_17.png)" in err.splitlines()[-1]
    assert not (tmp_path / "s").exists()


def test_a_student_goes_on_under_a_teacher_that_was_moved(folder: Path, stopped: RunFolder, run_cli: Octavo) -> None:
    code, _, err = run_cli("train", "--resume", "--out", stopped.path)
    assert code == 2 and f"distil.run: {folder / 'run'}: no such run folder" in err and "distil PLACE" in err
    words = ["--student", "mobile", "--out", stopped.path, "--resume", "--no-report", "--temperature", 3]
    code, _, err = run_cli("distil", folder / "moved", *words)
    assert code == 0, err
    whole = RunFolder(folder / "student")
    assert stopped.member("mobile").outputs_digest() == whole.member("mobile").outputs_digest()
    assert stopped.recipe == whole.recipe


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--student", "squeeze"], "--student squeeze: the one in {run} is mobile (mobilenet_v3_small); name that"),
        (["--temperature", "2"], "--temperature 2: {run} began with 3; leave it out"),
        (["--weight", "0.5"], "--weight 0.5: {run} began with 0.9; leave it out"),
        (["--set", "train.epochs=2"], "{run}: --resume with another recipe (was: epochs = 1; now: epochs = 2)"),
        (["--out", "{teacher}"], "{teacher}: is a run that no other teaches; choose another --out"),
    ],
)
def test_what_a_student_did_not_begin_with_is_refused(
    words: list[str], told: str, folder: Path, stopped: RunFolder, run_cli: Octavo
) -> None:
    places = {"run": stopped.path, "teacher": folder / "moved"}
    given = ["--student", "mobile", "--out", stopped.path, "--resume", *(word.format(**places) for word in words)]
    code, _, err = run_cli("distil", folder / "moved", *given)
    assert code == 2 and err.splitlines()[-1].startswith(f"error: {told.format(**places)}")


def test_a_teacher_that_changed_is_refused(
    folder: Path, stopped: RunFolder, copied: RunFolder, tmp_path: Path, run_cli: Octavo
) -> None:
    changed(copied)
    told = f"--resume, but the ensemble in {copied.path} is another than the one that it began with, or was changed"
    code, _, err = run_cli("distil", copied.path, "--student", "mobile", "--out", stopped.path, "--resume")
    assert code == 2 and f"error: {stopped.path}: {told}" in err
    with pytest.raises(UserError, match=told):
        train(None, None, [f"distil.run={copied.path}"], Options(out=stopped.path, resume=True))
    student, options = RunFolder(folder / "student"), Options(out=tmp_path / "again")
    with pytest.raises(UserError, match=r"another than its teacher then .* --teacher, or go on by --anyway"):
        reproduce(student, options, teacher=copied.path)
    found = reproduce(student, options, teacher=copied.path, anyway=True)
    assert not found.identical and "another than its teacher then" in found.conditions[0]


def test_a_student_is_reproduced_from_a_teacher_that_was_moved(
    folder: Path, trained: RunFolder, tmp_path: Path, run_cli: Octavo
) -> None:
    words = ["reproduce", folder / "student", "--out", tmp_path / "again"]
    code, _, err = run_cli(*words)
    assert code == 2 and "reproduce … --teacher PLACE" in err
    code, out, err = run_cli(*words, "--teacher", folder / "moved")
    assert code == 0 and "mobile: bit-identical" in out, out + err
    with pytest.raises(UserError, match="learned from no other run"):
        reproduce(trained, Options(out=tmp_path / "x"), teacher=folder / "moved")


def test_answers_are_found_by_what_teaches(
    folder: Path, digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network of a teacher is loaded that a student has asked before; a relative path is written down whole."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("octavo.tasks.classification.teacher.restore_all", None)
    recipe = RunFolder(folder / "student").recipe_as(ClassifyRecipe).taught_in("moved")
    run = train(recipe, digits_folder, (), Options(out=tmp_path / "again", cache=folder / "cache", device="cpu"))
    assert run.recipe_as(ClassifyRecipe).distil.run == str(folder / "moved")
    assert run.member("mobile").outputs_digest() == RunFolder(folder / "student").member("mobile").outputs_digest()


def test_frozen_members_teach_by_their_cached_features(trained: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    recipe = trained.recipe_as(ClassifyRecipe)
    found = prepare(recipe, str(digits_folder), None, tmp_path, False, progress=silent)
    job = Job(recipe, recipe.members[1], 10, found.labels, found.parts, found.pixels, None, tmp_path, Hardware("cpu"))
    teacher = _Teacher(trained, job, silent)
    batch = Batches(PixelRows(found.pixels), found.parts["val"], found.labels, 40)[-1, 0]
    answers = teacher(batch).numpy()
    frozen = [member.name for member in recipe.members if recipe.train_of(member).mode == "frozen"]
    assert frozen and list(teacher.kept) == frozen
    stored = np.stack([trained.member(name).outputs()["val"] for name in trained.ensemble.names])
    np.testing.assert_allclose(answers, trained.ensemble.logits(stored), atol=1e-3)
    for name in frozen:  # to the bit what they said when they were trained
        np.testing.assert_array_equal(teacher.kept[name].logits(batch), trained.member(name).outputs()["val"])


def test_a_teacher_that_memory_does_not_bear(
    trained: RunFolder, digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batches are halved until they fit; where not even one image fits it is named."""
    recipe = trained.recipe_as(ClassifyRecipe)
    found = prepare(recipe, str(digits_folder), None, tmp_path, False, progress=silent)
    parts = found.parts | {"fit": found.parts["fit"][:21], "holdout": found.parts["holdout"][:2]}
    job = Job(recipe, recipe.members[0], 10, found.labels, parts, found.pixels, None, tmp_path, Hardware("cpu"))
    whole, seen, most = answers_of(job, trained, silent), list[int](), 6

    def small(batch: Batch) -> Shared:
        seen.append(len(batch.indices))
        torch.empty(2**60 if len(batch.indices) > most else 1)
        return Shared(batch)

    monkeypatch.setattr("octavo.tasks.classification.teacher.Shared", small)
    np.testing.assert_allclose(answers_of(replace(job, cache=tmp_path / "halved"), trained, silent), whole, atol=1e-4)
    assert seen == [23, 12, 6, 6, 6, 5]
    most = 0
    with pytest.raises(UserError, match=f"the teacher in {trained.path}: out of memory with one image at a time"):
        answers_of(replace(job, cache=tmp_path / "none"), trained, silent)
