"""Comparisons of real runs, some with altered outputs, against what their stored outputs say."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import reseal
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.files import write_csv
from octavo.looks.comparison import verdict
from octavo.numbers.compare import fourfold, holm, mcnemar
from octavo.numbers.compare_results import Comparison
from octavo.numbers.ensemble import Ensemble
from octavo.recipe import dumps, load
from octavo.tasks.classification.evaluation import regrade
from octavo.tasks.segmentation.evaluation import regrade_masks
from octavo.verbs.compare import compare, compared, distinct

Change = Callable[[np.ndarray], np.ndarray]


def copied(run: RunFolder, to: Path) -> RunFolder:
    shutil.copytree(run.path, to)
    return RunFolder.open(to)


def altered(run: RunFolder, change: Change, part: str = "val") -> RunFolder:
    """Change what every network of a run says of one part."""
    for network in run.recipe.networks:
        file = run.path / "members" / network.name / "outputs.safetensors"
        outputs = load_file(file)
        save_file(outputs | {part: np.ascontiguousarray(change(outputs[part]))}, file)
    reseal(run)
    return run


def noisy(amount: float, seed: int = 0) -> Change:
    return lambda logits: logits + np.random.default_rng(seed).normal(0, amount, logits.shape).astype(np.float32)


def rewritten(run: RunFolder, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> RunFolder:
    write_csv(run.path / "samples.csv", change(run.samples()))
    reseal(run)
    return run


def remade(run: RunFolder, key: str, value: object) -> RunFolder:
    manifest = run.manifest
    *way, last = key.split(".")
    place = manifest
    for step in way:
        place = place[step]
    place[last] = value
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    reseal(run)
    return run


def right(run: RunFolder) -> np.ndarray:
    """Whether a run is right on its validation images, [n], from its own predictions file."""
    regrade(run)
    with (run.path / "predictions" / "val.csv").open() as file:
        said = {row["image_id"]: row["label"] for row in csv.DictReader(file)}
    return np.array([said[Path(r["file"]).name] == r["label"] for r in run.samples() if r["part"] == "val"])


def test_two_runs_of_classifiers(trained: RunFolder, tmp_path: Path) -> None:
    other = altered(copied(trained, tmp_path / "other"), noisy(3.0))
    mine = copied(trained, tmp_path / "mine")
    ours, theirs = right(mine), right(other)
    assert 0 < theirs.mean() < ours.mean()
    out = compare([mine, other], tmp_path / "made" / "page.html")
    found = Comparison.from_json((tmp_path / "made" / "page.json").read_text())
    assert out == tmp_path / "made" / "page.html" and found == compared([mine, other])
    pair = found.pairs[0]
    assert pair.fourfold == fourfold(ours, theirs) and found.none_right == np.count_nonzero(~ours & ~theirs)
    assert pair.p == mcnemar(fourfold(ours, theirs)) == pair.p_holm
    assert pair.difference.value == pytest.approx(ours.mean() - theirs.mean(), abs=1e-9)
    report = mine.metrics
    assert report.task == "classify"
    # On all images, a run's numbers are those of its own report, interval included.
    assert found.runs[0].headline == report.ensemble.metrics["accuracy"]
    best = found.runs[0].best_member
    assert best is not None and best.name == report.best_member and best.gain == report.gain
    metrics = {key: value.value for key, value in report.ensemble.metrics.items() if key != "accuracy"}
    assert found.runs[0].metrics == pytest.approx(metrics, abs=1e-8)
    assert [c.values[0] for c in found.per_class] == [c.accuracy and c.accuracy.value for c in report.per_class]
    assert found.n == len(ours) and not found.warnings and not found.differences
    page = out.read_text()
    assert "mine is better" in page and "page.json" in page and "McNemar" in page
    assert page.count('src="data:image/png') == 2


def test_identical_runs_are_not_told_apart(trained: RunFolder, tmp_path: Path) -> None:
    found = compared([trained, copied(trained, tmp_path / "same")])
    assert found.pairs[0].p == 1 and verdict(found.pairs[0], found.level) == "not told apart at 5 %"
    text = compare([trained, RunFolder.open(tmp_path / "same")], tmp_path / "c.html").read_text()
    assert "Nothing differs in the recipes" in text


def test_three_runs_are_corrected_by_holm(trained: RunFolder, tmp_path: Path) -> None:
    runs = [trained, *(altered(copied(trained, tmp_path / f"r{i}"), noisy(a, i)) for i, a in ((1, 1.5), (2, 6.0)))]
    found = compared(runs)
    assert [(p.first, p.second) for p in found.pairs] == [("run", "r1"), ("run", "r2"), ("r1", "r2")]
    assert [p.p_holm for p in found.pairs] == list(holm([p.p for p in found.pairs]))
    assert any(p.p != p.p_holm for p in found.pairs)
    assert "Holm's correction for 3 pairs" in found.rule
    page = compare(runs, tmp_path / "three.html").read_text()
    assert "p, Holm" in page and "Of all 3 pairs" in page


def test_only_images_with_the_same_file_and_label_are_compared(trained: RunFolder, tmp_path: Path) -> None:
    other = copied(trained, tmp_path / "other")
    places = [i for i, row in enumerate(other.samples()) if row["part"] == "val"]
    gone, relabelled = set(places[:7]), places[10]

    def change(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        for i in gone:
            rows[i]["part"] = "unused"
        rows[relabelled]["label"] = str((int(rows[relabelled]["label"]) + 1) % 10)
        return rows

    remade(altered(rewritten(other, change), lambda logits: logits[7:]), "data.parts.val", len(places) - 7)
    found = compared([trained, other])
    assert found.n == len(places) - 8
    kept = right(copied(trained, tmp_path / "mine"))[np.r_[7:10, 11 : len(places)]]
    assert found.runs[0].headline.value == pytest.approx(kept.mean(), abs=1e-9)
    assert found.runs[1].headline.value == found.runs[0].headline.value  # the same answers in other places
    said = " ".join(found.warnings)
    assert f"share {len(places) - 7} validation images" in said and "1 shared image left out" in said
    backward = compared([other, trained])
    assert backward.n == found.n and backward.runs[0].headline.value == found.runs[0].headline.value


def test_classes_in_another_order_go_by_name(trained: RunFolder, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(10)
    names = [trained.manifest["classes"][i] for i in order]
    other = remade(copied(trained, tmp_path / "other"), "classes", names)
    altered(other, lambda logits: logits[:, order])
    found = compared([trained, other])
    assert found.classes == tuple(trained.manifest["classes"])
    assert found.pairs[0].fourfold is not None
    assert found.pairs[0].fourfold.first_only == found.pairs[0].fourfold.second_only == 0
    assert all(sides.values[0] == sides.values[1] for sides in found.per_class)
    assert not any("different classes" in w for w in found.warnings)


def test_a_run_that_knows_another_class_is_told(trained: RunFolder, tmp_path: Path) -> None:
    other = remade(copied(trained, tmp_path / "other"), "classes", [*trained.manifest["classes"], "letter"])
    for part in ("holdout", "val"):  # it always says "letter"
        altered(other, lambda logits: np.pad(logits, ((0, 0), (0, 1)), constant_values=99), part)
    found = compared([trained, other])
    assert found.classes[-1] == "letter" and found.runs[1].headline.value == 0
    assert any("different classes (run: 10, other: 11)" in w for w in found.warnings)
    assert all(image.answers[1] == "letter" for image in found.hardest)


def test_what_makes_runs_unequal_is_told(trained: RunFolder, tmp_path: Path) -> None:
    other = remade(copied(trained, tmp_path / "other"), "data.pixels", "0" * 64)
    recipe = load(other.path / "recipe.toml", ["ensemble.fit_on=val", "members[1].lr=0.5", "seed=4"])
    recipe = recipe.model_copy(update={"members": recipe.networks[:2]})
    (other.path / "recipe.toml").write_text(dumps(recipe))
    reseal(other)
    other.ensemble = Ensemble(tuple(member.name for member in recipe.members), "greedy", (0.5, 0.5))
    said: list[str] = []
    regrade(other)
    text = compare([trained, other], tmp_path / "c.html", say=said.append).read_text()
    assert any(w.startswith("other: flattered") for w in said)
    assert any("other images than run" in w for w in said)
    assert "other: flattered" in text
    rows = {row.key: row.values for row in compared([trained, other]).differences}
    assert rows["members.squeeze.lr"] == (None, "0.5") and rows["ensemble.fit_on"] == ("holdout", "val")
    assert rows["members.mobile"] == ("mobilenet_v3_small", None) and rows["seed"] == ("0", "4")
    assert not any(key.startswith(("name", "members.mobile.", "members.vgg", "train.")) for key in rows)


def test_images_stored_in_another_size_are_not_called_others(trained: RunFolder, tmp_path: Path) -> None:
    other = remade(copied(trained, tmp_path / "other"), "data.pixels", "0" * 64)
    (other.path / "recipe.toml").write_text(dumps(load(other.path / "recipe.toml", ["data.stored=64"])))
    reseal(other)
    assert any("in another size" in w for w in compared([trained, other]).warnings)


def test_names_stay_text(trained: RunFolder, tmp_path: Path) -> None:
    other = altered(copied(trained, tmp_path / "<script>alert(1)"), noisy(3.0))
    page = compare([trained, other], tmp_path / "c.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_what_cannot_be_compared_is_refused(trained: RunFolder, segmented: RunFolder, tmp_path: Path) -> None:
    def refused(runs: list[RunFolder], words: str, out: str = "c.html") -> None:
        with pytest.raises(UserError, match=words) as caught:
            compare(runs, tmp_path / out)
        assert "\n" not in str(caught.value) and not (tmp_path / out).is_file()

    def moved(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [row | {"file": f"elsewhere/{row['file']}"} for row in rows]

    def turned(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [row | {"label": str((int(row["label"]) + 1) % 10)} for row in rows]

    refused([trained], "two runs or more")
    refused([trained, RunFolder(trained.path / ".." / trained.path.name)], "given twice")
    refused([trained, segmented], 'of task "classify".* "segment"')
    strange = rewritten(copied(trained, tmp_path / "strange"), moved)
    refused([trained, strange], "run and strange share no validation image .*elsewhere/val_10")
    refused([trained, rewritten(copied(trained, tmp_path / "turned"), turned)], "share 40 validation images, but no tr")
    begun = copied(trained, tmp_path / "begun")
    (begun.path / "metrics.json").unlink()
    refused([trained, begun], "not finished")
    refused([trained, copied(trained, tmp_path / "r2")], "ends in .html", "c.json")
    # The numbers would go onto another file, such as those of a run.
    refused([trained, RunFolder.open(tmp_path / "r2")], "lies in a run's folder", "r2/metrics.html")
    assert RunFolder.open(tmp_path / "r2").metrics == trained.metrics
    (tmp_path / "mine.json").write_text("{}")
    refused([trained, RunFolder.open(tmp_path / "r2")], "mine.json: is there already, and is no numbers", "mine.html")


def test_names_are_as_long_as_it_takes() -> None:
    assert distinct([Path("/a/x/run"), Path("/a/y/run"), Path("/a/z")]) == ("x/run", "y/run", "a/z")
    assert distinct([Path("/a/x"), Path("/a/y")]) == ("x", "y")


def by_rule(run: RunFolder, rule: str) -> RunFolder:
    file = run.path / "recipe.toml"
    file.write_text(dumps(load(file, [f"measure.rule={rule}"])))
    reseal(run)
    return run


def blurred(counts: np.ndarray) -> np.ndarray:
    """Take a third of every class's hits as the next class."""
    counts, classes = counts.copy(), counts.shape[1] - 1
    for i in range(classes):
        lost = counts[:, i, i] // 3
        counts[:, i, i] -= lost
        counts[:, i, (i + 1) % classes] += lost
    return counts


def test_two_runs_of_segmenters(segmented: RunFolder, tmp_path: Path) -> None:
    mine = by_rule(copied(segmented, tmp_path / "mine"), "mmsegmentation")
    other = altered(by_rule(copied(segmented, tmp_path / "other"), "mmsegmentation"), blurred)
    ours, theirs = regrade_masks(mine), regrade_masks(other)
    assert ours.miou is not None and theirs.miou is not None
    out = compare([mine, other], tmp_path / "c.html")
    found = Comparison.from_json((tmp_path / "c.json").read_text())
    assert found.runs[0].headline == ours.metrics["miou"] and found.runs[1].headline == theirs.metrics["miou"]
    assert found.pairs[0].difference.value == pytest.approx(ours.miou - theirs.miou, abs=1e-9)
    assert found.runs[0].metrics["pixel_accuracy"] == pytest.approx(ours.metrics["pixel_accuracy"].value)  # type: ignore[union-attr]
    assert [c.values[0] for c in found.per_class] == [c.iou and c.iou.value for c in ours.per_class]
    assert verdict(found.pairs[0], 0.95) == "not tested"  # on four images
    assert any("nothing is tested on 4 images" in w for w in found.warnings)
    assert found.none_right is None and len(found.hardest) == 4
    best = [max(image.shares) for image in found.hardest]
    assert best == sorted(best)
    assert "mIoU of mine less that of other" in out.read_text()


def test_segmenters_with_other_rules_and_orders(segmented: RunFolder, tmp_path: Path) -> None:
    mine = by_rule(copied(segmented, tmp_path / "mine"), "mmsegmentation")
    other = by_rule(copied(segmented, tmp_path / "other"), "voc")
    table = other.manifest["table"]
    size = len(table["classes"])
    for entry in table["classes"]:
        entry["value"] = size - 1 - entry["value"]
    remade(remade(other, "table", table), "classes", other.manifest["classes"][::-1])
    order = np.r_[size - 1 : -1 : -1, size]
    altered(other, lambda counts: counts[:, order][:, :, order])
    regrade_masks(mine)
    regrade_masks(other)
    found = compared([mine, other])
    assert found.runs[0].headline == found.runs[1].headline and found.pairs[0].difference.value == 0
    assert any('by the rule of mine, "mmsegmentation"; by itself: other "voc"' in w for w in found.warnings)
    assert not any("scored in" in w for w in found.warnings)
    table["classes"][0]["name"] = "sea"
    remade(remade(other, "table", table), "classes", [*other.manifest["classes"][:-1], "sea"])
    with pytest.raises(UserError, match="different classes"):
        compared([mine, other])


def test_masks_with_another_truth_are_left_out(segmented: RunFolder, tmp_path: Path) -> None:
    mine, other = (by_rule(copied(segmented, tmp_path / name), "mmsegmentation") for name in ("mine", "other"))

    def change(counts: np.ndarray) -> np.ndarray:
        counts = counts.copy()
        counts[0, 0, 0] += 5
        return counts

    altered(other, change)
    found = compared([mine, other])
    assert found.n == 3 and any("1 shared image left out" in w for w in found.warnings)
