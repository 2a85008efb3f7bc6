"""A run that is trained once more: the same to the last bit, or it is said what isn't as it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import octavo
from conftest import Octavo, old_run, reseal
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import Hardware
from octavo.engine.identity import changed_rows
from octavo.engine.trained_files import trained_files
from octavo.errors import Damaged, UserError
from octavo.options import Options
from octavo.progress import Interrupted
from octavo.tasks.classification.prune import prune
from octavo.verbs.conditions import other_surroundings, surroundings
from octavo.verbs.differing import Comparison, compare_runs
from octavo.verbs.reproduce import Reproduction, reproduce
from octavo.verbs.training import train

FROZEN = """\
name = "frozen"
data = {size = 32, resize = "stretch", normalize = "none", holdout = 0.25}
train = {mode = "frozen", epochs = 3, batch_size = 20, optimizer = "adam", lr = 1e-2}
[[members]]
name = "shuffle"
backbone = "shufflenet_v2_x0_5"
weights = "none"
"""


@pytest.fixture(scope="module")
def again(trained: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """The ensemble of a frozen and two fine-tuned members, trained once more."""
    return reproduce(trained, Options(out=tmp_path_factory.mktemp("again") / "run"))


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run that may be written into."""
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))


def texts(found: Comparison) -> list[str]:
    return [f"{d.where}: {d.text}" for d in found.differences]


def test_frozen_and_fine_tuned_members_come_out_the_same(trained: RunFolder, again: Reproduction) -> None:
    assert again.identical and again.conditions == () and again.comparison.notes == ()
    assert again.comparison.counts["tensors"] > 100 and again.comparison.counts["numbers"] > 100
    old, new = trained_files(trained), trained_files(again.run)
    assert {n: p.read_bytes() for n, p in old.items()} == {n: p.read_bytes() for n, p in new.items()}
    assert {f"members/{m}/weights.safetensors" for m in ("vgg", "squeeze", "mobile")} < set(old)
    assert again.lines()[:3] == [f"{m}: bit-identical" for m in ("vgg", "squeeze", "mobile")]
    assert again.lines()[-1].startswith(f"bit-identical: {again.run.path} and {trained.path} (")


def test_what_was_decoded_and_computed_for_it_is_gone(again: Reproduction) -> None:
    assert sorted(p.name for p in again.run.path.parent.iterdir()) == ["run"]


def test_nothing_is_taken_from_the_cache(digits_folder: Path, tmp_path: Path, cache: Path) -> None:
    """Features that are damaged in the cache stop a training that uses them, but no reproduction."""
    recipe = tmp_path / "frozen.toml"
    recipe.write_text(FROZEN)
    run = train(recipe, digits_folder, (), Options(out=tmp_path / "run", device="cpu"))
    (features,) = cache.glob("features/*/features.npy")
    np.save(features, np.load(features) + 1)
    assert reproduce(run, Options(out=tmp_path / "again")).identical
    with pytest.raises(Damaged, match=r"features\.npy: damaged"):
        reproduce(run, Options(out=tmp_path / "cached", cache=cache))


def test_fcn_comes_out_the_same(segmented: RunFolder, tmp_path: Path) -> None:
    found = reproduce(segmented, Options(out=tmp_path / "run"))
    assert found.identical, found.lines()
    assert found.comparison.counts["masks"] == 4 + 2 * 3  # of the validation images, and two by three stages


def test_one_member_of_several(run: RunFolder, tmp_path: Path, run_cli: Octavo) -> None:
    code, out, err = run_cli("reproduce", run.path, "--member", "squeeze")
    assert code == 0, out + err
    lines = out.splitlines()
    assert lines[0] == "squeeze: bit-identical" and "not compared" in lines[1] and lines[2].startswith("bit-identical:")
    assert [p.name for p in (tmp_path / "run-reproduced" / "members").iterdir()] == ["squeeze"]
    code, _, err = run_cli("reproduce", run.path, "--member", "squeez", "--out", tmp_path / "x")
    assert (code, err) == (2, 'error: --member: unknown "squeez"; did you mean "squeeze"?\n')


def test_python_has_it_too(run: RunFolder, tmp_path: Path) -> None:
    found = octavo.load(run.path).reproduce(tmp_path / "again", members=["squeeze"], weights_dir=tmp_path)
    assert found.identical and found.run.path == tmp_path / "again"


def test_one_changed_weight_is_found(run: RunFolder, trained: RunFolder, tmp_path: Path, run_cli: Octavo) -> None:
    file = run.member("squeeze").weights
    weights = load_file(file)
    name = next(key for key, value in weights.items() if value.dim() == 4)
    weights[name][0, 0, 0, 0] += 0.5
    save_file(weights, file)
    (found,) = texts(compare_runs(run, trained))
    assert found.startswith(f"squeeze: weights: 1 of {len(weights)} tensors differ, by at most 0.5 (")
    code, out, err = run_cli("reproduce", run.path, "--member", "squeeze")
    assert code == 1, err
    assert out.splitlines()[0] == "squeeze: differs" and out.splitlines()[1].strip() == found.partition(": ")[2]
    assert out.splitlines()[-1].startswith("not bit-identical:")


def test_weights_of_equal_value_and_other_bits_are_found(run: RunFolder, trained: RunFolder) -> None:
    file = run.member("vgg").weights
    weights = load_file(file)
    name = next(key for key, value in weights.items() if key.endswith("bias") and not value.any())
    weights[name] = -weights[name]
    save_file(weights, file)
    (found,) = texts(compare_runs(run, trained))
    assert f"differ, by at most 0 ({name})" in found


def test_changed_outputs_tell_how_many_predictions(run: RunFolder, trained: RunFolder) -> None:
    file = run.member("mobile").folder / "outputs.safetensors"
    outputs = load_file(file)
    order = outputs["val"][0].argsort()
    outputs["val"][0, order[0]] = outputs["val"][0, order[-1]] + 1
    outputs["holdout"][1, outputs["holdout"][1].argmax()] += 0.25
    save_file(outputs, file)
    found = sorted(texts(compare_runs(run, trained)))
    assert found[0].endswith("outputs of holdout: differ by at most 0.25; predictions of 0 of 40 images changed")
    assert found[1].endswith("; predictions of 1 of 40 images changed") and found[1].startswith(
        "mobile: outputs of val"
    )


def test_changed_numbers_are_told_with_their_member(run: RunFolder, trained: RunFolder) -> None:
    path = run.path / "metrics.json"
    report = json.loads(path.read_text())
    system = next(s for s in report["systems"] if s["name"] == "vgg")
    was = system["metrics"]["accuracy"]["value"]
    system["metrics"]["accuracy"]["value"] = 0.123
    report["rule"] += " And more."
    path.write_text(json.dumps(report))
    ensemble = json.loads((run.path / "ensemble.json").read_text())
    weight = ensemble["weights"]["vgg"]
    ensemble["weights"]["vgg"] = 0.77
    (run.path / "ensemble.json").write_text(json.dumps(ensemble))
    found = compare_runs(trained, run)
    assert texts(found) == [
        f"ensemble.json: ensemble: weights.vgg {weight} → 0.77",
        f"vgg: metrics: accuracy {was} → 0.123",
    ]
    assert found.notes == ("metrics.json: rule: other words",)


def test_changed_rows_and_missing_files_are_found(run: RunFolder, trained: RunFolder) -> None:
    path = run.path / "predictions" / "val.csv"
    lines = path.read_text().splitlines()
    image, label = lines[3].split(",")
    lines[3] = f"{image},{(int(label) + 1) % 10}"
    path.write_text("\n".join(lines) + "\n")
    (run.member("squeeze").folder / "history.csv").unlink()
    assert texts(compare_runs(trained, run)) == [
        "squeeze: members/squeeze/history.csv: not there now",
        f"predictions/val.csv: predictions/val.csv: 1 of 40 rows differ, such as {image}: label {label} → "
        f"{(int(label) + 1) % 10}",
    ]
    assert compare_runs(run, trained).notes == ("members/squeeze/history.csv: not recorded then",)


def test_changed_masks_are_counted(segmented: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(segmented.path, tmp_path / "run")))
    path = sorted((run.path / "predictions" / "val").glob("*.png"))[0]
    colours = np.asarray(Image.open(path).convert("RGB")).copy()
    colours[:3, :8] = 255 - colours[:3, :8]
    Image.fromarray(colours).save(path)
    counts = load_file(run.member("segmenter").folder / "outputs.safetensors")
    counts["val"][2, 0, 0] += 5
    save_file(counts, run.member("segmenter").folder / "outputs.safetensors")
    assert texts(compare_runs(segmented, run)) == [
        "segmenter: outputs of val: the counts of 1 of 4 images differ, by at most 5",
        "predictions/val: predictions/val: 1 of 4 masks differ, in 1 % of their pixels",
    ]


Change = Callable[[Path], object]


def _relabelled(data: Path) -> None:
    (data / "train_10" / "3_2.png").rename(data / "train_10" / "4_99.png")


def _repainted(data: Path) -> None:
    path = data / "train_10" / "3_2.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)


CHANGES: dict[str, tuple[Change, str]] = {
    "file gone": (lambda data: (data / "val_10" / "5_17.png").unlink(), r"1 file is gone \(val_10/5_17.png\)"),
    "label": (_relabelled, r"1 file is gone \(train_10/3_2.png\); 1 file is new \(train_10/4_99.png\)"),
    "pixel": (_repainted, r"1 file with other pixels \(train_10/3_2.png\)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_data_are_refused(
    change: str, run: RunFolder, digits_folder: Path, tmp_path: Path, run_cli: Octavo
) -> None:
    data = Path(shutil.copytree(digits_folder, tmp_path / "data"))
    CHANGES[change][0](data)
    out = tmp_path / "again"
    with pytest.raises(UserError, match=CHANGES[change][1]):
        reproduce(run, Options(out=out), data=data, members=["squeeze"])
    code, _, err = run_cli("reproduce", run.path, "--data", data, "--member", "squeeze", "--out", out)
    assert code == 2 and err.splitlines()[-1].startswith(f"error: {run.path}: can't be reproduced: ")
    assert "--data, or go on by --anyway" in err.splitlines()[-1]
    assert not [path for path in tmp_path.iterdir() if "again" in path.name]  # nothing is left of it


def test_changed_data_differ_by_anyway(run: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(digits_folder, tmp_path / "data"))
    _repainted(data)
    found = reproduce(run, Options(out=tmp_path / "again"), data=data, members=["squeeze"], anyway=True)
    assert len(found.conditions) == 1 and found.conditions[0].endswith("3_2.png): the run will differ")
    assert not found.identical and any("weights:" in line for line in found.lines())
    assert f"not as then: {found.conditions[0]}" in found.lines()


def test_data_may_lie_elsewhere(run: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(digits_folder, tmp_path / "elsewhere"))
    assert reproduce(run, Options(out=tmp_path / "again"), data=data, members=["squeeze"]).identical


def test_labels_and_parts_that_changed_are_named() -> None:
    then = [{"file": f"{i}.png", "label": "cat", "part": "fit"} for i in range(5)]
    now = [dict(row, group="a") for row in then]
    assert changed_rows(then, now) == []
    for i in range(4):
        now[i]["label"] = "dog"
    now[4]["part"] = "val"
    assert changed_rows(then, now) == [
        "4 files with another label (0.png: cat → dog; 1.png: cat → dog; 2.png: cat → dog; …)",
        "1 file with another part (4.png: fit → val)",
    ]
    assert changed_rows(then, then[::-1]) == ["the files are in another order"]


def test_changed_pretrained_weights_are_refused(digits_folder: Path, tmp_path: Path, cache: Path) -> None:
    import torchvision

    own = tmp_path / "own.pth"
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), own)
        if seed == 0:
            recipe = tmp_path / "r.toml"
            recipe.write_text(
                'data = {size = 32, resize = "stretch", normalize = "none", holdout = 0}\n'
                'ensemble.combine = "mean_logit"\n[train]\nepochs = 1\nbatch_size = 40\n'
                f'[[members]]\nname = "squeeze"\nbackbone = "squeezenet1_1"\nweights = "{own}"\n'
            )
            run = train(recipe, digits_folder, (), Options(out=tmp_path / "run", device="cpu"))
    with pytest.raises(UserError, match=r"weights that squeeze starts from are another file .*; name .* --weights-dir"):
        reproduce(run, Options(out=tmp_path / "again"))
    found = reproduce(run, Options(out=tmp_path / "again"), anyway=True)
    assert "the run will differ" in found.conditions[0] and not found.identical


@pytest.mark.parametrize(
    ("file", "old", "new"), [("recipe.toml", "epochs = 40", "epochs = 39"), ("samples.csv", "fit", "val")]
)
def test_changed_records_are_refused(file: str, old: str, new: str, run: RunFolder, tmp_path: Path) -> None:
    text = (run.path / file).read_text()
    assert old in text
    old_run(run)
    (run.path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=f"its {file} was changed after the training began; put them back"):
        reproduce(run, Options(out=tmp_path / "again"))


def test_other_code_and_machine_are_said(trained: RunFolder) -> None:
    now = surroundings(Hardware("cpu"))
    assert other_surroundings(trained.manifest, now) == ([], [])
    then = json.loads(json.dumps(trained.manifest))
    then["packages"]["torch"] = "2.0.1"
    then["packages"]["gone"] = "1.0"
    then["code"]["sha256"] = "0" * 64
    then["environment"] = {"MKL_CBWR": "AVX2"}
    then["hardware"] |= {"threads": 7, "device": "cuda"}
    then["hardware"]["cpu"] |= {"name": "Other", "flags": [*then["hardware"]["cpu"]["flags"], "avx999"]}
    lines, unrecorded = other_surroundings(then, now)
    packages = now["packages"]
    assert f"torch 2.0.1 then, {packages['torch']} now: bits may differ" in lines
    assert "gone 1.0 then, not installed now" in lines
    assert f"octavo's code {'0' * 12} then, {now['code']['sha256'][:12]} now: bits may differ" in lines
    assert "MKL_CBWR AVX2 then, unset now: bits may differ" in lines
    assert "device cuda then, cpu now: bits may differ" in lines
    assert f"threads 7 then, {torch.get_num_threads()} now: bits may differ" in lines
    assert "instructions of the processor: avx999 (not now): bits may differ" in lines
    assert len(lines) == 9 and unrecorded == []  # GPU and processor too


def old_manifest(run: RunFolder) -> dict[str, Any]:
    """Leave in a manifest what Octavo recorded before it could reproduce runs."""
    manifest = run.manifest
    for key in ("code", "environment", "recipe", "format"):
        del manifest[key]
    del manifest["data"]["samples"]
    kept = ("torch", "torchvision", "pytorch-lightning", "numpy", "pillow")
    manifest["packages"] = {name: manifest["packages"][name] for name in kept}
    hardware = ("device", "devices", "threads", "cores", "processor", "system")
    manifest["hardware"] = {name: manifest["hardware"][name] for name in hardware}
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    return manifest


def test_manifests_of_older_versions_are_read(run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old_manifest(run)
    said: list[str] = []
    found = reproduce(run, Options(out=tmp_path / "again"), members=["squeeze"], say=said.append)
    assert found.identical and found.conditions == ()
    assert any(line.startswith("not recorded then, so not compared: octavo's code,") for line in said)
    shutil.rmtree(run.member("squeeze").folder)
    train(None, None, (), Options(out=run.path, resume=True))  # such a run can be resumed
    assert "before files were hashed" in caplog.text
    assert run.member("squeeze").finished


def test_what_is_no_finished_run_is_refused(run: RunFolder, tmp_path: Path, run_cli: Octavo) -> None:
    (run.path / "metrics.json").unlink()
    code, _, err = run_cli("reproduce", run.path)
    assert code == 2 and err.startswith(f"error: {run.path}: this run is not finished, so") and err.count("\n") == 1
    code, _, err = run_cli("reproduce", tmp_path / "nothing")
    assert code == 2 and "no such run folder" in err


def test_folders_that_are_taken_are_refused(run: RunFolder, again: Reproduction, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists and is a run; --resume goes on with it"):
        reproduce(run, Options(out=again.run.path))
    for out in (run.path, run.path / "members" / "x", tmp_path):
        for options in (Options(out=out, overwrite=True), Options(out=out, resume=True)):
            with pytest.raises(UserError, match="choose another"):
                reproduce(run, options)
    assert run.member("vgg").finished


def test_a_finished_reproduction_is_compared_again_by_resume(again: Reproduction, trained: RunFolder) -> None:
    assert reproduce(trained, Options(out=again.run.path, resume=True)).identical


def test_a_run_that_was_pruned_is_pruned_again(run: RunFolder, again: Reproduction, tmp_path: Path) -> None:
    prune(run, 99.0, apply=True)
    copied = Path(shutil.copytree(again.run.path, tmp_path / "again"))
    said: list[str] = []
    found = reproduce(run, Options(out=copied, resume=True), say=said.append)
    assert found.identical and found.run.unpruned is not None and found.run.ensemble == run.ensemble
    assert "the ensemble was pruned after training; the repetition's is pruned alike" in said


def test_stopped_and_gone_on_with_it_is_the_same(run: RunFolder, tmp_path: Path) -> None:
    stopped: list[str] = []

    def stop(what: str, done: int, total: int, note: str = "") -> None:
        if what.startswith("squeeze: train") and not stopped:
            stopped.append(what)
            os.kill(os.getpid(), signal.SIGTERM)

    options = Options(out=tmp_path / "again")
    with pytest.raises(Interrupted):
        reproduce(run, options, progress=stop)
    assert RunFolder(tmp_path / "again").member("vgg").finished
    assert not RunFolder(tmp_path / "again").member("squeeze").finished
    assert (tmp_path / ".again.cache").is_dir()  # features needn't be computed twice
    found = reproduce(run, replace(options, resume=True))
    assert found.identical and not (tmp_path / ".again.cache").exists()


def test_threads_are_those_of_then_and_come_back(run: RunFolder, tmp_path: Path) -> None:
    manifest = run.manifest
    manifest["hardware"]["threads"] = 2
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    reseal(run)
    before, seen = torch.get_num_threads(), []

    def look(what: str, done: int, total: int, note: str = "") -> None:
        seen.append(torch.get_num_threads())

    found = reproduce(run, Options(out=tmp_path / "again"), members=["squeeze"], progress=look)
    assert set(seen) == {2} and found.run.manifest["hardware"]["threads"] == 2 and found.conditions == ()
    assert torch.get_num_threads() == before
