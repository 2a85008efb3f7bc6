"""The cache folder: where it is, what lies in it, and clearing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from filelock import Timeout
from PIL import Image

from octavo.cache import KINDS, cache_dir, caches, clear, locked, mark_used, note_facts, open_cache, source_of
from octavo.data import store, torchvision_data
from octavo.errors import UserError
from octavo.terminal import show_caches


def fill(root: Path) -> None:
    (root / "locks").mkdir(parents=True)
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
        ("pixels", "one", 111), ("pixels", "two.tmp", 3), ("features", "one", 111), ("datasets", "one", 111),
        ("leaks", "one", 111),
    ]  # fmt: skip
    assert all(e.used == e.path.stat().st_mtime for e in caches(tmp_path))


def test_entries_say_what_they_were_made_from(tmp_path: Path, digits_folder: Path) -> None:
    fill(tmp_path)
    (tmp_path / "datasets" / "CIFAR10.raw").mkdir()
    (tmp_path / "pixels" / "masks").mkdir()
    (tmp_path / "pixels" / "masks" / "index.json").write_text('{"folder": "/data/m", "images": 3, "planes": 1}')
    pixels = store.build(torchvision_data.read(digits_folder), store.ImageDecoder(32), tmp_path)
    note_facts(tmp_path / "features" / "one", source=source_of(pixels.folder), images=200, what="vgg16, 64 px")
    found = {(e.kind, e.path.name): (e.source, e.images, e.what) for e in caches(tmp_path)}
    assert found == {
        ("pixels", pixels.folder.name): (str(digits_folder), 200, ""),
        ("pixels", "masks"): ("/data/m", 3, "masks"),
        ("pixels", "one"): ("", None, ""),
        ("pixels", "two.tmp"): ("", None, "being built, or left by a build that was killed"),
        ("features", "one"): (str(digits_folder), 200, "vgg16, 64 px"),
        ("leaks", "one"): ("", None, ""),
        ("datasets", "one"): ("torchvision:one", None, "as PNG files"),
        ("datasets", "CIFAR10.raw"): ("torchvision:CIFAR10", None, "torchvision's own files"),
    }


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b'{"images": "many", "folder": 3}'])
def test_damaged_facts_are_no_facts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "features" / "one").mkdir(parents=True)
    (tmp_path / "features" / "one" / "facts.json").write_bytes(content)
    (entry,) = caches(tmp_path)
    assert entry.images is None and entry.source in ("", "3")


def test_use_is_noted(tmp_path: Path) -> None:
    fill(tmp_path)
    place = tmp_path / "pixels" / "one"
    os.utime(place, (1e9, 1e9))
    assert caches(tmp_path)[0].used == 1e9
    mark_used(place)
    assert caches(tmp_path)[0].used > 1.7e9
    mark_used(tmp_path / "gone")


def test_shown_on_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("HOME", "/home/me")
    show_caches(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path}: empty\n"
    fill(tmp_path)
    for name, folder in (("one", "/home/me/my [b]data[/b] set"), ("two", "/a/very/long/path/" + "of_folders/" * 5)):
        (tmp_path / "pixels" / name).mkdir(exist_ok=True)
        (tmp_path / "pixels" / name / "index.json").write_text(json.dumps({"folder": folder, "images": 123_456}))
    note_facts(tmp_path / "features" / "one", source="/data/x", images=1, what="vgg16, 64 px")
    note_facts(tmp_path / "leaks" / "one", source="/data/x", images=2, what="val and train")
    os.utime(tmp_path / "features" / "one", (1e9, 1e9))
    show_caches(tmp_path)
    *lines, total, advice = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text, day = "\n".join(lines), datetime.fromtimestamp(1e9).date().isoformat()
    assert "123,456" in text and "~/my [b]data[/b] set" in text and f"{day}  /data/x — vgg16, 64 px" in text
    assert "/a/very/long/path/" + "of_folders/" * 5 in "".join(text.split())
    assert "unknown" not in text
    assert (
        total == f"{tmp_path}: 6 entries, 0.0 MiB"
        and "--clear pixels, features, datasets, leaks or all" in advice
        and len(advice) <= 80
    )


def test_what_says_nothing_of_itself_is_shown_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "features" / "0123456789abcdef0123").mkdir(parents=True)
    show_caches(tmp_path)
    assert "unknown (0123456789abcdef0123)" in capsys.readouterr().out


def test_clearing(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "mine.txt").touch()
    assert clear(tmp_path, "pixels") == 114
    assert [e.kind for e in caches(tmp_path)] == ["features", "datasets", "leaks"]
    assert clear(tmp_path) == 333
    assert caches(tmp_path) == []
    assert (tmp_path / "mine.txt").exists()
    with pytest.raises(UserError, match='did you mean "pixels"'):
        clear(tmp_path, "pixel")


def test_a_folder_that_was_never_a_cache_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "datasets" / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="was never used as a cache"):
        clear(tmp_path)
    assert (tmp_path / "datasets" / "mine").is_dir() and clear(tmp_path / "empty") == 0


def test_what_is_being_built_stays(tmp_path: Path) -> None:
    fill(tmp_path)
    with locked(tmp_path, "pixels-two"), locked(tmp_path, "features-one"):
        assert clear(tmp_path) == 333
    assert [(e.kind, e.path.name) for e in caches(tmp_path)] == [("pixels", "two.tmp"), ("features", "one")]


def test_lock_is_exclusive(tmp_path: Path) -> None:
    with locked(tmp_path, "a"), pytest.raises(Timeout), locked(tmp_path, "a", timeout=0):
        pass
    with locked(tmp_path, "a", timeout=0):
        pass


def test_what_is_damaged_in_an_entry_is_not_listed(tmp_path: Path) -> None:
    folder = tmp_path / "features" / "f"
    note_facts(folder, source="/data", images=123, what="vgg16")
    assert [(e.source, e.images) for e in caches(tmp_path)] == [("/data", 123)]
    whole = (folder / "facts.json").read_text()
    for damaged in (whole.replace("123", "124"), whole[:-9], "", "[]", "[" * 99_999, "\udcff"):
        (folder / "facts.json").write_text(damaged, errors="surrogateescape")
        assert [(e.source, e.images) for e in caches(tmp_path)] == [("", None)]


def a_file(root: Path) -> Path:
    root.write_text("a file, not a folder")
    return root


def below_a_file(root: Path) -> Path:
    return a_file(root) / "cache"


def a_file_inside(root: Path) -> Path:
    (root / "features").parent.mkdir()
    a_file(root / "features")
    return root


def a_broken_link(root: Path) -> Path:
    root.symlink_to(root.with_name("nowhere") / "deep", target_is_directory=True)
    return root


UNUSABLE = {"a file": a_file, "below a file": below_a_file, "a file inside": a_file_inside, "link": a_broken_link}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_folder_that_cannot_be_written_is_replaced_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = UNUSABLE[kind](tmp_path / "cache")
    monkeypatch.setenv("OCTAVO_CACHE", str(folder))
    stand_in = open_cache()
    assert open_cache() == open_cache(folder) == stand_in and stand_in.is_dir() and stand_in != folder
    (text,) = [record.getMessage() for record in caplog.records]
    assert text.startswith(f"warning: OCTAVO_CACHE: {folder} can't be written (") and "\n" not in text
    assert f"{stand_in} is used until this command ends; set OCTAVO_CACHE to a folder of yours" in text


def test_a_folder_without_the_right_to_write_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*, dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("octavo.cache.tempfile.TemporaryFile", refused)
    assert open_cache(tmp_path / "mine") != tmp_path / "mine"
    assert f"--cache: {tmp_path / 'mine'} can't be written (permission denied)" in caplog.text
    monkeypatch.setattr("octavo.cache.platformdirs.user_cache_dir", lambda name: "~/.cache/octavo")
    monkeypatch.delenv("OCTAVO_CACHE", raising=False)
    assert open_cache().is_absolute() and "there is no home folder" in caplog.text
    assert not Path("~").exists()


def test_what_a_cache_holds_that_can_only_be_read_is_taken(
    digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*, dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    folder, samples = tmp_path / "full", torchvision_data.read(str(digits_folder))
    first = store.build(samples, store.ImageDecoder(8), open_cache(folder))
    (folder / "features" / "half").mkdir(parents=True)
    (folder / "features" / "half" / "part.npy").touch()
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr("octavo.cache.tempfile.TemporaryFile", refused)
        stand_in = open_cache(folder)
    assert "(permission denied); 1 entry of it can be read" in caplog.text and stand_in != folder
    with monkeypatch.context() as patch:
        patch.setattr("octavo.data.decoding.decode", None)
        found = store.build(samples, store.ImageDecoder(8), stand_in)
    assert found.digest == first.digest and (found.image(3) == first.image(3)).all()
    assert not (stand_in / "features").exists()
    (pixels,) = (stand_in / "pixels").glob("*/pixels.bin")
    pixels.unlink()
    pixels.write_bytes(b"damaged")
    assert store.build(samples, store.ImageDecoder(8), stand_in).digest == first.digest
    assert {path: path.read_bytes() for path in kept} == kept


def test_an_entry_that_cannot_be_read_hides_none_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abc":
        (tmp_path / "full" / "pixels" / name).mkdir(parents=True)
        (tmp_path / "full" / "pixels" / name / "index.json").write_text("{}")
    listed = Path.iterdir

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    def denied(path: Path) -> Iterator[Path]:
        if path.name == "a":
            refused()
        return listed(path)

    monkeypatch.setattr("octavo.cache.tempfile.TemporaryFile", refused)
    monkeypatch.setattr(Path, "iterdir", denied)
    stand_in = open_cache(tmp_path / "full")
    assert (
        sorted(path.name for path in (stand_in / "pixels").glob("*")) == ["b", "c"]
        and "2 entries of it can be read" in caplog.text
    )


def test_without_any_temporary_folder_there_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(prefix: str) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("octavo.cache.tempfile.mkdtemp", full)
    with pytest.raises(UserError, match=r"--cache: .* can't be written \(.*OCTAVO_CACHE"):
        open_cache(below_a_file(tmp_path / "x"))


def test_every_command_goes_on_without_its_cache(tmp_path: Path) -> None:
    """In a process of its own, so that the temporary folder's end is seen."""
    for i in range(8):
        for split in ("train", "val"):
            place = tmp_path / "data" / split / "ab"[i % 2] / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)).save(place)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    found = subprocess.run(
        [sys.executable, "-m", "octavo", "check", str(tmp_path / "data")],
        env=os.environ | {"OCTAVO_CACHE": "/dev/null/x", "TMPDIR": str(temporary)}, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0 and "ready to train on" in found.stdout
    assert found.stderr.count("OCTAVO_CACHE: /dev/null/x can't be written (not a directory)") == 1
    assert list(temporary.iterdir()) == []
