"""Which code made a run: versions, a hash of Octavo's own files, the commit of a checkout; and the hashes beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy
import pytest
import torch

from octavo.engine.folder import RunFolder
from octavo.engine.versions import commit_of, hash_of, versions

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_versions_are_those_that_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    found = versions()
    assert found["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert found["packages"]["numpy"] == numpy.__version__
    assert found["environment"]["MKL_CBWR"] == "COMPATIBLE"
    assert len(found["code"]["sha256"]) == 64


def test_hash_of_code_is_of_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x = 1\n")
    (tmp_path / "b.txt").write_bytes(b"no code")
    first = hash_of(tmp_path)
    (tmp_path / "b.txt").write_bytes(b"no code still")
    (tmp_path / "a.py").write_bytes(b"x = 1\r\n")  # as git writes it on Windows
    assert hash_of(tmp_path) == first
    (tmp_path / "a.py").write_bytes(b"x = 2\n")
    assert hash_of(tmp_path) != first
    (tmp_path / "a.py").write_bytes(b"x = 1\n")
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    assert hash_of(tmp_path) != first


def test_commit_is_read_where_git_keeps_it(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{COMMIT}\n")
    assert commit_of(tmp_path) == COMMIT
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit_of(tmp_path) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{'f' * 40} refs/heads/x/refs/heads/mai\n{COMMIT} refs/heads/main\n")
    assert commit_of(tmp_path) == COMMIT
    (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    assert commit_of(tmp_path) == "a" * 40


@pytest.mark.parametrize("kind", ["trained", "segmented"])
def test_hashes_of_a_manifest_are_those_of_the_files(kind: str, request: pytest.FixtureRequest) -> None:
    run: RunFolder = request.getfixturevalue(kind)
    manifest = run.manifest
    recorded = {"recipe.toml": manifest["recipe"], "samples.csv": manifest["data"]["samples"]}
    for name, digest in recorded.items():
        assert hashlib.sha256((run.path / name).read_bytes()).hexdigest() == digest
    assert manifest["hardware"]["cpu"]["capability"] == torch.backends.cpu.get_cpu_capability()
    assert manifest["hardware"]["deterministic"] is True and manifest["seed"] == 0
