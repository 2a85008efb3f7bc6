"""The store of decoded pixels: right bytes, found again, safe against crashes, other processes and full disks."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octavo.data import decoding, store, stored
from octavo.data.pixels import BrokenImage, decode
from octavo.data.readers import Samples, read
from octavo.data.store import ImageDecoder, Pixels, build, estimate, store_key
from octavo.errors import Damaged, UserError
from octavo.integrity import sealed

SIZES = ((12, 9), (30, 7), (9, 9), (40, 64))


def photos(root: Path, count: int = 12, sizes: tuple[tuple[int, int], ...] = SIZES) -> Samples:
    rng = np.random.default_rng(0)
    for i in range(count):
        path = root / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = sizes[i % len(sizes)]
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return read(root)


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoding, "decode", fail)


@pytest.mark.parametrize("side", [None, 8, 100])
def test_images_of_many_sizes(side: int | None, tmp_path: Path) -> None:
    samples = photos(tmp_path / "data")
    said: list[tuple[int, int]] = []
    pixels = build(
        samples,
        ImageDecoder(side),
        tmp_path / "cache",
        progress=lambda what, done, total, note="": said.append((done, total)),
    )
    assert said == [(i + 1, 12) for i in range(12)]
    assert len(pixels) == 12
    assert pixels.sizes.dtype == np.int32
    expected = [decode(samples.path(i), side=side) for i in range(12)]
    assert pixels.sizes.tolist() == [list(e.shape[:2]) for e in expected]
    order = [5, 0, 11, 5, 3]
    batch, sizes = pixels.batch(order)
    assert (batch.dtype, sizes.dtype) == (np.uint8, np.int32)
    assert batch.shape == (5, 3, *np.max([expected[i].shape[:2] for i in order], axis=0))
    for row, (height, width), index in zip(batch, sizes.tolist(), order, strict=True):
        np.testing.assert_array_equal(row[:, :height, :width].transpose(1, 2, 0), expected[index])
        assert not row[:, height:].any()
        assert not row[:, :, width:].any()
        np.testing.assert_array_equal(pixels.image(index).transpose(1, 2, 0), expected[index])


def test_strips_do_not_make_giant_batches(tmp_path: Path) -> None:
    samples = photos(tmp_path / "data", 4, sizes=((12, 9), (5000, 10), (10, 9000), (40, 64)))
    pixels = build(samples, ImageDecoder(8), tmp_path / "cache")
    assert pixels.sizes.tolist() == [[11, 8], [1, 64], [64, 1], [8, 13]]  # by class
    assert pixels.batch(np.arange(4))[0].shape == (4, 3, 64, 64)
    assert estimate(samples, ImageDecoder(8)) == pytest.approx(3 * pixels.sizes.prod(axis=1).sum(), abs=4)


def test_images_of_one_size_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = photos(tmp_path / "data", sizes=((16, 24),))
    pixels = build(samples, ImageDecoder(16), tmp_path / "cache")
    monkeypatch.setattr(Pixels, "image", lambda *_: pytest.fail("an image of its own"))
    batch, sizes = pixels.batch(np.array([3, 1]))
    assert sizes.tolist() == [[16, 24]] * 2
    np.testing.assert_array_equal(batch.transpose(0, 2, 3, 1), [decode(samples.path(i)) for i in (3, 1)])
    batch[:] = 0  # a copy: the store stays as it is
    assert pixels.batch([3])[0].any()
    assert pixels.batch([])[0].shape == (0, 3, 16, 24)


def test_indices_outside_are_refused(tmp_path: Path) -> None:
    pixels = build(photos(tmp_path / "data"), ImageDecoder(8), tmp_path / "cache")
    for index in (-1, 12):
        with pytest.raises(IndexError):
            pixels.batch([0, index])
    assert pixels.batch([])[0].shape[0] == 0


def test_a_second_run_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = photos(tmp_path / "data")
    first = build(samples, ImageDecoder(8), tmp_path / "cache")
    no_decoding(monkeypatch)
    again = build(read(tmp_path / "data"), ImageDecoder(8), tmp_path / "cache")
    assert (again.key, again.digest) == (first.key, first.digest)
    np.testing.assert_array_equal(again.batch(range(12))[0], first.batch(range(12))[0])
    split = samples.with_val(0.3, 0)
    assert build(split, ImageDecoder(8), tmp_path / "cache").key == first.key


def test_key_names_what_went_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = photos(tmp_path / "data")
    keys = [
        store_key(samples, ImageDecoder(8)),
        store_key(samples, ImageDecoder(9)),
        store_key(samples, ImageDecoder(None)),
    ]
    path = samples.path(0)
    os.utime(path, ns=(0, 12345))
    keys.append(store_key(samples, ImageDecoder(8)))
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(0, 12345))
    keys.append(store_key(samples, ImageDecoder(8)))
    path.rename(path.with_name("new.png"))
    keys.append(store_key(read(tmp_path / "data"), ImageDecoder(8)))
    keys.append(store_key(samples, ImageDecoder(8)))
    monkeypatch.setattr(decoding, "DECODER", "2/other")
    keys.append(store_key(samples, ImageDecoder(8)))
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copy2)
    keys.append(store_key(read(tmp_path / "copy"), ImageDecoder(8)))
    assert len(set(keys)) == len(keys)


def test_digest_is_of_the_pixels_alone(tmp_path: Path) -> None:
    samples = photos(tmp_path / "data", count=4)
    pixels = build(samples, ImageDecoder(None), tmp_path / "cache")
    arrays = []
    for index in range(4):
        with Image.open(samples.path(index)) as image:
            arrays.append(np.array(image))
    planes = b"".join(array.transpose(2, 0, 1).tobytes() for array in arrays)
    sizes = np.array([array.shape[:2] for array in arrays], "<i4").tobytes()
    assert pixels.digest == hashlib.sha256(planes + sizes).hexdigest()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    copied = build(read(tmp_path / "copy"), ImageDecoder(None), tmp_path / "cache")
    assert copied.digest == pixels.digest
    assert copied.key != pixels.key


# ── Broken files ────────────────────────────────────────────────────────────────────────────────────────────────────


def spoil(samples: Samples, *indices: int) -> None:
    for index in indices:
        samples.path(index).write_bytes(samples.path(index).read_bytes()[:60])


def test_broken_files_are_named(tmp_path: Path) -> None:
    samples = photos(tmp_path / "data")
    spoil(samples, *range(7))
    with pytest.raises(UserError) as caught:
        build(samples, ImageDecoder(8), tmp_path / "cache")
    text = str(caught.value)
    assert "7 of 12 files can't be decoded" in text
    assert text.count(".png (") == 5
    assert "and 2 more" in text
    assert "--skip-broken" in text
    assert samples.files[0] in text
    assert "\n" not in text


@pytest.mark.parametrize("sizes", [SIZES, ((16, 16),)])
def test_skip_broken_records_them(sizes: tuple[tuple[int, int], ...], tmp_path: Path) -> None:
    samples = photos(tmp_path / "data", sizes=sizes)
    spoil(samples, 0, 4)
    samples.path(11).unlink()
    pixels = build(samples, ImageDecoder(8), tmp_path / "cache", skip_broken=True)
    assert set(pixels.broken) == {0, 4, 11}
    assert pixels.broken[11] == "no such file or directory"
    assert pixels.sizes[[0, 4, 11]].tolist() == [[0, 0]] * 3
    for index in (1, 2, 3, 5, 10):
        height, width = pixels.sizes[index]
        np.testing.assert_array_equal(
            pixels.batch([index])[0][0].transpose(1, 2, 0), decode(samples.path(index), side=8)
        )
        assert pixels.batch([index])[0].shape == (1, 3, height, width)
    for index in (0, 4, 11):
        with pytest.raises(ValueError, match="is broken"):
            pixels.batch([1, index])
        with pytest.raises(ValueError, match="is broken"):
            pixels.image(index)
    with pytest.raises(UserError, match="3 of 12 files"):
        build(samples, ImageDecoder(8), tmp_path / "cache")


def test_a_refusal_costs_no_second_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = photos(tmp_path / "data")
    spoil(samples, 3)
    with pytest.raises(UserError):
        build(samples, ImageDecoder(8), tmp_path / "cache")
    tried: list[Path] = []

    def watched(path: Path, **_: object) -> np.ndarray:
        tried.append(path)
        return decode(path)

    monkeypatch.setattr(decoding, "decode", watched)
    assert set(build(samples, ImageDecoder(8), tmp_path / "cache", skip_broken=True).broken) == {3}
    assert set(tried) == {samples.path(3)}


def test_a_file_that_has_become_readable_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may have been unreadable for want of rights or memory, which changes neither its size nor its time."""
    samples = photos(tmp_path / "data")

    def refuse(path: Path, **arguments: Any) -> np.ndarray:
        if path == samples.path(2):
            raise BrokenImage("permission denied")
        return decode(path, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode", refuse)
        assert build(samples, ImageDecoder(8), tmp_path / "cache", skip_broken=True).broken == {2: "permission denied"}
    assert not build(samples, ImageDecoder(8), tmp_path / "cache").broken


def test_nothing_but_broken_files(tmp_path: Path) -> None:
    samples = photos(tmp_path / "data", count=4)
    spoil(samples, 0, 1, 2, 3)
    pixels = build(samples, ImageDecoder(8), tmp_path / "cache", skip_broken=True)
    assert len(pixels.broken) == len(pixels) == 4


# ── Damage and crashes ──────────────────────────────────────────────────────────────────────────────────────────────


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def swap(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "pixels cut": lambda folder: os.truncate(folder / "pixels.bin", 1000),
    "pixels longer": lambda folder: (folder / "pixels.bin").write_bytes(bytes(99_999)),
    "no pixels": lambda folder: (folder / "pixels.bin").unlink(),
    "index cut": lambda folder: os.truncate(folder / "index.json", 99),
    "empty index": lambda folder: os.truncate(folder / "index.json", 0),
    "no index": lambda folder: (folder / "index.json").unlink(),
    "index flipped": lambda folder: flip(folder / "index.json", 40),
    "index of zeros": lambda folder: (folder / "index.json").write_bytes(bytes(500)),
    "a list": lambda folder: (folder / "index.json").write_text("[]"),
    "an object": lambda folder: (folder / "index.json").write_text("{}"),
    "nested": lambda folder: (folder / "index.json").write_text("[" * 99_999),
    "many digits": lambda folder: (folder / "index.json").write_text('{"images": ' + "9" * 10_000 + "}"),
    "of an older version": lambda folder: (folder / "index.json").write_text(json.dumps({"images": 12, "broken": {}})),
    "of something else": lambda folder: (folder / "index.json").write_bytes(sealed({"checked": "features 1"})),
    "sizes cut": lambda folder: os.truncate(folder / "sizes.npy", 100),
    "empty sizes": lambda folder: os.truncate(folder / "sizes.npy", 0),
    "sizes flipped": lambda folder: flip(folder / "sizes.npy", -8),
    "digests flipped": lambda folder: flip(folder / "digests.npy"),
    "no digests": lambda folder: (folder / "digests.npy").unlink(),
    "swapped": lambda folder: swap(folder / "digests.npy", folder / "sizes.npy"),
    "empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_built_again(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = photos(tmp_path / "data")
    pixels = build(samples, ImageDecoder(8), tmp_path / "cache")
    expected, folder, digest = pixels.batch(range(12))[0], pixels.folder, pixels.digest
    del pixels
    DAMAGES[damage](folder)
    again = build(samples, ImageDecoder(8), tmp_path / "cache")
    assert again.digest == digest
    np.testing.assert_array_equal(again.batch(range(12))[0], expected)
    (line,) = caplog.messages
    assert re.fullmatch(rf"warning: {re.escape(str(folder))}.*; it is decoded again", line)


def test_another_store_in_its_place_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples, others = photos(tmp_path / "data"), photos(tmp_path / "others")
    others.path(0).write_bytes(others.path(1).read_bytes())
    mine, other = (build(given, ImageDecoder(8), tmp_path / "cache") for given in (samples, others))
    shutil.rmtree(mine.folder)
    shutil.copytree(other.folder, mine.folder)
    assert build(samples, ImageDecoder(8), tmp_path / "cache").digest == mine.digest != other.digest
    assert "is of another store" in caplog.text


@pytest.mark.parametrize("sizes", [SIZES, ((16, 16),)])
@pytest.mark.parametrize("read", [lambda pixels, i: pixels.batch([0, i]), lambda pixels, i: pixels.image(i)])
def test_a_damaged_image_is_found_when_it_is_first_read(
    sizes: tuple[tuple[int, int], ...], read: Callable[[Pixels, int], object], tmp_path: Path
) -> None:
    samples = photos(tmp_path / "data", sizes=sizes)
    whole = build(samples, ImageDecoder(8), tmp_path / "cache")
    expected, last = whole.batch(range(12))[0].copy(), whole.batch([11])[0].nbytes
    flip(whole.folder / "pixels.bin", -last // 2)
    pixels = build(samples, ImageDecoder(8), tmp_path / "cache")
    np.testing.assert_array_equal(pixels.batch(range(8))[0], expected[:8, :, : pixels.sizes[:8].max()])
    with pytest.raises(Damaged, match=r"pixels\.bin: damaged: SHA-256 of image 11 of 12 is .*; run the command again"):
        read(pixels, 11)
    # The entry counts as absent from now on, so that a second run makes it anew.
    np.testing.assert_array_equal(build(samples, ImageDecoder(8), tmp_path / "cache").batch(range(12))[0], expected)


def test_an_image_is_checked_once_by_all_forked_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = build(photos(tmp_path / "data"), ImageDecoder(8), tmp_path / "cache")
    read, write = os.pipe()
    hashed = stored.digest_of
    monkeypatch.setattr(stored, "digest_of", lambda planes: (os.write(write, b"."), hashed(planes))[1])
    for images in (range(5), range(12), range(12)):
        if (child := os.fork()) == 0:
            pixels.batch(images)
            os._exit(0)
        os.waitpid(child, 0)
    assert len(os.read(read, 999)) == 12


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    samples = photos(tmp_path / "data")

    def stop(what: str, done: int, total: int, note: str = "") -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(samples, ImageDecoder(8), tmp_path / "cache", progress=stop)
    assert list((tmp_path / "cache" / "pixels").iterdir()) == []
    assert not build(samples, ImageDecoder(8), tmp_path / "cache").broken


KILLED = """
import os, signal, sys
from pathlib import Path
from octavo.data.readers import read
from octavo.data.store import ImageDecoder, build
def progress(what, done, total, note=""):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
build(read(sys.argv[1]), ImageDecoder(8), Path(sys.argv[2]), progress=progress)
"""


def run(script: str, *arguments: object) -> int:
    env = {**os.environ, "PYTHONPATH": str(Path(store.__file__).parents[2])}
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], env=env, check=False).returncode


def test_kill_9_leaves_no_store_and_the_next_build_sweeps(tmp_path: Path) -> None:
    samples, cache = photos(tmp_path / "data"), tmp_path / "cache"
    other = photos(tmp_path / "other")
    for moment in (1, 12):
        assert run(KILLED, tmp_path / "data", cache, moment) == -signal.SIGKILL
        assert [p.suffix for p in (cache / "pixels").iterdir()] == [".tmp"]
    build(other, ImageDecoder(8), cache)  # sweeps what the killed build of another data set left
    assert [p.suffix for p in (cache / "pixels").iterdir()] == [""]
    pixels = build(samples, ImageDecoder(8), cache)
    np.testing.assert_array_equal(pixels.batch([3])[0][0].transpose(1, 2, 0), decode(samples.path(3), side=8))
    assert {p.suffix for p in (cache / "pixels").iterdir()} == {""}


def _race(data: str, cache: str, decodings: Any, digests: Any) -> None:
    def counted(path: Path, **arguments: Any) -> np.ndarray:
        with decodings.get_lock():
            decodings.value += 1
        time.sleep(0.005)
        return decode(path, **arguments)

    decoding.decode = counted
    digests.put(build(read(data), ImageDecoder(8), Path(cache)).digest)


def test_processes_that_build_at_once_decode_once(tmp_path: Path) -> None:
    photos(tmp_path / "data")
    context = multiprocessing.get_context("spawn")
    decodings, digests = context.Value("i", 0), context.Queue()
    arguments = (str(tmp_path / "data"), str(tmp_path / "cache"), decodings, digests)
    processes = [context.Process(target=_race, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    found = {digests.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    assert len(found) == 1
    assert decodings.value == 12
    assert len(list((tmp_path / "cache" / "pixels").iterdir())) == 1


# ── Room on the disk ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", [None, 8])
def test_estimate_is_exact_for_few_files(side: int | None, tmp_path: Path) -> None:
    samples = photos(tmp_path / "data")
    size = (build(samples, ImageDecoder(side), tmp_path / "cache").folder / "pixels.bin").stat().st_size
    assert abs(estimate(samples, ImageDecoder(side)) - size) <= 1


def test_estimate_reads_at_most_200_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = photos(tmp_path / "data", count=450, sizes=((8, 8),))
    read_headers: list[Path] = []
    probe = decoding.probe
    monkeypatch.setattr(decoding, "probe", lambda path: read_headers.append(path) or probe(path))
    assert estimate(samples, ImageDecoder(None)) == 450 * 192
    assert len(read_headers) == 200


def test_too_small_a_disk_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = photos(tmp_path / "data", sizes=((1000, 1000),), count=4)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10**7, 10**7))
    no_decoding(monkeypatch)
    with pytest.raises(UserError, match=r"12 MB needed, 10 MB free"):
        build(samples, ImageDecoder(None), tmp_path / "cache")
    assert not (tmp_path / "cache" / "pixels").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = photos(tmp_path / "data")

    def full(_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", full)
        with pytest.raises(UserError, match="not enough room"):
            build(samples, ImageDecoder(8), tmp_path / "cache")
    assert list((tmp_path / "cache" / "pixels").iterdir()) == []
    build(samples, ImageDecoder(8), tmp_path / "cache")


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(UserError, match="OCTAVO_CACHE"):
        build(photos(tmp_path / "data"), ImageDecoder(8), tmp_path / "cache")


def test_the_index_tells_where_it_comes_from(tmp_path: Path) -> None:
    samples = photos(tmp_path / "data")
    meta = json.loads((build(samples, ImageDecoder(8), tmp_path / "cache").folder / "index.json").read_text())
    assert meta["folder"] == str(tmp_path / "data")
    assert (meta["decoder"], meta["images"]) == (ImageDecoder(8).key, 12)
    assert (meta["planes"], meta["fill"]) == (3, 0)


# ── Masks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Grey:
    """Grey values as they are, 200 and above refused: a decoder of masks."""

    key: str = "grey"
    planes: int = 1
    fill: int = 255

    def decode(self, path: Path) -> np.ndarray:
        values = decode(path)[..., :1]
        if values.max() >= 200:
            raise BrokenImage(f"value {values.max()} is of no class")
        return values

    def size(self, width: int, height: int) -> tuple[int, int]:
        return width, height


@dataclass(frozen=True)
class Listed:
    root: str
    files: tuple[str, ...]
    folder: str = ""

    def path(self, index: int) -> Path:
        return Path(self.folder or self.root) / self.files[index]


def masks(root: Path, sizes: tuple[tuple[int, int], ...] = SIZES) -> tuple[Listed, list[np.ndarray]]:
    rng = np.random.default_rng(1)
    arrays = [rng.integers(0, 200, size, dtype=np.uint8) for size in sizes]
    root.mkdir()
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(root / f"{i}_mask.png")
    return Listed(str(root), tuple(f"{i}_mask.png" for i in range(len(sizes)))), arrays


@pytest.mark.parametrize("sizes", [SIZES, ((9, 7),) * 3])
def test_masks_have_one_plane_and_are_filled_with_255(sizes: tuple[tuple[int, int], ...], tmp_path: Path) -> None:
    files, arrays = masks(tmp_path / "data", sizes)
    said: list[str] = []
    stored = build(files, Grey(), tmp_path / "cache", progress=lambda what, done, total, note="": said.append(what))
    assert set(said) == {"decode masks"}
    assert (stored.planes, stored.fill) == (1, 255)
    assert stored.sizes.tolist() == [list(a.shape) for a in arrays]
    batch, found = stored.batch(range(len(arrays)))
    assert batch.shape == (len(arrays), 1, *np.max(sizes, axis=0))
    for row, (height, width), array in zip(batch[:, 0], found.tolist(), arrays, strict=True):
        np.testing.assert_array_equal(row[:height, :width], array)
        assert (row[height:] == 255).all()
        assert (row[:, width:] == 255).all()
    assert estimate(files, Grey()) == sum(a.size for a in arrays) == (stored.folder / "pixels.bin").stat().st_size
    copy = pickle.loads(pickle.dumps(stored))
    assert (copy.planes, copy.fill, copy.digest) == (1, 255, stored.digest)
    np.testing.assert_array_equal(copy.batch([1])[0], stored.batch([1])[0])


def test_images_and_masks_of_the_same_files_are_kept_apart(tmp_path: Path) -> None:
    files, _ = masks(tmp_path / "data")
    image, mask = (build(files, decoder, tmp_path / "cache") for decoder in (ImageDecoder(), Grey()))
    assert image.key != mask.key
    assert (image.planes, mask.planes) == (3, 1)
    assert build(files, Grey(key="other"), tmp_path / "cache").key not in (image.key, mask.key)


def test_broken_masks_are_called_masks(tmp_path: Path) -> None:
    files, _ = masks(tmp_path / "data")
    Image.new("L", (4, 4), 201).save(files.path(2))
    with pytest.raises(UserError, match=r"1 of 4 masks can't be decoded: 2_mask\.png \(value 201 is of no class\)"):
        build(files, Grey(), tmp_path / "cache")
    assert set(build(files, Grey(), tmp_path / "cache", skip_broken=True).broken) == {2}
    assert not build(files, ImageDecoder(), tmp_path / "cache").broken


def test_what_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = masks(tmp_path / "data")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage(9, 9, 0))
    advice = {ImageDecoder(8): "lower data.stored", ImageDecoder(scale=0.5): "lower data.scale"}
    for decoder, text in advice.items():
        with pytest.raises(UserError, match=f"decoded images .*{text} in the recipe"):
            build(files, decoder, tmp_path / "cache")
    with pytest.raises(UserError, match=r"decoded masks .*to another disk$"):
        build(files, Grey(), tmp_path / "cache")


def test_images_reduced_by_a_factor(tmp_path: Path) -> None:
    samples = photos(tmp_path / "data")
    decoder = ImageDecoder(side=10, scale=0.5)
    pixels = build(samples, decoder, tmp_path / "cache")
    keys = {store_key(samples, d) for d in (decoder, ImageDecoder(10), ImageDecoder(10, 0.25), ImageDecoder(scale=0.5))}
    assert len(keys) == 4
    for index in range(len(samples.files)):
        np.testing.assert_array_equal(
            pixels.image(index).transpose(1, 2, 0), decode(samples.path(index), side=10, scale=0.5)
        )
    assert abs(estimate(samples, decoder) - 3 * pixels.sizes.prod(axis=1).sum()) <= 1


def test_large_images_are_decoded_a_few_at_a_time(tmp_path: Path) -> None:
    """Sixteen at a time in each thread, with others waiting, would be gigabytes of aerial images."""
    files, _ = masks(tmp_path / "data", ((2, 2),) * 300)
    waiting, most, lock = set(), [0], threading.Lock()

    class Aerial(Grey):
        def decode(self, path: Path) -> np.ndarray:
            with lock:
                waiting.add(path)
                most[0] = max(most[0], len(waiting))
            return np.zeros((1, 1, 1), np.uint8)

        def size(self, width: int, height: int) -> tuple[int, int]:
            return 2000 * width, 1000 * height

    paths = [files.path(i) for i in range(300)]
    for path, _ in zip(paths, store.decoded(paths, Aerial()), strict=True):
        time.sleep(0.001)
        with lock:
            waiting.discard(path)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert most[0] <= 4 * threads + 2
