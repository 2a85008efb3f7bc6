"""The comparison of two commits: two sessions with one tree come out equal, and what is planted is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import golden


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The quick part of the session, twice with this tree."""
    base = tmp_path_factory.mktemp("golden")
    for name in ("old", "new"):  # in one folder, so that paths are the same
        golden.run_session(golden.TREE / "src", base / "session", {"quick"})
        (base / "session").rename(base / name)
    return base / "old", base / "new"


def differing(things: list[golden.Thing]) -> dict[str, str]:
    return {thing.name: thing.difference for thing in things if thing.difference}


def test_one_tree_gives_equal_transcripts(sessions: tuple[Path, Path]) -> None:
    things = list(golden.compare(*sessions, {"quick"}))
    assert len(things) >= 7 and golden.summarise(things) == 0
    codes = {p.stem: p.read_text().splitlines()[-1] for p in (sessions[0] / "transcripts").glob("*.code")}
    assert codes["recipes"] == "0" and codes["check-missing"] == "2"


def test_a_changed_word_number_or_exit_code_is_found(sessions: tuple[Path, Path], tmp_path: Path) -> None:
    new = Path(shutil.copytree(sessions[1], tmp_path / "new")) / "transcripts"
    for file, old, changed in (
        ("recipes.out", "quick", "quack"),
        ("classes-course.out", "255", "254"),
        ("check-missing.code", "\n2", "\n1"),
    ):
        text = (new / file).read_text()
        assert old in text
        (new / file).write_text(text.replace(old, changed))
    for words, expected in (
        (False, ("recipes", "classes-course", "check-missing")),
        (True, ("classes-course", "check-missing")),
    ):
        found = differing(list(golden.compare(sessions[0], new.parent, {"quick"}, words)))
        assert sorted(name.rpartition("(")[2][:-1] for name in found) == sorted(expected)


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    for name, value in (("old", 1.0), ("new", 1.0 + 2**-20)):
        folder = tmp_path / name
        folder.mkdir()
        save_file({"a": np.array([0.5, value], np.float32)}, folder / "weights.safetensors")
        (folder / "metrics.json").write_text(json.dumps({"sha256": name, "accuracy": [0.5, value], "title": name}))
        (folder / "history.csv").write_text(f"epoch,loss\n1,{value}\n")
        (folder / "mask.png").write_bytes(b"\x89PNG" + name.encode())
    (tmp_path / "new" / "extra.csv").write_text("a\n")
    found = differing(list(golden.compare_files(tmp_path / "old", tmp_path / "new")))
    assert found.keys() == {"weights.safetensors", "metrics.json", "history.csv", "mask.png", "extra.csv"}
    assert found["weights.safetensors"] == "a: 1 of 2 values, 1.0 → 1.0000009536743164"
    assert found["metrics.json"].startswith(".accuracy[1]: ")
    assert "metrics.json" in differing(list(golden.compare_files(tmp_path / "old", tmp_path / "new", words=True)))


def test_words_alone_may_differ(tmp_path: Path) -> None:
    for name, text in (("old", "always naming 3 of 10"), ("new", "it names 3 of 10")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "section.json").write_text(json.dumps({"text": text, "n": 3}))
    both = tmp_path / "old", tmp_path / "new"
    assert differing(list(golden.compare_files(*both))) and not differing(list(golden.compare_files(*both, words=True)))


def test_what_is_expected_is_shown_and_not_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(golden, "EXPECTED", {"api Run.looks": "renamed to sections"})
    assert golden.summarise([golden.Thing("api Run.looks", "property → (is gone)"), golden.Thing("api load")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "expected (renamed to sections): api Run.looks: property → (is gone)",
        "equal: api load",
        "2 compared: 0 differ, 1 as expected",
    ]
    assert golden.summarise([golden.Thing("api Run.load", "() → (x)")]) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("estimate: about 1 s on cpu", "estimate: about 12 min on cpu"),
        ("0.7 GiB of memory, 0.0 of 57 GiB free disk", "0.9 GiB of memory, 1.2 of 5 GiB free disk"),
        ("its SHA-256 is 7b65efed770f…", "its SHA-256 is a5aad93f6670…"),
    ],
)
def test_times_sizes_and_hashes_are_no_difference(old: str, new: str) -> None:
    assert golden.normalise(old) == golden.normalise(new) != old
