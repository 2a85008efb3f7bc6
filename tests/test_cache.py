"""The cache folder: where it is, what lies in it, and clearing it."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest
from filelock import Timeout

from octavo.cache import KINDS, cache_dir, caches, clear, locked
from octavo.errors import UserError


def fill(root: Path) -> None:
    for kind in KINDS:
        (root / kind / "one" / "deep").mkdir(parents=True)
        (root / kind / "one" / "deep" / "a").write_bytes(b"x" * 100)
        (root / kind / "one" / "b").write_bytes(b"x" * 11)
    (root / "pixels" / "two.tmp").write_bytes(b"xyz")


def test_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("OCTAVO_CACHE")
    assert cache_dir() == Path(platformdirs.user_cache_dir("octavo"))


def test_listing(tmp_path: Path) -> None:
    assert caches(tmp_path / "absent") == []
    fill(tmp_path)
    assert [(e.kind, e.path.name, e.bytes) for e in caches(tmp_path)] == [
        ("pixels", "one", 111), ("pixels", "two.tmp", 3), ("features", "one", 111), ("datasets", "one", 111)
    ]  # fmt: skip
    assert all(e.modified == e.path.stat().st_mtime for e in caches(tmp_path))


def test_clearing(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "mine.txt").touch()
    assert clear(tmp_path, "pixels") == 114
    assert [e.kind for e in caches(tmp_path)] == ["features", "datasets"]
    assert clear(tmp_path) == 222
    assert caches(tmp_path) == []
    assert (tmp_path / "mine.txt").exists()
    with pytest.raises(UserError, match='did you mean "pixels"'):
        clear(tmp_path, "pixel")


def test_what_is_being_built_stays(tmp_path: Path) -> None:
    fill(tmp_path)
    with locked(tmp_path, "pixels-two"), locked(tmp_path, "features-one"):
        assert clear(tmp_path) == 222
    assert [(e.kind, e.path.name) for e in caches(tmp_path)] == [("pixels", "two.tmp"), ("features", "one")]


def test_lock_is_exclusive(tmp_path: Path) -> None:
    with locked(tmp_path, "a"), pytest.raises(Timeout), locked(tmp_path, "a", timeout=0):
        pass
    with locked(tmp_path, "a", timeout=0):
        pass
