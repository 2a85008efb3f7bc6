"""The memory that decoding takes, however many threads there are and however large the images."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octavo.data import decoding, masks, pixels
from octavo.data.budget import Budget, Queue
from octavo.data.classes import load_table
from octavo.data.decoding import ImageDecoder, decoded
from octavo.data.masks import MaskDecoder
from octavo.threads import in_threads

SIDES = (700, 60, 1000, 900, 40, 1000, 500, 1000, 30, 800, 1000, 900)
LIMIT = 1_000_000


class Watched(Budget):
    """A budget that notes the most that was held at once."""

    def __init__(self) -> None:
        super().__init__(LIMIT)
        self.now, self.most, self.lock = 0, 0, threading.Lock()

    @contextmanager
    def held(self, amount: int) -> Iterator[None]:
        nested = getattr(self._own, "inside", False)
        with super().held(amount):
            if nested:
                yield
                return
            with self.lock:
                self.now += amount
                self.most = max(self.most, self.now)
            time.sleep(0.003)  # as decoding would take
            try:
                yield
            finally:
                with self.lock:
                    self.now -= amount


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    budget = Watched()
    monkeypatch.setattr(pixels, "DECODING", budget)
    monkeypatch.setattr(masks, "DECODING", budget)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8))
    return budget


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, draw = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    for i, side in enumerate(SIDES):
        noise = draw.integers(0, 255, (side, side), np.uint8)
        Image.fromarray(noise).convert("RGB").save(folder / f"{i:02}.{('png', 'jpg')[i % 2]}")
    return sorted(folder.iterdir())


def test_threads_decode_no_more_than_the_budget_at_once(files: list[Path], watched: Watched) -> None:
    found = list(decoded(files, ImageDecoder()))
    assert [image.shape[0] for image in found if not isinstance(image, str)] == list(SIDES)
    assert max(side * side for side in SIDES) <= watched.most <= LIMIT  # as many as fit, and never more


def test_an_image_beyond_the_budget_goes_by_itself(files: list[Path], watched: Watched) -> None:
    watched.limit = 300_000
    assert len(list(decoded(files, ImageDecoder()))) == len(files)
    assert watched.most == 1_000_000


def test_masks_are_within_it_too(tmp_path: Path, watched: Watched) -> None:
    for i, side in enumerate(SIDES):
        Image.new("L", (side, side)).save(tmp_path / f"{i:02}.png")
    found = list(decoded(sorted(tmp_path.iterdir()), MaskDecoder(load_table("voc"), "ids")))
    assert [mask.shape[0] for mask in found if not isinstance(mask, str)] == list(SIDES) and watched.most <= LIMIT


def test_what_waits_for_its_turn_is_bounded(
    files: list[Path], watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first image takes long: those after it are decoded ahead, but only as many as may wait."""
    waiting, most, lock = 0, 0, threading.Lock()

    def slow(path: Path, decoder: Any) -> np.ndarray | str:
        nonlocal waiting, most
        if path == files[0]:
            time.sleep(0.3)
        image = decode(path, decoder)
        with lock:
            waiting += decoding._bytes(image)
            most = max(most, waiting)
        return image

    decode = decoding._decode_or_reason
    monkeypatch.setattr(decoding, "_decode_or_reason", slow)
    monkeypatch.setattr(decoding, "WAITING", 4_000_000)
    for number, image in enumerate(decoded(files, ImageDecoder())):
        assert not isinstance(image, str) and image.shape[0] == SIDES[number]
        time.sleep(0.005)
        with lock:
            waiting -= image.nbytes
    total = sum(3 * side**2 for side in SIDES)
    assert 3_000_000 < most <= 4_000_000 + decoding._GROUP_BYTES + 3 * 1000**2 < 0.6 * total  # queue, head, one taken


def test_whoever_stops_taking_leaves_nobody_waiting(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "WAITING", 1)
    images = decoded(files, ImageDecoder())
    next(images)
    images.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("octavo-decode")]


def test_an_error_in_one_thread_reaches_whoever_takes(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, decoder: Any) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(decoding, "WAITING", 1)
    monkeypatch.setattr(decoding, "_decode_or_reason", broken)
    with pytest.raises(ZeroDivisionError):
        list(decoded(files, ImageDecoder()))


def test_budgets_wait_and_nest() -> None:
    budget, order = Budget(10), list[str]()

    def work(name: str) -> None:
        with budget.held(6), budget.held(6):  # inside, nothing more is taken
            order.append(f"{name} in")
            time.sleep(0.01)
            order.append(f"{name} out")

    list(in_threads(work, "abc"))
    assert [order[i][0] == order[i + 1][0] for i in (0, 2, 4)] == [True] * 3
    with budget.held(100):
        assert budget._held == 100


def test_the_head_of_a_queue_never_waits() -> None:
    queue = Queue(10)
    queue.enter(1, 10)  # ahead of the first
    queue.enter(0, 50)
    entered = threading.Event()
    thread = threading.Thread(target=lambda: (queue.enter(2, 1), entered.set()))
    thread.start()
    assert not entered.wait(0.02)
    queue.leave(50)
    assert not entered.wait(0.02)
    queue.leave(10)
    assert entered.wait(5)
    thread.join()


PEAK = """
import os, sys
from pathlib import Path
from octavo.data import budget, decoding
from octavo.data.decoding import ImageDecoder, decoded

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

os.sched_getaffinity, decoding._GROUP = lambda _: range(6), 1
before = peak()
for limit in (9_000_000, 54_000_000):
    budget.DECODING.limit = limit
    for image in decoded([Path(sys.argv[1])] * 6, ImageDecoder(side=8)):
        assert image.shape == (8, 8, 3), image
    print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures as Linux does")
def test_measured_memory_follows_the_budget(tmp_path: Path) -> None:
    """Six threads, images of nine million pixels with alpha: one at once takes a fraction of what six take."""
    Image.new("RGBA", (3000, 3000)).save(tmp_path / "flat.png", compress_level=1)
    command = [sys.executable, "-c", PEAK, tmp_path / "flat.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    alone, together = map(float, done.stdout.split())
    # NumPy's arrays are below the size from which a thread gives memory back at once, Pillow's aren't.
    assert alone < 0.4 * together, (alone, together)
