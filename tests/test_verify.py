"""Files of a run: each is known by its hash, and damage of any of them is one line, whoever reads it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import Octavo, old_run, reseal
from octavo.engine.embedding import kept
from octavo.engine.folder import RunFolder
from octavo.engine.restore import restore_all
from octavo.engine.run_files import identity_of
from octavo.errors import Damaged, UserError
from octavo.integrity import SEAL
from octavo.verbs.verify import verify


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))


@pytest.fixture
def scenes(segmented: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(segmented.path, tmp_path / "scenes")))


def flip(path: Path, place: int = -40) -> None:
    """Flip a bit of a byte, the 40th before the end."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_every_file_that_training_left_has_a_hash(trained: RunFolder, segmented: RunFolder) -> None:
    for run in (trained, segmented):
        found = verify(run)
        assert not found.wrong and not found.unhashed
        left = {run.on_disk.name(path) for path in run.path.rglob("*") if path.is_file()}
        assert left - set(found.right) <= {".lock", "history.csv", "report.html"}


def test_links_out_of_a_run_and_pipes_are_refused_and_nothing_is_written_through_them(
    run: RunFolder, tmp_path: Path
) -> None:
    name = run.recipe.networks[0].name
    other = Path(shutil.copytree(run.path, tmp_path / "other"))
    record = other / "members" / name / "member.json"
    record.write_text(record.read_text().replace('"sha256": "', '"sha256": "0'))
    before = record.read_bytes()
    shutil.rmtree(run.path / "members" / name)
    (run.path / "members" / name).symlink_to(other / "members" / name)
    for write in (False, True):
        with pytest.raises(UserError, match="out of the run; expected a file of the run"):
            verify(run, write=write)
    assert record.read_bytes() == before
    (run.path / "members" / name).unlink()
    (run.path / "metrics.json").unlink()
    os.mkfifo(run.path / "metrics.json")
    with pytest.raises(UserError, match="is neither file nor folder"):
        verify(run)


def test_every_damaged_file_is_named_with_what_to_do(run: RunFolder, scenes: RunFolder, run_cli: Octavo) -> None:
    for folder, some in ((run, slice(None)), (scenes, slice(None, None, 3))):
        for name in verify(folder).right[some]:
            path = folder.path / name
            whole = path.read_bytes()
            flip(path, len(whole) // 2)
            found = verify(folder)
            assert name in found.wrong, name
            assert found.wrong[name].startswith(f"{path}: ") and found.wrong[name].count("; ") >= 1, found.wrong[name]
            path.write_bytes(whole)
    flip(run.member("vgg").weights)
    code, out, err = run_cli("verify", run.path)
    assert code == 1 and out.splitlines()[0].startswith(f"{run.member('vgg').weights}: damaged or changed: its SHA-256")
    assert "restore it from a copy, or delete" in out and "trains it anew" in out and out.rstrip().endswith(", 1 not")
    for words in (
        ("predict", run.path, run.path, "--out", run.path.parent / "a.csv"),
        ("train", "--resume", "--out", run.path),
    ):
        code, _, err = run_cli(*words)
        assert code == 2 and "weights.safetensors: damaged or changed" in err.splitlines()[-1]


def test_files_of_another_run_or_place_are_refused(run: RunFolder, trained: RunFolder) -> None:
    record = json.loads((run.path / "ensemble.json").read_text())
    manifest = dict(run.manifest) | {"seed": 1, "weights": {"vgg": "0" * 64}}  # the same members, trained otherwise
    assert identity_of(manifest) != run.on_disk.identity
    run.on_disk.write_manifest(manifest)
    with pytest.raises(Damaged, match=r"ensemble\.json: damaged or changed"):
        _ = run.ensemble
    run.on_disk.write_manifest(trained.manifest)
    assert run.ensemble == trained.ensemble and SEAL in record
    first, second = (run.member(name).record for name in ("vgg", "squeeze"))
    shutil.copy(first, second)
    with pytest.raises(Damaged, match=r"squeeze/member\.json: damaged or changed"):
        run.member("squeeze").facts()


def test_arrays_that_looks_keep_are_checked(run: RunFolder) -> None:
    made: list[int] = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(60, dtype=np.float32)

    path = run.explained("features-a.safetensors")
    kept(run, "features-a", {"layer": "a"}, make)
    assert "explained/features-a.safetensors" in verify(run).right
    flip(path)
    assert verify(run).wrong["explained/features-a.safetensors"].startswith(f"{path}: damaged or changed; delete it")
    np.testing.assert_array_equal(kept(run, "features-a", {"layer": "a"}, make), np.arange(60))
    assert len(made) == 2 and not verify(run).wrong


def test_what_is_gone_is_missed(run: RunFolder) -> None:
    run.bf16 = {"device": "cpu", "members": ["vgg"]}
    (run.path / "precision.json").unlink()
    with pytest.raises(Damaged, match=r"precision\.json: missing; .* --undo"):
        run.in_bf16("vgg", "cpu")
    run.bf16 = None
    assert run.bf16 is None and not run.in_bf16("vgg", "cpu")
    (run.path / "leaks.json").unlink()
    with pytest.raises(Damaged, match=r"leaks\.json: missing"):
        _ = run.leaks


def test_an_older_run_opens_with_one_warning_until_it_has_hashes(
    run: RunFolder, run_cli: Octavo, caplog: pytest.LogCaptureFixture
) -> None:
    old_run(run)
    flip(run.path / "predictions" / "val.csv", 0)
    for _ in range(2):
        code, _, err = run_cli("evaluate", run.path)
        told = [line for line in err.splitlines() if line.startswith("warning: ")]
        add = f"octavo verify {run.path} --write adds the hashes"
        assert code == 0 and told == [f"warning: {run.path}: was written before files were hashed; {add}"]
    RunFolder.open(run.path)
    assert "before files were hashed" in caplog.text
    code, out, err = run_cli("verify", run.path)
    assert code == 0 and f"{run.member('vgg').weights}: has no hash" in out and not err.count("warning")
    code, out, _ = run_cli("verify", run.path, "--write")
    assert code == 0 and "has no hash" not in out and "files as written" in out
    code, _, err = run_cli("evaluate", run.path)
    assert code == 0 and "warning" not in err


def test_an_intended_change_is_accepted_by_name(run: RunFolder, run_cli: Octavo) -> None:
    path = run.path / "recipe.toml"
    path.write_text(path.read_text().replace('name = "small"', 'name = "tiny"'))
    code, _, err = run_cli("evaluate", run.path)
    assert code == 2 and f"accept it as it is by `octavo verify {run.path} --write`" in err
    code, out, _ = run_cli("verify", run.path, "--write")
    assert code == 0 and f"{path}: was changed; accepted as it is now" in out.splitlines()
    assert run.recipe.name == "tiny" and not verify(run).wrong
    assert restore_all(run, ["squeeze"], __import__("torch").device("cpu"))


def test_a_run_that_cannot_be_read_is_not_accepted(run: RunFolder, run_cli: Octavo) -> None:
    before = (run.path / "manifest.json").read_bytes()
    run.member("vgg").record.write_bytes(b"[]")
    code, _, err = run_cli("verify", run.path, "--write")
    assert code == 2 and "member.json: damaged: expected a JSON object, found list" in err
    assert (run.path / "manifest.json").read_bytes() == before


FOREIGN = [b"", b"[]", b"{}", b"null", b"\xff", b"{" * 100_000, b'{"a": ' + b"1" * 10_000 + b"}", b'{"format": 2}']


@pytest.mark.parametrize("hashed", [True, False])
def test_foreign_files_are_a_line(hashed: bool, run: RunFolder, run_cli: Octavo) -> None:
    names = ["manifest.json", "ensemble.json", "recipe.toml", "samples.csv", "leaks.json"]
    names += ["members/vgg/member.json", "members/vgg/outputs.safetensors"]
    if not hashed:
        old_run(run)
    _, numbers, _ = run_cli("evaluate", run.path)
    for number, name in enumerate(names):
        path = run.path / name
        whole = path.read_bytes()
        for content in FOREIGN[number % 2 :: 2]:
            path.write_bytes(content)
            code, out, err = run_cli("evaluate", run.path)
            if not hashed and out == numbers:  # what evaluating a run of before has no need of
                continue
            line = err.splitlines()[-1]
            assert code == 2 and line.startswith("error: ") and str(path) in line and len(line) < 800, (name, err)
        path.write_bytes(whole)


def test_a_resealed_run_is_whole(run: RunFolder) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    reseal(run)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
