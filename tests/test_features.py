"""Cached features: those of the extractor, computed once, gone on with, and never mistaken for others."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from octavo import parts
from octavo.cache import caches, clear
from octavo.data.batches import Batch
from octavo.engine import feature_file, features
from octavo.engine.features import Features, cached, key_of
from octavo.errors import Damaged, UserError
from octavo.integrity import sealed
from octavo.progress import Interrupted, silent

COUNT, WIDTH = 30, 5


class Numbers:
    """Rows of numbers in the place of images."""

    values = np.random.default_rng(0).normal(size=(COUNT, 4)).astype(np.float32)

    def rows(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return self.values[indices], np.empty((0, 2), np.int64)


class Extractor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(4, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5))
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.layers(x)


def plain(batch: Batch) -> Tensor:
    return batch.inputs


def shifted(batch: Batch) -> Tensor:
    return batch.inputs + torch.from_numpy(batch.indices)[:, None]


class Killed(BaseException):
    """An end without notice, as far as one process can play it."""


CLEAR = "import sys; from pathlib import Path; from octavo.cache import clear; print(clear(Path(sys.argv[1])))"
WANTED = np.setdiff1d(np.arange(COUNT), [3, 17])


def compute(folder: Path, net: Extractor, progress: Any = silent, ways: Any = (plain,), bf16: bool = False) -> Features:
    return cached(
        folder.parent, folder.name, net, WIDTH, Numbers(), WANTED, COUNT, list(ways), 0,
        device=torch.device("cpu"), bf16=bf16, progress=progress,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 4)


def test_features_are_the_extractors(tmp_path: Path) -> None:
    net = Extractor()
    found = compute(tmp_path / "f", net, ways=(plain, shifted))
    with torch.inference_mode():
        for view, x in ((0, Numbers.values), (1, Numbers.values + np.arange(COUNT)[:, None])):
            expected = Extractor().eval()(torch.from_numpy(x[WANTED].astype(np.float32)))
            np.testing.assert_allclose(found.views[view, WANTED], expected, rtol=1e-5, atol=1e-6)
    assert not found.views[:, [3, 17]].any()
    assert found.views.dtype == np.float32
    assert net.seen == 2 * len(WANTED)
    assert sorted(p.name for p in (tmp_path / "features" / "f").iterdir()) == [
        "facts.json",
        "features.npy",
        "index.json",
    ]


def test_a_second_call_does_not_run_the_extractor(tmp_path: Path) -> None:
    first = compute(tmp_path / "f", Extractor())
    net = Extractor()
    again = compute(tmp_path / "f", net)
    assert net.seen == 0
    np.testing.assert_array_equal(again.views, first.views)


@pytest.mark.parametrize("stop_after", [1, 2, 5, 7, 8, 11, 14])
@pytest.mark.parametrize(
    "error, seconds, kept", [(Interrupted(2), 60, True), (Killed(), 0, True), (Killed(), 60, False)]
)
def test_a_stopped_computation_goes_on(
    error: BaseException, seconds: float, kept: bool, stop_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compute(tmp_path / "whole", Extractor(), ways=(plain, shifted))

    def stopping(what: str, done: int, total: int, note: str = "") -> None:
        assert (what, total) == ("features", 14)
        if done == stop_after:
            raise error

    place = tmp_path / "features"
    monkeypatch.setattr(features, "MARK_SECONDS", seconds)
    with pytest.raises(type(error)):
        compute(tmp_path / "f", Extractor(), stopping, ways=(plain, shifted))
    assert not (place / "f" / "features.npy").exists()
    rest = Extractor()
    compute(tmp_path / "f", rest, ways=(plain, shifted))
    assert (place / "f" / "features.npy").read_bytes() == (place / "whole" / "features.npy").read_bytes()
    assert rest.seen == 2 * len(WANTED) - (4 * stop_after if kept else 0)
    np.testing.assert_array_equal(np.load(place / "f" / "features.npy"), whole.views)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "features cut": lambda folder: os.truncate(folder / "features.npy", 200),
    "empty features": lambda folder: os.truncate(folder / "features.npy", 0),
    "no features": lambda folder: (folder / "features.npy").unlink(),
    "no index": lambda folder: (folder / "index.json").unlink(),
    "empty index": lambda folder: os.truncate(folder / "index.json", 0),
    "index flipped": lambda folder: flip(folder / "index.json", 60),
    "a list": lambda folder: (folder / "index.json").write_text("[]"),
    "of an older version": lambda folder: (folder / "index.json").write_text("{}"),
    "of something else": lambda folder: (folder / "index.json").write_bytes(sealed({"checked": "pixels 1"})),
    "of other features": lambda folder: shutil.copyfile(folder.parent / "whole" / "index.json", folder / "index.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_features_are_computed_again(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = compute(tmp_path / "whole", Extractor()).views
    compute(tmp_path / "f", Extractor())
    DAMAGES[damage](tmp_path / "features" / "f")
    net = Extractor()
    np.testing.assert_array_equal(compute(tmp_path / "f", net).views, whole)
    assert net.seen == len(WANTED)
    (line,) = caplog.messages
    assert re.fullmatch(rf"warning: {re.escape(str(tmp_path))}.*; they are computed again", line)
    assert compute(tmp_path / "f", net).views.any() and net.seen == len(WANTED)


@pytest.mark.parametrize("place", [7, 200, -1])
def test_a_damaged_block_is_found_when_it_is_first_read(place: int, tmp_path: Path) -> None:
    whole = compute(tmp_path / "f", Extractor()).views.copy()
    path = tmp_path / "features" / "f" / "features.npy"
    flip(path, place)
    found = compute(tmp_path / "f", Extractor())
    with pytest.raises(Damaged, match=r"features\.npy: damaged: SHA-256 of block 0 of 1 is .*; run the command again"):
        found.rows(np.array([COUNT - 1]), 0)
    np.testing.assert_array_equal(compute(tmp_path / "f", Extractor()).views, whole)


def test_blocks_are_checked_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parts, feature_file):
        monkeypatch.setattr(module, "BLOCK", 64)  # three rows of 20 bytes and a bit
    whole = compute(tmp_path / "f", Extractor(), ways=(plain, shifted)).views.copy()
    flip(tmp_path / "features" / "f" / "features.npy", 128 + 20 * (COUNT + 9))  # view 1 of image 9
    found = pickle.loads(pickle.dumps(compute(tmp_path / "f", Extractor(), ways=(plain, shifted))))
    bad = []
    for view in range(2):
        for image in range(COUNT):
            try:
                row = found.stored[np.array([view]), np.array([image])]
                np.testing.assert_array_equal(row[0], whole[view, image])
            except Damaged:
                bad.append((view, image))
    assert (1, 9) in bad and {(view, abs(image - 9) > 3) for view, image in bad} == {(1, False)}


@pytest.mark.parametrize("block", [64, 1 << 20])
@pytest.mark.parametrize(
    "damage", ["part flipped", "part cut", "no part", "marker flipped", "empty marker", "old marker"]
)
def test_a_damaged_part_is_not_gone_on_with(
    damage: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (parts, feature_file):
        monkeypatch.setattr(module, "BLOCK", block)
    whole = compute(tmp_path / "whole", Extractor(), ways=(plain, shifted)).views
    folder = stopped(tmp_path, 9)
    part, marker = folder / "part.npy", folder / "done.json"
    match damage:
        case "part flipped":
            flip(part, 128 + 20 * (COUNT + 8) + 3)  # the last row that was done
        case "part cut":
            os.truncate(part, 700)
        case "no part":
            part.unlink()
        case "marker flipped":
            marker.write_text(marker.read_text().replace('"batches": 9', '"batches": 8'))
        case "empty marker":
            os.truncate(marker, 0)
        case "old marker":
            marker.write_text('{"batches": 9}')
    rest = Extractor()
    np.testing.assert_array_equal(compute(tmp_path / "f", rest, ways=(plain, shifted)).views, whole)
    assert rest.seen == 2 * len(WANTED)
    assert len(caplog.messages) == 1 and caplog.messages[0].endswith("; they are computed again")


def test_what_was_written_after_the_last_mark_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = stopped(tmp_path, 9)
    flip(folder / "part.npy", 128 + 20 * (COUNT + 9) + 3)  # a row that a killed process was at
    rest = Extractor()
    compute(tmp_path / "f", rest, ways=(plain, shifted))
    assert rest.seen == 2 * len(WANTED) - 4 * 9 and not caplog.messages
    whole = compute(tmp_path / "whole", Extractor(), ways=(plain, shifted))
    np.testing.assert_array_equal(compute(tmp_path / "f", rest, ways=(plain, shifted)).views, whole.views)


def stopped(root: Path, after: int) -> Path:
    """Compute two views in root/features/f until so many batches are done; return that folder."""

    def stopping(what: str, done: int, total: int, note: str = "") -> None:
        if done == after:
            raise Interrupted(2)

    with pytest.raises(Interrupted):
        compute(root / "f", Extractor(), stopping, ways=(plain, shifted))
    return root / "features" / "f"


def test_an_extractor_that_fails_loses_nothing_before(tmp_path: Path) -> None:
    class Failing(Extractor):
        def forward(self, x: Tensor) -> Tensor:
            if self.seen == 12:
                raise RuntimeError("out of memory")
            return super().forward(x)

    with pytest.raises(RuntimeError, match="out of memory"):
        compute(tmp_path / "f", Failing())
    rest = Extractor()
    found = compute(tmp_path / "f", rest)
    assert rest.seen == len(WANTED) - 12
    np.testing.assert_array_equal(found.views, compute(tmp_path / "whole", Extractor()).views)


def test_clearing_the_cache_leaves_what_is_being_computed(tmp_path: Path) -> None:
    compute(tmp_path / "g", Extractor())
    size = sum(path.stat().st_size for path in (tmp_path / "features" / "g").iterdir())
    assert size > 128 + 4 * COUNT * WIDTH
    freed = []

    def clearing(what: str, done: int, total: int, note: str = "") -> None:
        # Another process: the lock of this one would be taken for its own.
        freed.append(subprocess.run([sys.executable, "-c", CLEAR, str(tmp_path)], capture_output=True, check=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "BATCH", 14)
        found = compute(tmp_path / "f", Extractor(), clearing)
    assert [int(run.stdout) for run in freed] == [size, 0]
    assert found.views.any()
    assert clear(tmp_path) == size
    assert caches(tmp_path) == []


def test_bf16_is_computed_and_kept_as_float32(tmp_path: Path) -> None:
    exact, rough = compute(tmp_path / "a", Extractor()), compute(tmp_path / "b", Extractor(), bf16=True)
    assert rough.views.dtype == np.float32
    assert not np.array_equal(exact.views, rough.views)
    np.testing.assert_allclose(rough.views, exact.views, atol=0.05)


def test_a_full_disk_is_told_not_died_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(UserError, match=r"No space left on device; features need \d+ MiB"):
        compute(tmp_path / "f", Extractor())
    monkeypatch.undo()
    monkeypatch.setattr(features, "BATCH", 4)
    assert compute(tmp_path / "f", Extractor()).views.any()


def test_room_is_taken_before_the_first_batch(tmp_path: Path) -> None:
    taken = []

    def look(what: str, done: int, total: int, note: str = "") -> None:
        status = (tmp_path / "features" / "f" / "part.npy").stat()
        taken.append(status.st_blocks * 512 >= status.st_size)

    compute(tmp_path / "f", Extractor(), look)
    assert all(taken)


FACTS = {"backbone": "vgg16", "pool": "avg", "size": 32, "mean": (0.1, 0.2), "views": None, "weights": "abc"}


@pytest.mark.parametrize("fact", FACTS)
def test_any_other_fact_is_another_key(fact: str) -> None:
    assert key_of(**FACTS) == key_of(**dict(reversed(FACTS.items())))
    other = {
        "backbone": "vgg19",
        "pool": "native",
        "size": 33,
        "mean": (0.1, 0.3),
        "views": {"views": 2},
        "weights": "x",
    }
    assert key_of(**(FACTS | {fact: other[fact]})) != key_of(**FACTS)
    assert key_of(**{k: v for k, v in FACTS.items() if k != fact}) != key_of(**FACTS)


def test_views_are_shown_by_epoch_and_image() -> None:
    views = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((3, COUNT, 2), np.float32)
    found, chosen = Features(views, 9), np.arange(COUNT)
    shown = np.stack([found.rows(chosen, epoch)[0][:, 0] for epoch in range(300)])
    counts = np.stack([(shown == v).mean(axis=0) for v in range(3)])
    np.testing.assert_allclose(counts, 1 / 3, atol=0.12)
    np.testing.assert_array_equal(found.rows(chosen[::-1], 5)[0][:, 0], shown[5, ::-1])
    assert not found.rows(chosen, -1)[0].any()
    assert not np.array_equal(shown[0], Features(views, 10).rows(chosen, 0)[0][:, 0])
