"""The decoder of a fully convolutional network: maps of a pyramid to a score per pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo.errors import UserError
from octavo.recipe import Segmenter

Size = tuple[int, int]
"""Height and width of an image, in pixels."""
Margins = tuple[int, int, int, int]
"""Pixels that are put around an image: left, right, top, bottom, as torch's `pad` takes them."""

COARSEST = 32
PAD = 99
"""Zeros around an image that give the paper's padding of 100 in VGG's first layer, which has one of its own."""
_ROOM = 3
_NAMES = {
    (32, 2): "upscore2",
    (16, 2): "upscore_pool4",
    (32, 32): "upscore32",
    (16, 16): "upscore16",
    (8, 8): "upscore8",
}
_POOLS = {16: "score_pool4", 8: "score_pool3"}


class FCN(nn.Module):
    """The decoder of a fully convolutional network: maps of stride 8, 16, 32 to logits.

    Shelhamer, Long and Darrell, "Fully Convolutional Networks for Semantic Segmentation", TPAMI 39(4), 2017, section 4
    and figure 3. The layers run in the order in which they stand; which exist depends on `stride`.
    """

    def __init__(self, spec: Segmenter, widths: Sequence[int], classes: int) -> None:
        """Build the decoder for maps of `widths` channels, the finest first; `spec` must have passed `check_fcn`."""
        super().__init__()
        self.border, self.stride = spec.border, spec.stride
        self.interpolates = spec.upsample != "transposed"
        self.scales: dict[int, float] = dict(zip((16, 8), spec.skip_scales, strict=True))
        width = dict(zip((s for s in (8, 16, 32) if s >= spec.stride), widths, strict=True))
        self.top = nn.Sequential(*_hidden(spec, width[COARSEST]))
        last = spec.hidden[-1].width if spec.hidden else width[COARSEST]
        self.score = nn.Conv2d(last, classes, 1) if spec.score else None
        for stride, factor in enlargements(spec.stride):
            source = classes if spec.score else last
            setattr(self, _NAMES[stride, factor], _enlarger(spec.upsample, source, classes, factor))
            if stride // factor in _POOLS:
                setattr(self, _POOLS[stride // factor], nn.Conv2d(width[stride // factor], classes, 1))
        self.crops = crops(spec) if spec.border == "pad100" else None
        if spec.zero_scores:
            self._zero()

    def margins(self, height: int, width: int) -> Margins:
        """Return the zeros around an image: the paper's 100 (one in the first layer), or up to a multiple of 32."""
        if self.crops is not None:
            return PAD, PAD, PAD, PAD
        top, left = -height % COARSEST // 2, -width % COARSEST // 2
        return left, -width % COARSEST - left, top, -height % COARSEST - top

    def forward(self, maps: Sequence[Tensor], size: Size) -> Tensor:
        """Return logits [B,C,H,W] from maps [B,F,h,w], the finest first, of images of `size` (H, W) with margins."""
        x = self.top(maps[-1])
        if self.score is not None:
            x = self.score(x)
        skips = list(maps[:-1])
        for number, (stride, factor) in enumerate(enlargements(self.stride)):
            x = self._enlarged(x, _NAMES[stride, factor], factor)
            if stride // factor in _POOLS:
                skip = self.get_submodule(_POOLS[stride // factor])(skips.pop() * self.scales[stride // factor])
                offset = self.crops[number] if self.crops is not None else 0
                x = x + _window(skip, offset, offset, (x.shape[-2], x.shape[-1]))
        left, _, top, _ = self.margins(*size)
        if self.crops is not None:
            left = top = self.crops[-1]
        return _window(x, top, left, size)

    def _enlarged(self, x: Tensor, name: str, factor: int) -> Tensor:
        layer = self.get_submodule(name)
        if not self.interpolates or self.crops is not None:
            return layer(x)
        # Without neighbours outside of the map its border would fade out: the outermost cells are their own neighbours.
        wide = torch.cat([x[..., :1], x, x[..., -1:]], -1)
        wide = torch.cat([wide[..., :1, :], wide, wide[..., -1:, :]], -2)
        start = factor + factor // 2
        return _window(layer(wide), start, start, (x.shape[-2] * factor, x.shape[-1] * factor))

    @torch.no_grad()
    def _zero(self) -> None:
        for name, layer in self.named_children():
            weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
            if isinstance(weight, Tensor) and (name.startswith("score") or self.score is None):
                weight.zero_()
            if isinstance(bias, Tensor):
                bias.zero_()


class FixedBilinear(nn.Module):
    """Bilinear enlargement by a whole factor, as a transposed convolution that isn't learned: one kernel a class."""

    weight: Tensor

    def __init__(self, classes: int, factor: int) -> None:
        super().__init__()
        self.classes, self.factor = classes, factor
        self.register_buffer("weight", bilinear_kernel(factor).expand(classes, 1, -1, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return scores [B,C,(h+1)·f,(w+1)·f] of `x` [B,C,h,w]."""
        return F.conv_transpose2d(x, self.weight, stride=self.factor, groups=self.classes)

    def extra_repr(self) -> str:
        """Say what PyTorch says of a transposed convolution."""
        side = 2 * self.factor
        return f"{self.classes}, kernel_size=({side}, {side}), stride=({self.factor}, {self.factor})"


def check_fcn(spec: Segmenter) -> None:
    """Refuse an FCN whose keys contradict one another.

    Raises:
        UserError: the first mistake, beginning with its key.
    """
    if not spec.score and spec.upsample != "transposed":
        raise UserError(f'score: false lets the enlarging layer score, which upsample = "{spec.upsample}" can\'t')
    unused = {32: (True, True), 16: (False, True), 8: (False, False)}[spec.stride]
    for scale, pool, off in zip(spec.skip_scales, ("pool4", "pool3"), unused, strict=True):
        if off and scale != 1:
            raise UserError(f"skip_scales: stride = {spec.stride} doesn't use {pool}; set its factor to 1")
    if spec.border == "pad100":
        if not spec.backbone.startswith("vgg"):
            raise UserError(f'border: "pad100" and its crops are made for VGGs; "{spec.backbone}" needs "same"')
        if _reach(spec) > _ROOM:
            raise UserError('border: "pad100" has room for hidden kernels that sum up to one of 7; use "same"')


def enlargements(finest: int) -> list[tuple[int, int]]:
    """Return the strides that scores are enlarged from, and by which factor: 8 gives (32, 2), (16, 2), (8, 8)."""
    halved = [(stride, 2) for stride in (32, 16) if stride > finest]
    return [*halved, (finest, finest)]


def crops(spec: Segmenter) -> tuple[int, ...]:
    """Return where the paper's padded maps are cut, a number for each enlargement.

    For all but the last it is the first cell of the finer map's scores that is kept, for the last the first pixel of
    the enlarged scores: (5, 9, 31) for the paper's FCN-8s, (5, 27) for FCN-16s and (19,) for FCN-32s. They follow
    from where cell 0 lies in the image: that of a pooling of stride s at (s - 1) / 2 - 99.
    """
    place = COARSEST * _reach(spec) + (COARSEST - 1) / 2 - PAD
    found = []
    for stride, factor in enlargements(spec.stride):
        kernel = factor if spec.upsample == "transposed" else 2 * factor
        finer = stride // factor
        place -= (kernel - 1) / 2 * finer
        found.append(-place if finer == 1 else (place - (finer - 1) / 2 + PAD) / finer)
    assert all(x == int(x) >= 0 for x in found)
    return tuple(int(x) for x in found)


def bilinear_kernel(factor: int) -> Tensor:
    """Return float32 [2f,2f], with which a transposed convolution of stride f interpolates bilinearly (f even)."""
    side = 1 - (torch.arange(2 * factor) - factor + 0.5).abs() / factor
    return side[:, None] * side


def _hidden(spec: Segmenter, width: int) -> Iterator[nn.Module]:
    for conv in spec.hidden:
        yield nn.Conv2d(width, conv.width, conv.kernel, padding=0 if spec.border == "pad100" else conv.kernel // 2)
        yield nn.ReLU(inplace=True)
        if conv.dropout:
            yield nn.Dropout(conv.dropout)
        width = conv.width


def _enlarger(kind: str, source: int, classes: int, factor: int) -> nn.Module:
    if kind == "bilinear-fixed":
        return FixedBilinear(classes, factor)
    if kind == "transposed":
        return nn.ConvTranspose2d(source, classes, factor, factor)
    layer = nn.ConvTranspose2d(classes, classes, 2 * factor, factor, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(classes)[:, :, None, None] * bilinear_kernel(factor))
    return layer


def _window(x: Tensor, top: int, left: int, size: Size) -> Tensor:
    return x[..., top : top + size[0], left : left + size[1]]


def _reach(spec: Segmenter) -> int:
    """Return how many cells the hidden layers look to each side."""
    return sum(conv.kernel // 2 for conv in spec.hidden)
