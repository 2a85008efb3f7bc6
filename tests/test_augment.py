"""Views and their rendering against torchvision, Pillow and the definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as tv

from octavo.data.augment import Resize, Size, Views, draw, draw_crop, plain, whole
from octavo.data.classes import IGNORE
from octavo.data.render import normalize, render, render_masks
from octavo.data.resample import _edges, boxed, cut, cut_at_once
from octavo.recipe import Augment, SegmentAugment

DIGITS = load_digits(return_X_y=True)[0].reshape(-1, 8, 8)
ALL = Augment(
    hflip=0.5, vflip=0.5, rotation=15, crop=(0.3, 1), perspective=0.2, perspective_p=0.5,
    brightness=(0.5, 1.5), contrast=(0.5, 1.5), saturation=(0.5, 1.5),
)  # fmt: skip


def smooth(height: int, width: int, phase: float = 0.0) -> np.ndarray:
    """An image of slow waves, uint8 [3, height, width]: bilinear reading of it is nearly exact."""
    y, x = np.mgrid[:height, :width] + 0.5
    waves = [np.sin(a * x / 11 + b * y / 13 + c + phase) for a, b, c in ((1, 0.3, 0), (-0.4, 1, 2), (0.7, 0.8, 4))]
    return np.rint(127.5 + 100 * np.stack(waves)).astype(np.uint8)


def digit(index: int, side: int) -> np.ndarray:
    """A handwritten digit, uint8 [3, side, side], coloured so that the channels differ."""
    image = Image.fromarray(np.uint8(DIGITS[index] * 15.9)).resize((side, side), Image.Resampling.BICUBIC)
    return np.stack([np.asarray(image), 255 - np.asarray(image), np.asarray(image) // 2])


def canvas(images: list[np.ndarray], height: int = 0, width: int = 0, padding: int = 0) -> tuple[Tensor, np.ndarray]:
    sizes = np.array([image.shape[1:] for image in images], dtype=np.int32)
    pixels = np.full((len(images), 3, *np.maximum(sizes.max(axis=0), (height, width))), padding, dtype=np.uint8)
    for row, image in zip(pixels, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return torch.from_numpy(pixels), sizes


def show(image: np.ndarray, augment: Augment, size: int, index: int = 0) -> tuple[Tensor, Views]:
    pixels, sizes = canvas([image])
    views = draw(augment, 0, 0, np.array([index]), sizes, size, "stretch")
    return render(pixels, sizes, views, size)[0], views


def unit(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).float() / 255


def angle_of(matrix: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))


def inner(image: Tensor, border: int = 3) -> Tensor:
    return image[..., border:-border, border:-border]


# the plain view


@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_an_image_of_the_right_size_comes_out_exactly(resize: Resize) -> None:
    images = [smooth(32, 32), digit(3, 32)]
    pixels, sizes = canvas(images)
    out = render(pixels, sizes, plain(sizes, 32, resize), 32)
    assert out.dtype == torch.float32
    assert torch.equal(out, pixels.float() / 255)


@pytest.mark.parametrize(("height", "width", "size", "side"), [
    (256, 256, 224, 224), (256, 320, 224, 224), (240, 300, 224, 224), (512, 600, 224, 448), (225, 400, 224, 224),
    (224, 300, 224, 224), (100, 300, 224, 100), (32, 32, 40, 32), (64, 64, 64, 64), (1, 50, 32, 1), (50, 1, 32, 1),
])  # fmt: skip
def test_crop_is_a_centre_square(height: int, width: int, size: int, side: int) -> None:
    matrix = plain(np.array([[height, width]]), size, "crop").matrix[0].double().numpy()
    left, top, _ = matrix @ [0, 0, 1]
    right, bottom, _ = matrix @ [size, size, 1]
    assert (right - left, bottom - top) == pytest.approx((side, side), rel=1e-6)
    assert (left, top) == ((width - side) // 2, (height - side) // 2)


def test_the_side_of_the_crop_has_no_jump() -> None:
    shorter = np.arange(1, 600)
    sides = plain(np.stack([shorter, shorter + 50], axis=1), 224, "crop").matrix[:, 0, 0].numpy() * 224
    assert np.diff(sides).min() > -1e-3
    assert np.diff(sides).max() < 1.01
    assert sides[-1] == pytest.approx(599 * 7 / 8, abs=0.5)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (256, 341), (301, 256)])
def test_crop_shows_what_torchvisions_preset_shows(height: int, width: int) -> None:
    """Resize(256), CenterCrop(224) of an image stored with a shorter side of 256: the pixels themselves."""
    image = smooth(height, width)
    pixels, sizes = canvas([image])
    expected = tv.center_crop(unit(image), [224, 224])
    rows, columns = (height - 224) // 2, (width - 224) // 2
    out = render(pixels, sizes, plain(sizes, 224, "crop"), 224)[0]
    assert torch.equal(out, unit(image)[:, rows : rows + 224, columns : columns + 224])
    torch.testing.assert_close(out, expected, atol=0.08, rtol=0)  # torchvision rounds odd halves the other way


@pytest.mark.parametrize("size", [16, 30, 56])
def test_a_shrunk_crop_is_torchvisions_antialiased_resize(size: int) -> None:
    image = digit(8, 64)
    pixels, sizes = canvas([image])
    out = render(pixels, sizes, plain(sizes, size, "crop"), size)[0]
    resized = tv.resize(unit(image), [size * 8 // 7], antialias=True)
    if size * 8 % 7 == 0:
        torch.testing.assert_close(out, tv.center_crop(resized, [size, size]), atol=1e-5, rtol=0)
    else:  # torchvision's crop is on whole pixels of the smaller image
        assert (out - tv.center_crop(resized, [size, size])).abs().mean() < 0.06


@pytest.mark.parametrize(("height", "width", "size"), [
    (64, 64, 20), (256, 256, 64), (37, 90, 24), (90, 37, 48), (32, 32, 40), (20, 50, 64), (1, 40, 16), (40, 1, 16),
])  # fmt: skip
def test_stretch_is_pillows_bilinear_resize(height: int, width: int, size: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, height, width)).astype(np.uint8)
    pixels, sizes = canvas([noise])
    out = render(pixels, sizes, plain(sizes, size, "stretch"), size)[0]
    expected = Image.fromarray(noise.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BILINEAR)
    assert np.abs(out.numpy() * 255 - np.asarray(expected).transpose(2, 0, 1)).max() < 1.01  # Pillow rounds twice


def test_padding_is_never_seen() -> None:
    """The same pictures whatever lies on the canvas beside the image."""
    images = [smooth(40, 30), digit(0, 33), smooth(1, 25), smooth(90, 80)]
    sizes = canvas(images)[1]
    for views in (
        plain(sizes, 36, "crop"),
        plain(sizes, 36, "stretch"),
        draw(ALL, 0, 0, np.arange(4), sizes, 36, "crop"),
    ):
        black, white = (render(canvas(images, 97, 130, value)[0], sizes, views, 36) for value in (0, 255))
        torch.testing.assert_close(black, white, atol=1e-4, rtol=0)


def test_an_enlarged_image_has_no_seam() -> None:
    white = np.full((3, 20, 31), 255, dtype=np.uint8)
    pixels, sizes = canvas([white], 64, 64)
    for resize in ("crop", "stretch"):
        assert render(pixels, sizes, plain(sizes, 50, resize), 50).min() > 0.9999


# one change at a time, against torchvision


def test_flips() -> None:
    image = digit(4, 32)
    across, _ = show(image, Augment(hflip=1), 32)
    down, _ = show(image, Augment(vflip=1), 32)
    torch.testing.assert_close(across, tv.horizontal_flip(unit(image)), atol=1e-4, rtol=0)
    torch.testing.assert_close(down, tv.vertical_flip(unit(image)), atol=1e-4, rtol=0)


def test_a_mirrored_shrunk_image_is_filtered_too() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 80)).astype(np.uint8)
    out, _ = show(noise, Augment(hflip=1), 24)
    expected = tv.horizontal_flip(tv.resize(torch.from_numpy(noise), [24, 24], antialias=True))
    torch.testing.assert_close(out, expected.float() / 255, atol=1e-6, rtol=0)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("make", [lambda: smooth(48, 48), lambda: digit(2, 48)])
def test_rotation(index: int, make: object) -> None:
    image = make()  # pyright: ignore[reportCallIssue]
    out, views = show(image, Augment(rotation=40), 48, index)
    angle = angle_of(views.matrix[0].numpy())
    assert 1 < abs(angle) <= 40
    expected = tv.rotate(unit(image), angle, interpolation=tv.InterpolationMode.BILINEAR)
    seen = tv.rotate(torch.ones(1, 48, 48), angle, interpolation=tv.InterpolationMode.BILINEAR) > 0.999
    torch.testing.assert_close(out * seen, expected * seen, atol=1e-3, rtol=0)
    outside = tv.rotate(torch.ones(1, 48, 48), angle, interpolation=tv.InterpolationMode.BILINEAR) == 0
    assert (out * outside).sum() == 0


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize(
    ("image", "distortion", "tolerance"), [(digit(5, 64), 0.2, 0.001), (smooth(64, 64), 0.8, 0.05)]
)
def test_perspective(index: int, image: np.ndarray, distortion: float, tolerance: float) -> None:
    """Where a view shrinks by more than 1.5 it is filtered, which torchvision does not: hence the smooth image."""
    size = 64
    out, views = show(image, Augment(perspective=distortion, perspective_p=1), size, index)
    back = np.linalg.inv(views.matrix[0].double().numpy())
    corners = np.array([[0, 0, 1], [size, 0, 1], [size, size, 1], [0, size, 1]])
    ends = (corners @ back.T)[:, :2] / (corners @ back.T)[:, 2:]
    inward = np.abs(ends - corners[:, :2]) / size
    assert inward.max() <= distortion / 2
    assert inward.max() > distortion / 20
    arguments = {"startpoints": corners[:, :2].tolist(), "endpoints": ends.tolist()}
    expected = tv.perspective(unit(image), **arguments, interpolation=tv.InterpolationMode.BILINEAR)
    cover = tv.perspective(torch.ones(1, size, size), **arguments, interpolation=tv.InterpolationMode.BILINEAR)
    torch.testing.assert_close(out * (cover > 0.999), expected * (cover > 0.999), atol=tolerance, rtol=0)
    assert (out * (cover == 0)).sum() == 0


@pytest.mark.parametrize("distortion", [0.5, 0.9, 1.0])
def test_a_strong_perspective_still_shows_the_picture(distortion: float) -> None:
    pixels = torch.full((200, 3, 32, 32), 255, dtype=torch.uint8)
    sizes = np.full((200, 2), 32)
    views = draw(Augment(perspective=distortion, perspective_p=1), 0, 0, np.arange(200), sizes, 32, "stretch")
    shares = render(pixels, sizes, views, 32)[:, 0].mean(dim=(1, 2))
    assert shares.isfinite().all()
    if distortion < 0.95:  # at 1 all four corners can meet in the centre
        assert shares.min() > (1 - distortion) ** 2


@pytest.mark.parametrize("key", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.7])
def test_colour(key: str, factor: float) -> None:
    image = digit(7, 24)
    out, _ = show(image, Augment.model_validate({key: (factor, factor)}), 24)
    expected = getattr(tv, f"adjust_{key}")(unit(image), factor)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_colours_change_in_the_order_of_the_view(order: tuple[int, ...]) -> None:
    image = digit(7, 24)
    pixels, sizes = canvas([image])
    matrix, factors = plain(sizes, 24, "crop").matrix, torch.tensor([[1.4, 0.6, 1.8]])
    views = Views(matrix=matrix, factors=factors, order=torch.tensor([order]), colour=True)
    expected = unit(image)
    for change in order:
        adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)[change]
        expected = adjust(expected, float(factors[0, change]))
    torch.testing.assert_close(render(pixels, sizes, views, 24)[0], expected, atol=1e-5, rtol=0)


# all together


@pytest.mark.parametrize("index", range(6))
def test_the_fused_warp_is_the_changes_one_after_another(index: int) -> None:
    """Crop, flip, rotate and perspective by Pillow and torchvision, each interpolated by itself, on a smooth image."""
    image, size = smooth(120, 150), 100
    pixels, sizes = canvas([image])
    indices = np.array([index])

    def matrix(**changes: object) -> np.ndarray:
        views = draw(Augment.model_validate(changes), 3, 1, indices, sizes, size, "crop")
        return views.matrix[0].double().numpy()

    cropped, base = matrix(crop=(0.4, 0.6)), matrix()
    flipped = matrix(hflip=0.5)[0, 0] < 0
    turn = np.linalg.inv(base) @ matrix(rotation=10)
    tilt = np.linalg.inv(base) @ matrix(perspective=0.2, perspective_p=1)
    left, top = cropped[:2, 2]
    box = (left, top, left + cropped[0, 0] * size, top + cropped[1, 1] * size)
    piece = Image.fromarray(image.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BILINEAR, box=box)
    expected = unit(np.asarray(piece).transpose(2, 0, 1).copy())
    expected = tv.horizontal_flip(expected) if flipped else expected
    angle = angle_of(turn)
    expected = tv.rotate(expected, angle, interpolation=tv.InterpolationMode.BILINEAR)
    corners = np.array([[0, 0, 1], [size, 0, 1], [size, size, 1], [0, size, 1]])
    ends = corners @ np.linalg.inv(tilt).T
    expected = tv.perspective(
        expected, corners[:, :2].tolist(), (ends[:, :2] / ends[:, 2:]).tolist(), tv.InterpolationMode.BILINEAR
    )
    changes = Augment(crop=(0.4, 0.6), hflip=0.5, rotation=10, perspective=0.2, perspective_p=1)
    out = render(pixels, sizes, draw(changes, 3, 1, indices, sizes, size, "crop"), size)[0]
    middle = slice(25, 75)
    torch.testing.assert_close(out[:, middle, middle], expected[:, middle, middle], atol=0.02, rtol=0)


def test_a_shrinking_warp_is_filtered() -> None:
    """Fine noise turned and shrunk to a quarter must come out nearly even, as an antialiased resize has it."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 256, 256)).astype(np.uint8)
    out, _ = show(noise, Augment(rotation=10), 64)
    resized = tv.resize(unit(noise), [64], antialias=True)
    assert inner(out, 16).std() < 1.3 * resized.std()
    wave = smooth(256, 256)
    turned, views = show(wave, Augment(rotation=10), 64)
    angle = angle_of(views.matrix[0].numpy())
    expected = tv.resize(tv.rotate(unit(wave), angle, tv.InterpolationMode.BILINEAR), [64], antialias=True)
    torch.testing.assert_close(inner(turned, 10), inner(expected, 10), atol=0.05, rtol=0)


# keys


def mixed() -> list[np.ndarray]:
    """Images of several sizes, the last of them shrunk by the plain view at 36 px."""
    return [smooth(40, 40, i) if i % 2 else digit(i, 33) for i in range(12)] + [
        smooth(70, 20),
        smooth(1, 30),
        smooth(99, 99),
    ]


@pytest.mark.parametrize(("augment", "tolerance"), [
    (Augment(), 0), (Augment(hflip=0.5), 0), (Augment(rotation=15, contrast=(0.5, 1.5)), 0),
    (Augment(perspective=0.3), 0), (Augment(crop=(0.1, 1)), 1e-6), (ALL, 1e-6),
])  # fmt: skip
def test_a_picture_does_not_depend_on_its_batch(augment: Augment, tolerance: float) -> None:
    """To the bit but for the matrix products of antialiasing, whose order of summation is the library's."""
    images = mixed() if tolerance else mixed()[:-1]
    pixels, sizes = canvas(images)
    indices = np.arange(len(images)) * 7

    def picture(rows: np.ndarray, pixels: Tensor = pixels) -> Tensor:
        return render(pixels[rows], sizes[rows], draw(augment, 5, 2, indices[rows], sizes[rows], 36, "crop"), 36)

    whole = picture(np.arange(len(images)))
    shuffled = np.random.default_rng(1).permutation(len(images))
    torch.testing.assert_close(picture(shuffled), whole[torch.from_numpy(shuffled)], atol=tolerance, rtol=0)
    for row in range(len(images)):
        torch.testing.assert_close(picture(np.array([row]))[0], whole[row], atol=tolerance, rtol=0)
    torch.testing.assert_close(picture(np.arange(len(images)), canvas(images, 140, 111)[0]), whole, atol=1e-4, rtol=0)


def test_a_large_image_in_the_batch_changes_no_other() -> None:
    """Copies of images that are read whole are bytes, those of parts floats: each by its own image."""
    draws = np.random.default_rng(3)
    images = [draws.integers(0, 256, (3, *shape), np.uint8) for shape in [(900, 1000)] * 3 + [(1100, 1300)]]
    pixels, sizes = canvas(images)
    views = draw(Augment(crop=(0.5, 1), rotation=20), 1, 0, np.arange(4), sizes, 96, "stretch")
    together = render(pixels, sizes, views, 96)
    for row in range(4):
        alone = slice(row, row + 1)
        torch.testing.assert_close(
            render(pixels[alone], sizes[alone], views.some(alone), 96)[0], together[row], atol=1e-5, rtol=0
        )


def test_a_crop_of_a_line_of_pixels_has_a_pixel() -> None:
    for sizes, ratio in (((40, 1), (2.5, 3.0)), ((1, 40), (0.1, 0.2))):
        pixels = torch.full((1, 3, *sizes), 200, dtype=torch.uint8)
        views = draw(Augment(crop=(0.5, 1), ratio=ratio), 0, 0, np.arange(1), np.array([sizes]), 8, "stretch")
        torch.testing.assert_close(render(pixels, np.array([sizes]), views, 8), torch.full((1, 3, 8, 8), 200 / 255))


def test_seed_epoch_and_index_change_the_view() -> None:
    sizes = np.full((64, 2), 32)
    first = draw(ALL, 0, 0, np.arange(64), sizes, 32, "crop")
    torch.manual_seed(9)
    np.random.default_rng(9)
    assert torch.equal(draw(ALL, 0, 0, np.arange(64), sizes, 32, "crop").matrix, first.matrix)
    for seed, epoch, start in ((1, 0, 0), (0, 1, 0), (0, 0, 64)):
        other = draw(ALL, seed, epoch, np.arange(start, start + 64), sizes, 32, "crop")
        assert not (other.matrix == first.matrix).flatten(1).all(dim=1).any()
        assert not (other.factors == first.factors).any()


def test_one_change_does_not_shift_the_draws_of_another() -> None:
    sizes, indices = np.full((200, 2), 32), np.arange(200)
    alone = draw(Augment(hflip=0.5), 0, 0, indices, sizes, 32, "crop").matrix[:, 0, 0] < 0
    beside = draw(Augment(hflip=0.5, rotation=15), 0, 0, indices, sizes, 32, "crop").matrix[:, 0, 0] < 0
    assert torch.equal(alone, beside)


# distributions


def many(augment: Augment, height: int = 32, width: int = 32) -> tuple[np.ndarray, Views]:
    count = 4000
    views = draw(augment, 0, 0, np.arange(count), np.tile([height, width], (count, 1)), 32, "stretch")
    return views.matrix.double().numpy(), views


def uniform_between(numbers: np.ndarray, low: float, high: float) -> bool:
    return bool(stats.kstest(numbers, stats.uniform(low, high - low).cdf).pvalue > 1e-3)


def test_angles_and_flips_are_drawn_evenly() -> None:
    matrix, _ = many(Augment(rotation=15))
    assert uniform_between(np.degrees(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])), -15, 15)
    for key, axis in (("hflip", 0), ("vflip", 1)):
        matrix, _ = many(Augment.model_validate({key: 0.3}))
        assert (matrix[:, axis, axis] < 0).mean() == pytest.approx(0.3, abs=0.03)


def test_perspective_is_as_frequent_as_asked() -> None:
    matrix, _ = many(Augment(perspective=0.2, perspective_p=0.25))
    assert (matrix[:, 2, :2] != 0).any(axis=1).mean() == pytest.approx(0.25, abs=0.03)
    matrix, _ = many(Augment(perspective=0.5, perspective_p=0.5))
    corner = np.linalg.inv(matrix[(matrix[:, 2, :2] != 0).any(axis=1)])[:, :, 2]
    assert uniform_between(corner[:, 0] / corner[:, 2] / 32, 0, 0.25)


def test_colour_factors_and_orders_are_drawn_evenly() -> None:
    _, views = many(Augment(brightness=(0.5, 1.5), contrast=(0.2, 1), saturation=(1, 3)))
    assert views.colour
    for column, (low, high) in zip(views.factors.numpy().T, ((0.5, 1.5), (0.2, 1), (1, 3)), strict=True):
        assert uniform_between(column, low, high)
    counts = np.unique(views.order.numpy() @ [100, 10, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3
    assert not many(Augment(rotation=15))[1].colour


def test_crops_have_the_areas_and_ratios_asked_for() -> None:
    matrix, _ = many(Augment(crop=(0.1, 0.5)), 240, 320)
    width, height = matrix[:, 0, 0] * 32, matrix[:, 1, 1] * 32
    assert uniform_between(width * height / (240 * 320), 0.1, 0.5)
    assert uniform_between(np.log(width / height), np.log(3 / 4), np.log(4 / 3))
    assert uniform_between(matrix[:, 0, 2] / (320 - width), 0, 1)
    assert uniform_between(matrix[:, 1, 2] / (240 - height), 0, 1)


@pytest.mark.parametrize(("height", "width"), [(30, 300), (300, 30), (1, 64), (50, 50)])
def test_crops_lie_in_the_image(height: int, width: int) -> None:
    matrix, _ = many(Augment(crop=(0.5, 1)), height, width)
    wide, tall = matrix[:, 0, 0] * 32, matrix[:, 1, 1] * 32
    assert matrix[:, :2, 2].min() >= 0
    assert (matrix[:, 0, 2] + wide).max() <= width + 1e-3
    assert (matrix[:, 1, 2] + tall).max() <= height + 1e-3
    assert ((wide + 0.5) / (tall - 0.5)).min() > 3 / 4 - 1e-4  # sides are rounded to whole pixels
    assert ((wide - 0.5) / (tall + 0.5)).max() < 4 / 3 + 1e-4
    assert np.abs(wide - np.rint(wide)).max() < 1e-4


@pytest.mark.parametrize(("height", "width", "box"), [(30, 300, (130, 0, 40, 30)), (300, 30, (0, 130, 30, 40))])
def test_a_crop_that_cannot_be_is_the_largest_in_the_centre(
    height: int, width: int, box: tuple[float, float, float, float]
) -> None:
    """As torchvision's RandomResizedCrop falls back: the nearest allowed ratio, 4:3 or 3:4."""
    matrix, _ = many(Augment(crop=(0.9, 1)), height, width)
    found = np.stack([matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 0, 0] * 32, matrix[:, 1, 1] * 32], axis=1)
    np.testing.assert_allclose(found, np.tile(box, (len(found), 1)), rtol=1e-5, atol=1e-5)


# the rest


def test_bf16_autocast_costs_no_precision() -> None:
    pixels, sizes = canvas(mixed())
    views = draw(ALL, 0, 0, np.arange(len(sizes)), sizes, 20, "crop")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = render(pixels, sizes, views, 20)
    assert torch.equal(inside, render(pixels, sizes, views, 20))


def test_values_stay_between_zero_and_one() -> None:
    noise = np.random.default_rng(0).choice([0, 255], (3, 64, 64)).astype(np.uint8)
    for index in range(10):
        out, _ = show(noise, ALL, 40, index)
        assert out.min() >= 0
        assert out.max() <= 1


def test_normalize_is_torchvisions() -> None:
    images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    torch.testing.assert_close(normalize(images.clone(), mean, std), tv.normalize(images, mean, std))


@pytest.mark.parametrize("large", [1 << 20, 100])
@pytest.mark.parametrize("size", [(17, 30), (64, 64), (1, 5)])
def test_boxes_cut_at_once_are_those_cut_one_by_one(size: Size, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.data.resample._LARGE", large)
    pixels, sizes = canvas(mixed())
    crops = Augment(crop=(0.05, 1.0), hflip=0.5, vflip=0.5)
    views = draw(crops, 0, 3, np.arange(len(sizes)), sizes, 64, "crop")
    matrix = views.matrix.numpy().astype(np.float64) @ np.diag([64 / size[1], 64 / size[0], 1])
    assert boxed(matrix, sizes, size).all()
    edges = np.rint(_edges(matrix, size)).astype(int)
    assert (edges[:, 0] > edges[:, 1]).any()
    one_by_one = cut(pixels, sizes, matrix, size)
    at_once = cut_at_once(pixels, sizes, matrix, size)
    assert at_once.dtype == torch.uint8
    away = (at_once.int() - one_by_one.int()).abs()
    assert away.max() <= 1  # the CPU rounds between the two axes too
    assert away.float().mean() < 0.2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("augment", [ALL, Augment(), Augment(crop=(0.2, 1.0), hflip=0.5), Augment(rotation=20)])
@pytest.mark.parametrize("size", [20, 36])
def test_the_gpu_shows_the_same(augment: Augment, size: int) -> None:
    pixels, sizes = canvas(mixed())
    views = draw(augment, 0, 0, np.arange(len(sizes)), sizes, size, "crop")
    there, here = render(pixels.cuda(), sizes, views, size).cpu(), render(pixels, sizes, views, size)
    assert (there - here).abs().max() < 2.5 / 255  # bytes are rounded where the CPU resizes them, colours stretch that
    assert (there - here).abs().mean() < 0.2 / 255


# crops of scenes, and their masks with them

GEOMETRY = {
    "as it is": {},
    "flips": {"hflip": 0.5, "vflip": 0.5},
    "enlarged": {"scale": (1.1, 1.9)},
    "reduced": {"scale": (0.5, 0.9)},
    "turned": {"rotation": 40},
    "tilted": {"perspective": 0.4, "perspective_p": 1.0},
    "all": {"hflip": 0.5, "scale": (0.7, 1.6), "rotation": 180, "perspective": 0.3, "perspective_p": 0.5},
}
IDS = np.array([0, 1, 3, 6])


def ids_in_grey(height: int, width: int, mask_factor: float = 1.0, margin: float = 2.5) -> tuple[np.ndarray, Tensor]:
    """An image of blocks and its mask: channel 0 is 40 × id, 1 is 255 near the border of a block, 2 is 255 inside."""

    def blocks(n: int) -> tuple[np.ndarray, np.ndarray]:
        place = (np.arange(n) + 0.5) / n * 4
        return place.astype(int), np.abs(place - np.rint(place)) * n / 4

    def ids(height: int, width: int) -> np.ndarray:
        down, across = blocks(height)[0][:, None], blocks(width)[0][None]
        return IDS[(down * 3 + across + (down == across)) % 4].astype(np.uint8)

    near = (blocks(height)[1][:, None] < margin) | (blocks(width)[1][None] < margin)
    image = np.stack([40 * ids(height, width), 255 * near.astype(np.uint8), np.full((height, width), 255, np.uint8)])
    return image, torch.from_numpy(ids(round(height * mask_factor), round(width * mask_factor)))


@pytest.mark.parametrize("size", [(40, 56), (96, 80)])
@pytest.mark.parametrize("factor", [1.0, 2.0, 1.97])
@pytest.mark.parametrize("name", GEOMETRY)
def test_a_mask_moves_with_its_image(name: str, factor: float, size: tuple[int, int]) -> None:
    """Wherever the image is flat its grey is 40 × the id of the mask, at twice the image's size too."""
    image, mask = ids_in_grey(64, 72, factor)
    augment, count = SegmentAugment.model_validate(GEOMETRY[name]), 6
    sizes, mask_sizes = np.tile([64, 72], (count, 1)), np.tile(mask.shape, (count, 1))
    views = draw_crop(augment, 3, 0, np.arange(count), sizes, size)
    shown = render(torch.from_numpy(image).expand(count, -1, -1, -1), sizes, views, size)
    found = render_masks(mask.expand(count, -1, -1), mask_sizes, sizes, views, size)
    assert found.dtype == torch.int64 and found.shape == (count, *size)
    inside, outside = shown[:, 2] > 0.999, shown[:, 2] == 0
    flat = inside & (shown[:, 1] < 1e-4)
    assert flat.float().mean() > 0.1
    assert torch.equal((shown[:, 0] * 255 / 40)[flat].round().long(), found[flat])
    assert (found[outside] == IGNORE).all() and set(found.unique().tolist()) <= {*IDS.tolist(), IGNORE}
    assert (found[flat] != IGNORE).all()


@pytest.mark.parametrize("name", GEOMETRY)
def test_ids_are_never_mixed(name: str) -> None:
    """Of a mask of noise in 0 and 200 no id between the two is made, and no neighbour's on the canvas is seen."""
    noise = np.random.default_rng(0).choice([0, 200], (4, 30, 50)).astype(np.uint8)
    canvas_ = np.full((4, 40, 60), 77, np.uint8)
    canvas_[:, :30, :50] = noise
    sizes = np.tile([30, 50], (4, 1))
    views = draw_crop(SegmentAugment.model_validate(GEOMETRY[name]), 0, 0, np.arange(4), sizes, (48, 48))
    found = render_masks(torch.from_numpy(canvas_), sizes, sizes, views, (48, 48))
    assert set(found.unique().tolist()) <= {0, 200, IGNORE}
    assert (found == IGNORE).any()  # the crop is larger than the image


def test_masks_without_chance_are_themselves() -> None:
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 7, (2, 24, 36)).astype(np.uint8))
    sizes = np.tile([24, 36], (2, 1))
    assert torch.equal(render_masks(mask, sizes, sizes, whole(sizes, (24, 36)), (24, 36)), mask.long())
    small = render_masks(mask, sizes, sizes // 3, whole(sizes // 3, (8, 12)), (8, 12))
    assert torch.equal(small, mask[:, 1::3, 1::3].long())  # the nearest: the centre of each three by three
    for axis, key in ((2, "hflip"), (1, "vflip")):
        views = draw_crop(SegmentAugment.model_validate({key: 1.0}), 0, 0, np.arange(2), sizes, (24, 36))
        assert torch.equal(render_masks(mask, sizes, sizes, views, (24, 36)), mask.flip(axis).long())


def test_crops_are_of_whole_pixels_at_every_place() -> None:
    sizes = np.tile([20, 23], (4000, 1))
    matrix = draw_crop(SegmentAugment(), 0, 0, np.arange(4000), sizes, (16, 16)).matrix.numpy()
    np.testing.assert_array_equal(matrix[:, [0, 1], [0, 1]], 1)
    corners = matrix[:, :2, 2]
    for axis, room in ((0, 7), (1, 4)):
        values, counts = np.unique(corners[:, axis], return_counts=True)
        np.testing.assert_array_equal(values, np.arange(room + 1))
        assert stats.chisquare(counts).pvalue > 1e-4


def test_the_factor_of_a_crop_is_log_uniform() -> None:
    sizes = np.tile([100, 140], (2000, 1))
    matrix = draw_crop(SegmentAugment(scale=(0.5, 2.0)), 0, 0, np.arange(2000), sizes, (40, 60)).matrix.numpy()
    np.testing.assert_allclose(matrix[:, 0, 0], matrix[:, 1, 1], rtol=1e-5)  # width and height alike
    assert uniform_between(-np.log(matrix[:, 0, 0]), np.log(0.5), np.log(2))
    enlarged = matrix[matrix[:, 0, 0] < 1]
    assert enlarged[:, :2, 2].min() >= 0
    assert (enlarged[:, 0, 2] + enlarged[:, 0, 0] * 60).max() <= 140 + 1e-3
    assert (enlarged[:, 1, 2] + enlarged[:, 1, 1] * 40).max() <= 100 + 1e-3


def test_a_crop_is_a_function_of_seed_epoch_and_index() -> None:
    augment, sizes = SegmentAugment(scale=(0.5, 2.0), rotation=10), np.tile([50, 60], (3, 1))
    views = draw_crop(augment, 1, 4, np.array([5, 9, 2]), sizes, (32, 32))
    alone = draw_crop(augment, 1, np.array([4]), np.array([9]), sizes[:1], (32, 32))
    assert torch.equal(views.matrix[1], alone.matrix[0])
    for other in (draw_crop(augment, 2, 4, np.array([5, 9, 2]), sizes, (32, 32)),
                  draw_crop(augment, 1, 5, np.array([5, 9, 2]), sizes, (32, 32))):  # fmt: skip
        assert not torch.equal(views.matrix, other.matrix)


class Floats(TorchDispatchMode):
    """Notes the most numbers that any tensor of floats had."""

    most = 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        out = func(*args, **(kwargs or {}))  # type: ignore[operator]
        if isinstance(out, Tensor) and out.is_floating_point():
            self.most = max(self.most, out.numel())
        return out


@pytest.mark.parametrize("name", [*GEOMETRY, "shrunk and turned"])
def test_of_large_images_no_more_becomes_floats_than_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures are those of the whole images, at a small part of the numbers in memory."""
    changes = GEOMETRY.get(name, {"scale": (0.3, 0.5), "rotation": 30})
    sizes = np.array([[1100, 1000], [1040, 1300], [300, 200]])
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 1100, 1300)).astype(np.uint8))
    views = draw_crop(SegmentAugment.model_validate(changes), 0, 0, np.arange(3), sizes, (64, 80))
    with Floats() as floats:
        found = render(pixels, sizes, views, (64, 80))
    monkeypatch.setattr("octavo.data.resample._LARGE", 1 << 40)
    torch.testing.assert_close(found, render(pixels, sizes, views, (64, 80)), atol=4e-3, rtol=0)  # bytes are rounded
    assert floats.most < 3 * 3 * 450 * 450  # the canvas has 3 × 3 × 1,100 × 1,300
