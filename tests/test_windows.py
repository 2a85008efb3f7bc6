"""Windows against the whole image."""

from __future__ import annotations

import errno
import os
import tempfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from octavo.engine.windows import blended, check_window, enlarged, ramps, reduced, rows_of, spool, starts, windowed
from octavo.errors import UserError

REACH = 3 + 2 * 3 + 4 * 3  # of the network below, in pixels to each side, rounded up
SIDES = [(1, 1), (32, 700), (97, 64), (200, 333), (333, 200), (257, 256)]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A small FCN: strides 2 and 4, a skip, upsampling; pads to a multiple of 32, half of it above and to the left."""
    torch.manual_seed(0)

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(i, 8, 3, padding=1) for i in (3, 8, 8))
            self.up = nn.ConvTranspose2d(8, 8, 2, 2)
            self.out = nn.ConvTranspose2d(8, 5, 2, 2)

        def forward(self, x: Tensor) -> Tensor:
            height, width = x.shape[-2:]
            top, left = -height % 32 // 2, -width % 32 // 2
            x = nn.functional.pad(x.float() / 255, (left, -width % 32 - left, top, -height % 32 - top))
            a = nn.functional.max_pool2d(self.a(x).relu(), 2)
            b = nn.functional.max_pool2d(self.b(a).relu(), 2)
            return self.out(self.up(self.c(b).relu()) + a)[..., top : top + height, left : left + width]

    return Small().eval().requires_grad_(False)


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def whole(net: nn.Module, pixels: np.ndarray) -> Tensor:
    return net(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])[0]


def inner_borders(length: int, window: int, overlap: int) -> list[int]:
    begins = starts(length, window, overlap)
    ends = [b + window + length % 32 for b in begins]
    return [b for b in begins if b > 0] + [e for e in ends if e < length]


def safe(length: int, window: int, overlap: int) -> np.ndarray:
    """Pixels further than REACH from every border of a window inside the image."""
    place = np.arange(length)
    borders = inner_borders(length, window, overlap)
    return np.all([np.abs(place + 0.5 - b) > REACH for b in borders], axis=0) if borders else np.ones(length, bool)


@pytest.mark.parametrize(("height", "width"), SIDES)
@pytest.mark.parametrize(("window", "overlap", "batch"), [(96, 32, 1), (128, 64, 3), (64, 0, 2)])
def test_away_from_borders_windows_give_what_the_whole_image_gives(
    net: nn.Module, height: int, width: int, window: int, overlap: int, batch: int
) -> None:
    pixels = image(height, width)
    strips = list(blended(net, rows_of(pixels), (height, width), window, overlap, batch=batch))
    found, expected = torch.cat(strips, 1), whole(net, pixels)
    assert found.shape == expected.shape and max(s.shape[1] for s in strips) < window + 32
    good = torch.from_numpy(np.outer(safe(height, window, overlap), safe(width, window, overlap)))
    assert good.any() or window == 64
    torch.testing.assert_close(found[:, good], expected[:, good], atol=1e-5, rtol=0)


def test_windows_do_not_agree_at_their_borders_so_that_the_test_above_can_fail(net: nn.Module) -> None:
    pixels = image(200, 333)
    found = torch.cat(list(blended(net, rows_of(pixels), (200, 333), 96, 0)), 1)
    assert (found - whole(net, pixels)).abs().max() > 1e-3


def test_an_image_no_larger_than_a_window_goes_whole(net: nn.Module) -> None:
    pixels, seen = image(75, 90), []
    found = list(blended(net, rows_of(pixels), (75, 90), 96, 32, told=lambda *at: seen.append(at)))
    assert len(found) == 1 and seen == [(1, 1)]
    torch.testing.assert_close(found[0], whole(net, pixels), atol=0, rtol=0)


@pytest.mark.parametrize("length", [1, 32, 97, 128, 129, 160, 161, 1000, 1023])
@pytest.mark.parametrize(("window", "overlap"), [(96, 32), (128, 0), (128, 96), (64, 32)])
def test_windows_cover_a_side_with_weights_of_sum_one(length: int, window: int, overlap: int) -> None:
    begins = starts(length, window, overlap)
    weights, total = ramps(length, window, overlap), np.zeros(length)
    assert begins[0] == 0 and all(b % 32 == 0 for b in begins) and begins == sorted(set(begins))
    for begin, weight in zip(begins, weights, strict=True):
        assert 0 < len(weight) < window + 32 and float(weight.min()) > 0
        assert len(weight) == length or len(weight) % 32 == length % 32
        total[begin : begin + len(weight)] += weight.numpy()
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert begins[-1] + len(weights[-1]) == length
    assert all(b - a <= window - overlap for a, b in pairwise(begins))


def test_constant_logits_stay_constant_and_every_window_is_told() -> None:
    told: list[tuple[int, int]] = []
    strips = blended(
        lambda x: torch.full((len(x), 2, *x.shape[-2:]), 0.7),
        rows_of(image(300, 200)),
        (300, 200),
        64,
        32,
        told=lambda *at: told.append(at),
    )
    torch.testing.assert_close(torch.cat(list(strips), 1), torch.full((2, 300, 200), 0.7))
    count = len(starts(300, 64, 32)) * len(starts(200, 64, 32))
    assert told == [(i + 1, count) for i in range(count)]


def test_each_row_is_read_once_but_for_overlaps_and_never_more_than_a_window(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "x.bin", np.uint8, "w+", shape=(1000, 64, 3))
    reads: list[tuple[int, int]] = []

    def rows(top: int, bottom: int) -> np.ndarray:
        reads.append((top, bottom))
        return rows_of(mapped)(top, bottom)

    assert sum(len(s) for s in windowed(lambda x: x.float(), rows, (1000, 64), 128, 32)) == 1000
    assert len(reads) == len(starts(1000, 128, 32)) and max(b - a for a, b in reads) == 128 + 1000 % 32


@pytest.mark.parametrize(
    ("size", "to"), [((7, 9), (14, 18)), ((100, 3), (333, 11)), ((1, 1), (5, 4)), ((50, 60), (50, 61))]
)
@pytest.mark.parametrize("strip", [1, 3, 1000])
def test_enlarging_in_strips_is_interpolate_on_the_whole(
    size: tuple[int, int], to: tuple[int, int], strip: int
) -> None:
    torch.manual_seed(1)
    logits = torch.randn(4, *size)
    found = torch.cat(list(enlarged(iter(logits.split(strip, 1)), size, to)), 1)
    expected = nn.functional.interpolate(logits[None], to, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_rows_are_not_reduced() -> None:
    with pytest.raises(ValueError, match="at least 65 rows"):
        list(enlarged(iter([torch.randn(2, 65, 64)]), (65, 64), (32, 32)))


def test_enlarging_many_rows_goes_in_pieces() -> None:
    logits = torch.randn(2, 300, 4)
    parts = list(enlarged(iter([logits]), (300, 4), (1500, 20)))
    assert max(p.shape[1] for p in parts) <= 256
    expected = nn.functional.interpolate(logits[None], (1500, 20), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=3e-4, rtol=0)  # interpolate's places are float32


@pytest.mark.parametrize(("size", "to"), [((200, 100), (100, 50)), ((333, 77), (83, 19)), ((64, 64), (64, 64))])
def test_reducing_in_strips_is_pillow_on_the_whole(size: tuple[int, int], to: tuple[int, int]) -> None:
    pixels = image(*size)
    rows = reduced(rows_of(pixels), size, to)
    found = np.concatenate([rows(top, min(top + 13, to[0])) for top in range(0, to[0], 13)])
    expected = np.asarray(Image.fromarray(pixels).resize(to[::-1], Image.Resampling.BICUBIC))
    assert np.abs(found.astype(int) - expected).max() <= 1  # coefficients are rounded from another origin


def test_classes_are_chosen_after_enlarging(net: nn.Module) -> None:
    pixels = image(70, 90)
    found = np.concatenate(list(windowed(net, rows_of(pixels), (70, 90), to=(140, 180))))
    expected = nn.functional.interpolate(whole(net, pixels)[None], (140, 180), mode="bilinear", align_corners=False)
    assert found.dtype == np.uint8 and len(np.unique(found)) > 1
    assert (found == expected[0].argmax(0).numpy()).mean() > 0.9999


@pytest.mark.parametrize(
    ("window", "overlap", "word"),
    [
        (1000, 128, "such as 992"),
        (0, 0, "such as 32"),
        (64, 20, "such as 32"),
        (64, 64, "less than"),
        (64, -32, "as 0"),
    ],
)
def test_windows_off_the_grid_are_refused(window: int, overlap: int, word: str) -> None:
    with pytest.raises(UserError, match=word):
        check_window(window, overlap)


def test_windows_on_the_grid_pass() -> None:
    check_window(1024, 128)
    check_window(32, 0)


@pytest.mark.parametrize("in_memory", [0, 10_000])
@pytest.mark.parametrize("shape", [(70, 9), (70, 9, 3)])
def test_spooled_rows_come_back_and_can_be_written_again(shape: tuple[int, ...], in_memory: int) -> None:
    wanted = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with spool(shape, in_memory) as room:
        for top in (40, 0, 20):  # in any order, some of them twice
            room.write(top, wanted[top : top + 30][:, ::-1])
        room.write(0, wanted)
        np.testing.assert_array_equal(room.rows(11, 52), wanted[11:52])
        room.write(5, wanted[5:6] + 1)
        wanted[5] += 1
        np.testing.assert_array_equal(room.rows(5, 70), wanted[5:])
        np.testing.assert_array_equal(room.array(), wanted)
        assert isinstance(room.array(), np.memmap) == (in_memory == 0)


def test_a_full_disk_is_a_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with spool((2, 3), 0) as room, pytest.raises(UserError, match="no space left on device; TMPDIR names"):
        room.write(0, np.zeros((2, 3), np.uint8))


def test_classes_are_chosen_few_rows_at_a_time() -> None:
    seen = [len(strip) for strip in windowed(lambda x: x.float(), rows_of(image(700, 40)), (700, 40), 704, 0)]
    assert sum(seen) == 700 and max(seen) <= 256
