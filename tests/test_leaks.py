"""Images that two parts share: each kind of copy is found and named, what merely looks alike isn't."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from scipy.ndimage import gaussian_filter

from conftest import Octavo
from octavo.data import store
from octavo.leaks.find import LEAST, find_leaks
from octavo.leaks.leak import KINDS, Leak
from octavo.leaks.search import comparisons, search
from octavo.progress import silent

SCENES = Path(__file__).parents[2] / "shared" / "data" / "deepglobe13" / "validation"
SIDE = 96
OTHERS = 12
"""Unrelated images in each part."""


def textured(seed: int, side: int = SIDE) -> Image.Image:
    """An image with detail at every scale, as photographs have it."""
    draw = np.random.default_rng(seed)
    scales = (1.5, 3, 6, 12)
    planes = [s * gaussian_filter(draw.normal(size=(side, side, 3)), (s, s, 0), mode="wrap") for s in scales]
    return Image.fromarray((128 + 90 * np.sum(planes, axis=0)).clip(0, 255).astype(np.uint8))


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "exact": lambda image: image.copy(),
    "flipped": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cropped": lambda image: image.crop((image.width // 14, image.height // 32, image.width, image.height)),
    "resized": lambda image: image.resize((130, 130), Image.Resampling.BICUBIC),
    "recoloured": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "recompressed": recompressed,
}


class Folder:
    """Images of two parts in a folder, and their pixels."""

    def __init__(self, root: Path, scored: list[Image.Image], trained: list[Image.Image]) -> None:
        images = [*scored, *trained]
        self.root, self.folder, self.files = str(root), str(root), tuple(f"{i:03}.png" for i in range(len(images)))
        for name, image in zip(self.files, images, strict=True):
            image.save(root / name)
        self.parts = {"val": np.arange(len(scored)), "train": np.arange(len(scored), len(images))}

    def path(self, index: int) -> Path:
        return Path(self.root) / self.files[index]

    def pixels(self, cache: Path, *, skip_broken: bool = False) -> store.Pixels:
        return store.build(self, store.ImageDecoder(), cache, skip_broken=skip_broken)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A copy of each kind in `val`, in the order of CHANGES, of the first images of `train`; and others."""
    (tmp_path / "images").mkdir()
    sources = [textured(i) for i in range(len(CHANGES))]
    copies = [change(image) for change, image in zip(CHANGES.values(), sources, strict=True)]
    others = [textured(100 + i) for i in range(2 * OTHERS)]
    return Folder(tmp_path / "images", copies + others[:OTHERS], sources + others[OTHERS:])


def test_every_kind_of_copy_is_found_and_named(folder: Folder, cache: Path) -> None:
    start = len(folder.parts["val"])
    found = find_leaks(folder.pixels(cache), folder.parts)
    assert {(leak.first, leak.second): leak.kind for leak in found} == {
        (i, start + i): kind for i, kind in enumerate(CHANGES)
    }
    assert found[0].kind == "exact" and found[0].similarity == 1.0
    assert all(0.8 < leak.similarity <= 1 for leak in found)
    assert [leak.similarity for leak in found] == sorted((leak.similarity for leak in found), reverse=True)


def test_tiles_that_overlap_are_found(tmp_path: Path, cache: Path) -> None:
    wide = [textured(i, 3 * SIDE // 2) for i in range(4)]
    left = [image.crop((0, 0, SIDE, SIDE)) for image in wide]
    right = [image.crop((SIDE // 4, SIDE // 8, SIDE // 4 + SIDE, SIDE // 8 + SIDE)) for image in wide]
    made = Folder(tmp_path, [*left, textured(50)], [*right, textured(60)])
    found = find_leaks(made.pixels(cache), made.parts)
    assert {(leak.first, leak.second, leak.kind) for leak in found} == {(i, 5 + i, "overlapping") for i in range(4)}


def test_within_a_part_as_well(tmp_path: Path, cache: Path) -> None:
    turned = textured(1).transpose(Image.Transpose.ROTATE_180)
    made = Folder(tmp_path, [textured(1), textured(2), turned], [textured(3), textured(3)])
    pixels = made.pixels(cache)
    assert find_leaks(pixels, made.parts) == ()
    found = {(leak.first, leak.second, leak.kind) for leak in find_leaks(pixels, made.parts, within=True)}
    assert {(*sorted(pair[:2]), pair[2]) for pair in found} == {(0, 2, "flipped"), (3, 4, "exact")}


def test_flat_and_small_images_count_only_if_they_are_equal(tmp_path: Path, cache: Path) -> None:
    def flat(level: int) -> Image.Image:
        return Image.new("RGB", (SIDE, SIDE), (level, level, level))

    made = Folder(tmp_path, [flat(100), flat(50)], [flat(101), flat(50), textured(1)])
    assert find_leaks(made.pixels(cache), made.parts) == (Leak(1, 3, "exact", 1.0),)
    (tmp_path / "small").mkdir()
    tiny = [textured(i).resize((LEAST - 4, LEAST - 4)) for i in range(4)]
    made = Folder(tmp_path / "small", [tiny[0], recompressed(tiny[1])], tiny)
    assert find_leaks(made.pixels(cache), made.parts) == (Leak(0, 2, "exact", 1.0),)


def test_broken_images_and_empty_parts_are_passed_over(folder: Folder, cache: Path) -> None:
    folder.path(1).write_bytes(b"no image")
    pixels = folder.pixels(cache, skip_broken=True)
    found = find_leaks(pixels, folder.parts | {"test": np.empty(0, np.int64)})
    assert len(found) == len(CHANGES) - 1 and all(leak.first != 1 for leak in found)
    assert find_leaks(pixels, {"val": folder.parts["val"]}) == ()
    assert find_leaks(pixels, {"val": np.empty(0, np.int64)}) == ()


def test_neighbours_by_features_are_looked_at_too(folder: Folder, cache: Path) -> None:
    features = np.random.default_rng(0).normal(size=(len(folder.files), 8))
    pixels = folder.pixels(cache)
    found = {(leak.first, leak.second) for leak in find_leaks(pixels, folder.parts)}
    assert {(leak.first, leak.second) for leak in find_leaks(pixels, folder.parts, features=features)} == found


class Told:
    """A progress that counts its calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        self.count += 1

    def news(self) -> bool:
        """Tell whether it was called since this was asked last."""
        count, self.count = self.count, 0
        return count > 0


def test_a_search_is_done_once_whatever_the_order_of_the_parts(folder: Folder, cache: Path) -> None:
    told, pixels = Told(), folder.pixels(cache)
    first = search(pixels, folder, folder.parts, cache, progress=told)
    assert told.news() and len(first) == len(CHANGES)
    turned = {name: index[::-1] for name, index in reversed(folder.parts.items())}
    assert search(pixels, folder, turned, cache, progress=told) == first and not told.news()
    search(pixels, folder, folder.parts, cache, within=True, progress=told)
    assert told.news()
    folder.path(0).touch()
    search(pixels, folder, folder.parts, cache, progress=told)
    assert told.news()


def test_a_search_in_larger_images_counts_for_smaller_ones(folder: Folder, cache: Path) -> None:
    told = Told()
    small = store.build(folder, store.ImageDecoder(SIDE - 20), cache)
    search(small, folder, folder.parts, cache, progress=told)
    assert told.news()
    found = search(folder.pixels(cache), folder, folder.parts, cache, progress=told)
    assert told.news()
    assert search(small, folder, folder.parts, cache, progress=told) == found and not told.news()


def test_kinds_are_those_of_the_files(tmp_path: Path, cache: Path) -> None:
    large = [textured(i, 400) for i in range(3)]
    smaller = large[0].resize((250, 250), Image.Resampling.LANCZOS)
    retouched = large[1].copy()
    retouched.putpixel((200, 200), tuple(255 - v for v in large[1].getpixel((200, 200))))  # pyright: ignore
    made = Folder(tmp_path, [smaller, retouched, large[2]], large)
    pixels = store.build(made, store.ImageDecoder(64), cache)
    found = search(pixels, made, made.parts, cache, progress=Told())
    assert {(leak.first, leak.second): leak.kind for leak in found} == {
        (0, 3): "resized",
        (1, 4): "recompressed",
        (2, 5): "exact",
    }


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[[0, 1, 2, 3]]", None, b"3", b"[" * 99_999])
def test_a_damaged_search_is_done_again(
    content: bytes | None, folder: Folder, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = folder.pixels(cache)
    first = search(pixels, folder, folder.parts, cache, progress=silent)
    (path,) = cache.glob("leaks/*/pairs.json")
    if content is None:
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"0", b"1", 1) if content == b"3" else content)
    assert search(pixels, folder, folder.parts, cache, progress=silent) == first
    (line,) = caplog.messages
    assert line.startswith(f"warning: {path}: ") and line.endswith("; the images are compared again")


def test_pairs_are_counted() -> None:
    assert comparisons({"val": 3, "test": 4, "train": 10}) == 12 + 30 + 40
    assert comparisons({"train": 10}, within=True) == 45


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of exact"):
        Leak(0, 1, "rotated", 0.9)
    assert {*CHANGES, "overlapping"} == set(KINDS)


def test_check_names_near_twins(tmp_path: Path, run_cli: Octavo) -> None:
    for split, first in (("train", 0), ("val", 10)):
        for name in "ab":
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(4):
                textured(first + 100 * ord(name) + i).save(tmp_path / "data" / split / name / f"{i}.png")
    copy = tmp_path / "data" / "val" / "a" / "copy.png"
    CHANGES["cropped"](textured(100 * ord("a"))).save(copy)
    code, out, _ = run_cli("check", tmp_path / "data")
    text = " ".join(out.split())
    assert code == 0 and "nearly the same image in two splits: the score is flattered: 1" in text
    assert "copy.png (val) = train" in text and ": cropped, similarity " in text
    assert "nearly" not in run_cli("check", tmp_path / "data", "--no-leaks")[1]
    copy.rename(tmp_path / "data" / "train" / "a" / "copy.png")
    _, out, _ = run_cli("check", tmp_path / "data" / "train")
    assert "a random split may put it into two parts: 1" in " ".join(out.split())


def product(seed: int) -> Image.Image:
    """One box on a plain ground, as a shop shows what it sells: two of them agree in their edges."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (64, 64), tuple(draw.integers(200, 256, 3).tolist()))
    x, y = draw.integers(4, 20, 2).tolist()
    wide, tall = draw.integers(24, 40, 2).tolist()
    pen = ImageDraw.Draw(image)
    pen.rectangle((x, y, x + wide, y + tall), tuple(draw.integers(0, 120, 3).tolist()))
    for _ in range(6):
        u, v = int(draw.integers(x, x + wide - 6)), int(draw.integers(y, y + tall - 6))
        pen.ellipse((u, v, u + 6, v + 6), tuple(draw.integers(0, 256, 3).tolist()))
    return image


def test_what_looks_alike_is_no_near_duplicate(tmp_path: Path, cache: Path) -> None:
    images = [product(i) for i in range(60)]
    copy = ImageEnhance.Brightness(images[40]).enhance(0.9)
    made = Folder(tmp_path, [copy, *images[:30]], images[30:])
    assert [(leak.first, leak.second, leak.kind) for leak in find_leaks(made.pixels(cache), made.parts)] == [
        (0, 41, "recoloured")
    ]


def test_a_blur_is_no_change_of_colour(tmp_path: Path, cache: Path) -> None:
    fine = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    image = Image.blend(textured(1), Image.fromarray(fine), 0.2)
    small = image.resize((SIDE * 5 // 8, SIDE * 5 // 8), Image.Resampling.BILINEAR)
    made = Folder(tmp_path, [small.resize(image.size, Image.Resampling.BICUBIC), textured(2)], [image, textured(3)])
    assert [leak.kind for leak in find_leaks(made.pixels(cache), made.parts)] == ["recompressed"]


@pytest.mark.skipif(not SCENES.is_dir(), reason="needs ../shared/data/deepglobe13")
def test_real_scenes(cache: Path, tmp_path: Path) -> None:
    images = [Image.open(file).convert("RGB").resize((256, 256)) for file in sorted(SCENES.glob("*_sat.jpg"))[:20]]
    copies = [list(CHANGES.values())[i % len(CHANGES)](image) for i, image in enumerate(images)]
    found = find_leaks((made := Folder(tmp_path, copies, images)).pixels(cache), made.parts)
    right = {(leak.first, leak.second) for leak in found if leak.second - len(copies) == leak.first}
    assert len(right) >= 0.95 * len(copies) and len(found) <= 1.05 * len(right)
