"""What a recipe of a segmenter may say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from octavo.schema.common import Changes, Count, Network, NotNegative, Positive, Probability, Recipe, Section, Split

LEAST = 8
"""Least side of a crop, in pixels."""
Side = Annotated[int, Field(ge=LEAST)]
Kernel = Annotated[int, Field(ge=1, le=31)]


def _pair(value: object) -> object:
    """Return a side as height and width; one that is too short is refused once, not twice."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value < LEAST:
        raise PydanticKnownError("greater_than_equal", {"ge": LEAST})
    return value, value


class Conv(Section):
    """One hidden layer on the top of the pyramid: Conv, ReLU, then dropout."""

    width: Count
    kernel: Kernel = 3
    """Side of its kernel, odd; padded by half of it, unless `border = "pad100"`."""
    dropout: Probability = 0.0

    @model_validator(mode="after")
    def _odd(self) -> Conv:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd number, got {self.kernel}")
        return self


class Segmenter(Network):
    """The network: an FCN on a pyramid of features, or one of torchvision's own segmentation networks."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "segmenter"
    network: str = "fcn"
    """`fcn`, or a segmentation network of torchvision's such as `deeplabv3_resnet50`, which brings its own backbone."""
    backbone: str = "vgg16"
    """For `fcn`: a torchvision network with a pyramid of poolings or stages."""
    stride: Literal[32, 16, 8] = 8
    """Finest stride that is predicted from: FCN-32s, FCN-16s, FCN-8s."""
    hidden: tuple[Conv, ...] = (Conv(width=1024), Conv(width=1024))
    """Layers between the top of the pyramid and the scores (the paper's fc6 and fc7)."""
    score: bool = True
    """Whether a 1×1 convolution scores the top before it is enlarged; without it (stride 32 alone) the enlarging layer
    itself does."""
    upsample: Literal["transposed", "bilinear", "bilinear-fixed"] = "transposed"
    """`transposed`: learned from random weights, kernel = stride; `bilinear`: kernel = 2 × stride, learned, starting as
    bilinear interpolation; `bilinear-fixed`: the same, not learned."""
    border: Literal["same", "pad100"] = "same"
    """`same`: padded to a multiple of 32 and cropped back, nothing wasted; `pad100`: the paper's padding of 100 pixels
    and its crops."""
    skip_scales: tuple[Positive, Positive] = (1.0, 1.0)
    """Factors on pool4 and pool3 before they are scored (the paper's training at once: 0.01 and 0.0001)."""
    zero_scores: bool = False
    """Start the score layers at zero, so that training begins at a loss of ln C whatever the features' scale."""
    start: str | None = None
    """A trained run or weights file from which every tensor of equal name and shape is taken (the paper's stages)."""

    @property
    def extractor(self) -> str:
        """The network that `weights` are of: torchvision's own segmentation networks have it in their name."""
        return self.backbone if self.network == "fcn" else self.network.partition("_")[2]

    @property
    def uses_classifier(self) -> bool:
        """Whether the hidden layers are the paper's fc6 and fc7, which VGG's ImageNet classifier can fill."""
        shapes = [(conv.width, conv.kernel) for conv in self.hidden]
        return self.network == "fcn" and self.backbone.startswith("vgg") and shapes == [(4096, 7), (4096, 1)]

    def with_whole_path(self, whole: Callable[[str], str]) -> Self:
        """Return the network with the files that it names by their whole path."""
        own = super().with_whole_path(whole)
        return own.model_copy(update={"start": whole(own.start)}) if own.start else own

    @model_validator(mode="after")
    def _possible(self) -> Segmenter:
        if not self.score and self.stride != 32:
            raise ValueError(f"score: false needs stride = 32, not {self.stride}; skips are added to scores")
        return self


class SegmentData(Split):
    """How images and masks become a segmenter's input."""

    size: Annotated[tuple[Side, Side], BeforeValidator(_pair)] = (256, 256)
    """Crop that training sees, in pixels: a side, or [height, width]. Validation sees whole images."""
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Images are reduced by this factor before the network sees them; scores are enlarged to the masks' own size."""
    classes: str | None = None
    """Table of classes: a name (`octavo classes` lists them) or a TOML file; by default `classes.toml` beside the
    images, or what the masks themselves tell."""
    tolerant: bool = False
    """Take each channel of a mask's colour as 255 from 128 on, else as 0, for masks that were saved as JPEG."""


class SegmentAugment(Changes):
    """Random changes to a segmenter's training images, and to their masks with them."""

    scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Range of the factor by which an image is enlarged before it is cropped, drawn log-uniformly."""


class Loss(Section):
    """What is minimised: a sum of these, each with its weight; ignored pixels count in none."""

    cross_entropy: NotNegative = 1.0
    focal: NotNegative = 0.0
    focal_gamma: NotNegative = 2.0
    dice: NotNegative = 0.0
    lovasz: NotNegative = 0.0

    @model_validator(mode="after")
    def _some(self) -> Loss:
        if not (self.cross_entropy or self.focal or self.dice or self.lovasz):
            raise ValueError(
                "cross_entropy: every weight is 0; give one of cross_entropy, focal, dice, lovasz a weight"
            )
        return self


class Stages(Section):
    """Which predicted masks are kept while training goes on, to see it learn."""

    at: tuple[Annotated[int, Field(ge=1)] | Literal["best"], ...] | None = None
    """Epochs after which masks are kept, and `best`; by default a fifth and two fifths of all epochs, and `best`.

    Epochs after the last are left out; where that leaves none, those of the default take their place."""
    images: tuple[str, ...] = ()
    """Validation images, by file name or stem; by default `count` of them, evenly spaced."""
    count: Annotated[int, Field(ge=0)] = 6


class Measure(Section):
    """How masks are scored."""

    rule: str = "auto"
    """Rule of the headline mIoU: `mmsegmentation` (classes that don't occur are left out), `course`, `voc`, …; `auto`:
    `course` where the table has classes that aren't scored and all others occur in the scored masks, else
    `mmsegmentation`. `octavo score` shows all of them side by side."""


class SegmentRecipe(Recipe):
    """A recipe of a segmenter: data, augmentation, training, network, loss, and how it is measured."""

    task: Literal["segment"]
    data: SegmentData = SegmentData()
    augment: SegmentAugment = SegmentAugment()
    loss: Loss = Loss()
    stages: Stages = Stages()
    measure: Measure = Measure()
    segmenter: Segmenter = Segmenter()

    @property
    def networks(self) -> tuple[Segmenter, ...]:
        """The segmenter alone."""
        return (self.segmenter,)

    @property
    def decoding(self) -> object:
        """The factor by which images are reduced."""
        return self.data.scale

    def without_start(self) -> Self:
        """Return the recipe without the weights file that the segmenter starts from."""
        return self.model_copy(update={"segmenter": self.segmenter.model_copy(update={"start": None})})

    def with_whole_paths(self, whole: Callable[[str], str]) -> Self:
        """Return the recipe with every file that it names by its whole path."""
        table, data = self.data.classes, self.data
        if table is not None and (table.endswith(".toml") or "/" in table):
            data = data.model_copy(update={"classes": whole(table)})
        return self.model_copy(update={"segmenter": self.segmenter.with_whole_path(whole), "data": data})

    @property
    def stage_epochs(self) -> tuple[int, ...]:
        """Epochs (1-based, ascending) after which masks are kept; `best` is not among them."""
        last, named = self.train.epochs, {e for e in self.stages.at or () if isinstance(e, int)}
        kept = {e for e in named if e <= last}
        if self.stages.at is None or (named and not kept):
            kept = {e for e in (round(0.2 * last), round(0.4 * last)) if e}
        return tuple(sorted(kept))

    @property
    def late_stages(self) -> tuple[int, ...]:
        """Epochs of `stages.at` that never come, since there are fewer."""
        return tuple(sorted({e for e in self.stages.at or () if isinstance(e, int) and e > self.train.epochs}))

    @model_validator(mode="after")
    def _consistent(self) -> SegmentRecipe:
        for key, needed in {
            "train.patience": self.train.patience > 0,
            'train.keep = "best"': self.train.keep == "best",
        }.items():
            if needed and self.data.holdout == 0:
                raise ValueError(
                    f"{key} chooses on held-out training images, but data.holdout is 0; set it to 0.1, say"
                )
        frozen = self.train.mode == "frozen" and self.train.cache
        if frozen and self.augment.random and self.train.views == 1:
            raise ValueError(
                "train.cache: a cached pyramid can't have random augmentation; set train.views = 4 (fixed views), "
                "or train.cache = false, or remove augment"
            )
        if self.train.views > 1 and not (frozen and self.augment.random):
            raise ValueError('train.views: more than one view needs mode = "frozen", cache = true and an augmentation')
        if self.train.mode == "frozen" and self.train.head_epochs:
            raise ValueError('train.head_epochs: mode = "frozen" trains the head alone in every epoch; remove it')
        if self.train.mode == "frozen" and self.train.reestimate_norm and not self.train.cache:
            raise ValueError("train.reestimate_norm: a frozen pyramid keeps its statistics; remove it")
        return self
