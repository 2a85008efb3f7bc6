"""What every recipe may say: how it is named and seeded, how training goes, and how images are split and changed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Pair = tuple[NotNegative, NotNegative]


class Section(BaseModel):
    """A table of a recipe: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SUFFIXES = (".safetensors", ".pth", ".pt")
"""Endings of weights files."""


def is_file(weights: str) -> bool:
    """Return whether a recipe's `weights` names a file, not a published set."""
    return weights.endswith(SUFFIXES) or "/" in weights or os.sep in weights


def member_name(backbone: str) -> str:
    """Return a backbone as members and folders may be called: `timm:hf-hub:timm/x` has characters that they can't."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", backbone.removeprefix("timm:")).lstrip("_.-") or "student"


class Network(Section):
    """What is trained: a network with a name, which its files have too."""

    name: Name
    backbone: str
    weights: str = "imagenet"
    """`imagenet` (torchvision's V1), `IMAGENET1K_V1`/`IMAGENET1K_V2`, `none`, or the path of a file."""

    @property
    def extractor(self) -> str:
        """The network that `weights` are of."""
        return self.backbone

    @property
    def uses_classifier(self) -> bool:
        """Whether layers behind the extractor start from the ImageNet classifier of `weights`."""
        return False

    def with_whole_path(self, whole: Callable[[str], str]) -> Self:
        """Return the network with its weights' file, if it names one, by its whole path."""
        return self.model_copy(update={"weights": whole(self.weights)}) if is_file(self.weights) else self


class Split(Section):
    """What becomes of the images before any network sees them."""

    normalize: Literal["weights", "none"] = "weights"
    """`weights`: mean and standard deviation that the pretrained weights expect; `none`: plain 0–1."""
    holdout: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """Share of the training images kept out of training, to choose by; never part of the score."""
    val: Annotated[float, Field(gt=0, lt=0.9)] = 0.2
    """Share split off for validation where the folder has no split of its own."""


class Changes(Section):
    """Random changes to training images that any task can use; each is off unless named."""

    hflip: Probability = 0.0
    vflip: Probability = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle in degrees, drawn from ± this."""
    perspective: Probability = 0.0
    """Distortion scale of torchvision's RandomPerspective."""
    perspective_p: Probability = 0.5
    brightness: Pair = (1.0, 1.0)
    contrast: Pair = (1.0, 1.0)
    saturation: Pair = (1.0, 1.0)

    @model_validator(mode="after")
    def _ordered(self) -> Changes:
        for name in type(self).model_fields:
            pair = getattr(self, name)
            if isinstance(pair, tuple) and pair[0] > pair[1]:
                raise ValueError(f"{name}: expected [low, high], got {list(pair)}")
        return self

    @property
    def random(self) -> bool:
        """Whether two views of one image can differ."""
        return any(
            getattr(self, k) != f.default
            for k, f in type(self).model_fields.items()
            if k not in ("ratio", "perspective_p")
        )


class Train(Section):
    """How a member is trained; `members` may override mode, epochs, batch_size, lr, backbone_lr, weight_decay."""

    mode: Literal["finetune", "frozen"] = "finetune"
    """`finetune`: all layers; `frozen`: the head alone, on features computed once."""
    epochs: Count = 10
    batch_size: Count = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 1e-3
    backbone_lr: NotNegative = 1.0
    """Learning rate of the extractor as a multiple of `lr`."""
    head_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs in which the head alone is trained, before all layers are."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 0.0
    schedule: Literal["constant", "step", "cosine"] = "constant"
    step_size: Count = 8000
    """Optimiser steps between two drops of the `step` schedule."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.7
    warmup_epochs: NotNegative = 0.0
    """Epochs (fractions allowed) over which the learning rate rises linearly from 1 % of its value."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] | tuple[NotNegative, ...] = "none"
    """`balanced`: n / (classes × count), as in scikit-learn; or one weight per class, in the order of class ids."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the exponential moving average of the weights that the member becomes; 0 is off."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better held-out loss after which training stops; 0 never stops."""
    keep: Literal["last", "best"] = "last"
    """Which weights a member becomes: those of the last epoch, or of the lowest held-out loss."""
    clip_norm: NotNegative = 0.0
    """Largest norm of the whole gradient; 0 is off."""
    accumulate: Count = 1
    """Batches whose gradients are summed for one optimiser step."""
    precision: Annotated[Literal["32", "bf16", "auto"], BeforeValidator(lambda x: "32" if x == 32 else x)] = "32"
    """`auto`: bfloat16 where the hardware multiplies it natively, else float32; the run's recipe says which it was."""
    channels_last: bool = False
    reestimate_norm: bool = False
    """After training, batch-norm statistics are computed anew over the training images."""
    cache: bool = True
    """Frozen mode: compute features once and keep them; otherwise the extractor runs in every epoch."""
    views: Count = 1
    """Frozen mode with cache: fixed views kept per image; the first is the plain one, the rest are augmented."""
    checkpoint_minutes: Positive = 5.0

    @model_validator(mode="after")
    def _possible(self) -> Train:
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError('nesterov: needs optimizer = "sgd" and a momentum above 0')
        return self


class Recipe(Section):
    """What a recipe of any task says; `classify.ClassifyRecipe` and `segment.SegmentRecipe` say the rest."""

    task: Any
    """What is learned: a key of `registry.TASKS`."""
    name: Name
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = 0
    train: Train = Train()

    @property
    def networks(self) -> tuple[Network, ...]:
        """What is trained, one after another."""
        raise NotImplementedError

    @property
    def folds(self) -> int:
        """How many times each network is trained on another share of the training images; 0 is once, on one share."""
        return 0

    @property
    def decoding(self) -> object:
        """What decides, beside the files, which pixels images are decoded to."""
        raise NotImplementedError

    @property
    def least_batch(self) -> int:
        """Images that a batch needs at least on one device."""
        return 1

    @property
    def teacher(self) -> str:
        """Folder of the run that it learns from; empty for none."""
        return ""

    def taught_in(self, place: str) -> Self:
        """Return the recipe with its teacher's folder at `place`; raises ValueError where it has none."""
        raise ValueError(f"task {self.task} learns from no other run: {place}")

    def of_members(self, names: Collection[str]) -> Self:
        """Return the recipe with those of its networks alone that are named, each trained as with the others."""
        return self

    def without_start(self) -> Self:
        """Return the recipe without a file of trained weights beside those that networks are published with."""
        return self

    def with_whole_paths(self, whole: Callable[[str], str]) -> Self:
        """Return the recipe with every file that it names by its whole path.

        Args:
            whole: path as the recipe has it → whole path.
        """
        raise NotImplementedError

    def train_of(self, network: Network) -> Train:
        """Return the training settings of one network: `train` with its own values over it."""
        own = {k: getattr(network, k) for k in Train.model_fields if getattr(network, k, None) is not None}
        return self.train.model_copy(update=own)
