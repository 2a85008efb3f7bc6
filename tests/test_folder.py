"""The run folder: whole or absent, and nothing of the user's is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from octavo.engine.folder import RunFolder
from octavo.errors import Damaged, UserError
from octavo.files import write_csv
from octavo.numbers.ensemble import Ensemble
from octavo.recipe import ClassifyRecipe, Member

RECIPE = ClassifyRecipe(name="r", members=(Member(name="a", backbone="resnet18"), Member(name="b", backbone="vgg11")))
# fmt: off
NAMES = [
    "plain", "a,b", 'say "so"', "=1+1", " led by a space", "two\nlines", "return\rhere", "Grüße", "日本", "tab\there",
    "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}", "'quoted'", "#hash", "-1", "@x",
    b"\xff\xfe".decode("utf-8", "surrogateescape"),
]
# fmt: on


def begun(path: Path) -> RunFolder:
    run = RunFolder.new(path)
    rows = [{"file": f"{name}.png", "label": name, "part": "val"} for name in NAMES]
    run.begin(RECIPE, {"classes": NAMES}, rows)
    return run


def test_a_new_run_holds_recipe_manifest_and_samples(tmp_path: Path) -> None:
    run = begun(tmp_path / "deep" / "run")
    assert run.begun and RunFolder.open(run.path).recipe == RECIPE
    assert sorted(p.name for p in run.path.iterdir()) == [".lock", "manifest.json", "recipe.toml", "samples.csv"]
    assert [p.name for p in run.path.parent.iterdir()] == ["run"]
    assert run.manifest["classes"] == NAMES and RunFolder.open(run.path).manifest == run.manifest


def test_names_of_every_kind_come_back(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    assert run.files("val") == [f"{name}.png" for name in NAMES]
    assert run.labels("val").tolist() == list(range(len(NAMES)))
    assert run.files("test") == []


def test_csv_has_every_column_in_the_order_met(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", [{"b": 1}, {"a": "x,y", "b": None}], ("c",))
    assert (tmp_path / "x.csv").read_text() == 'c,b,a\n,1,\n,,"x,y"\n'


def test_taken_places_are_refused_and_left_alone(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="another process is training here; wait for it"):
            RunFolder.new(run.path, overwrite=overwrite)
    with run.locked():
        pass
    with pytest.raises(UserError, match="exists and is a run; --resume goes on with it, --overwrite starts it anew"):
        RunFolder.new(run.path)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="exists and is not a run; choose another --out"):
            RunFolder.new(mine, overwrite=overwrite)
        with pytest.raises(UserError, match="is a file"):
            RunFolder.new(mine / "thesis.txt", overwrite=overwrite)
    assert (mine / "thesis.txt").read_text() == "years"
    assert not RunFolder.new(tmp_path / "empty").begun


def test_overwriting_waits_until_the_new_run_begins(tmp_path: Path) -> None:
    old = begun(tmp_path / "run")
    old.ensemble = Ensemble.fit(["a", "b"], "mean_logit")
    with old.locked():
        pass  # its training is over
    new = RunFolder.new(old.path, overwrite=True)
    assert (old.path / "ensemble.json").is_file()
    new.begin(RECIPE, {"classes": ["x"]}, [])
    assert not (old.path / "ensemble.json").exists() and new.manifest["classes"] == ["x"]


def test_a_folder_appears_with_all_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.engine.run_files.MANIFEST", "no/such\0name")
    with pytest.raises(ValueError, match="null"):
        begun(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    assert begun(tmp_path / "run").begun  # the draft is in nobody's way
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("faster", [False, True])
def test_of_two_that_begin_in_one_folder_one_goes_on(
    overwrite: bool, faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other begins just before the first one's folder appears (`faster`), or just after."""
    appear, refused = RunFolder._appear, "another process (began a run here meanwhile|is training here)"
    if overwrite:
        with begun(tmp_path / "run").locked():
            pass  # its training is over
    first, second = RunFolder.new(tmp_path / "run", overwrite=overwrite), RunFolder(tmp_path / "run")

    def appearing(run: RunFolder, draft: Path) -> None:
        monkeypatch.setattr(RunFolder, "_appear", appear)
        if not faster:
            appear(run, draft)
            with pytest.raises(UserError, match=refused):
                second.begin(RECIPE, {"classes": ["second"]}, [])
            return
        second.begin(RECIPE, {"classes": ["second"]}, [])
        appear(run, draft)

    monkeypatch.setattr(RunFolder, "_appear", appearing)
    if faster:
        with pytest.raises(UserError, match=refused):
            first.begin(RECIPE, {"classes": ["first"]}, [])
    else:
        first.begin(RECIPE, {"classes": ["first"]}, [])
    assert first.manifest["classes"] == ["second" if faster else "first"]
    with pytest.raises(UserError, match="is training here"), RunFolder(first.path).locked():
        pass
    with (second if faster else first).locked():  # whoever began goes on to train,
        pass
    with RunFolder(first.path).locked():  # and once it is done, others may
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_is_not_begun_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--out \.: is the folder that you are in"):
        RunFolder.new(Path())


def test_opening_what_is_no_run_says_so(tmp_path: Path) -> None:
    begun(tmp_path / "night-1")
    with pytest.raises(UserError, match='no such run folder; did you mean "night-1"'):
        RunFolder.open(tmp_path / "nigth-1")
    with pytest.raises(UserError, match=r"not a run folder \(no manifest.json in it\)"):
        RunFolder.open(tmp_path)


def test_links_out_of_a_run_and_pipes_in_it_are_refused(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "diary").write_text("dear")
    run = begun(tmp_path / "run")
    (run.path / "members" / "a").mkdir(parents=True)
    (tmp_path / "latest").symlink_to(run.path)
    inner = run.path / "members" / "b"
    inner.symlink_to("a")
    assert RunFolder.open(tmp_path / "latest").begun  # the user named this link, and the other stays inside
    for place, target in (
        ("metrics.json", "../private/diary"),
        ("plots", tmp_path / "private"),
        ("members/a/weights.safetensors", "/etc/passwd"),
        ("members/c", "../../nowhere"),
        ("members/d", "d"),
    ):
        (run.path / place).symlink_to(target)
        with pytest.raises(UserError, match=rf"{place}: links to .*, out of the run; expected a file of the run"):
            RunFolder.open(run.path)
        (run.path / place).unlink()
    os.mkfifo(run.path / "metrics.json")  # reading it would wait for ever
    with pytest.raises(UserError, match="is neither file nor folder"):
        RunFolder.open(run.path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "..", ".", "", "a/b", "a\0b"])
def test_names_that_were_read_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    for place in (run.member, run.explained, run.plot):
        with pytest.raises(UserError, match="is no file in this folder"):
            place(name)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x"])
def test_names_of_masks_may_hold_folders_and_stay_inside(name: str, tmp_path: Path) -> None:
    files = begun(tmp_path / "run").member("a")
    assert files.predicted_file("val", "town/1").relative_to(tmp_path / "run" / "predictions" / "val")
    for place in (lambda: files.predicted_file("val", name), lambda: files.stage_file(3, name)):
        with pytest.raises(UserError, match="is no file in this folder"):
            place()


def test_drafts_are_swept_and_nothing_else(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    (run.path / "members").mkdir()
    stale = run.path / "members" / ".last.ckpt.123.tmp"
    kept = run.path / "members" / "note.tmp"
    stale.touch()
    kept.touch()
    run.sweep()
    assert not stale.exists() and kept.exists()


def test_ensemble_comes_back(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.ensemble = Ensemble(("a", "b"), "greedy", (1 / 3, 2 / 3))
    assert RunFolder.open(run.path).ensemble == run.ensemble == Ensemble(("a", "b"), "greedy", (1 / 3, 2 / 3))


def test_finished_run_shares_its_weights_as_numpy(trained: RunFolder) -> None:
    arrays = load_file(trained.member("squeeze").weights)
    assert arrays["head.0.weight"].shape == (10, 512)
    assert len(trained.member("vgg").history()) == 40 and trained.member("vgg").facts()["features"] == 512


def test_damaged_json_is_told_with_its_file(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    (run.path / "leaks.json").write_text("{")
    with pytest.raises(Damaged, match=r"leaks\.json: damaged: not JSON .*; restore it from a copy, or delete it"):
        _ = run.leaks


def test_a_student_is_gone_on_with_by_its_own_command(tmp_path: Path) -> None:
    run = RunFolder.new(tmp_path / "run")
    taught = RECIPE.model_copy(update={"distil": RECIPE.distil.model_copy(update={"run": "/the teacher"})})
    run.begin(taught, {"classes": NAMES}, [])
    assert run.resume == f"octavo distil '/the teacher' --student a --out {run.path} --resume"
