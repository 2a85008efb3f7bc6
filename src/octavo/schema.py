"""What a recipe may say: its tables, keys, defaults and limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from octavo.errors import suggest

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Range = Annotated[tuple[NotNegative, NotNegative], Field()]


class Section(BaseModel):
    """A table of a recipe: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Hidden(Section):
    """One hidden layer of a head: Linear, then an activation, then dropout."""

    width: Count
    activation: Literal["relu", "gelu", "silu", "tanh", "none"] = "relu"
    dropout: Probability = 0.0


class Head(Section):
    """The layers from features to logits; the last Linear to C classes is implied."""

    norm: Literal["none", "batch"] = "none"
    """`batch` standardises each feature by batch norm without scale and shift, before everything else."""
    dropout: Probability = 0.0
    """Dropout on the features themselves."""
    hidden: tuple[Hidden, ...] = ()


class Member(Section):
    """One network of the ensemble: a torchvision extractor, its weights, and a head of its own."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    backbone: str
    """A torchvision classification network, or `timm:NAME`."""
    weights: str = "imagenet"
    """`imagenet` (torchvision's V1), `IMAGENET1K_V1`/`IMAGENET1K_V2`, `none`, or the path of a file."""
    pool: Literal["native", "avg"] = "native"
    """`native`: the network's own pooling (7×7 for VGG); `avg`: global average pooling."""
    zero_init_residual: bool = False
    """Start the last batch norm of every residual block at zero (networks that offer it, weights `none`)."""
    head: Head = Head()
    size: Annotated[int, Field(ge=8)] | None = None
    """Input side in pixels for this member, instead of `data.size`."""
    mode: Literal["finetune", "frozen"] | None = None
    epochs: Count | None = None
    batch_size: Annotated[int, Field(ge=2)] | None = None
    lr: Positive | None = None
    backbone_lr: NotNegative | None = None
    weight_decay: NotNegative | None = None


class Data(Section):
    """How images become the network's input."""

    size: Annotated[int, Field(ge=8)] = 224
    """Side of the square input, in pixels."""
    resize: Literal["crop", "stretch"] = "crop"
    """`crop`: the centre square of the image; `stretch`: the whole image, its aspect ratio given up."""
    stored: Annotated[int, Field(ge=8)] | None = None
    """Bound on the shorter side of the decoded images kept on disk, in pixels; by default 8/7 of the input side."""
    normalize: Literal["weights", "none"] = "weights"
    """`weights`: mean and standard deviation that the pretrained weights expect; `none`: plain 0–1."""
    holdout: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """Share of the training images kept out of training, to choose by; never part of the score."""
    val: Annotated[float, Field(gt=0, lt=0.9)] = 0.2
    """Share split off for validation where the folder has no split of its own."""


class Augment(Section):
    """Random changes to training images; each is off unless named."""

    hflip: Probability = 0.0
    vflip: Probability = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle in degrees, drawn from ± this."""
    crop: Annotated[tuple[Positive, Positive] | None, Field()] = None
    """Random resized crop: range of the area kept, as shares of the image."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Range of the crop's aspect ratio (width/height), drawn log-uniformly."""
    perspective: Probability = 0.0
    """Distortion scale of torchvision's RandomPerspective."""
    perspective_p: Probability = 0.5
    brightness: Range = (1.0, 1.0)
    contrast: Range = (1.0, 1.0)
    saturation: Range = (1.0, 1.0)
    mixup: NotNegative = 0.0
    """α of Beta(α, α); 0 is off."""
    cutmix: NotNegative = 0.0
    """α of Beta(α, α); 0 is off. With mixup too, each batch takes one of them at random."""

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        for name in ("crop", "ratio", "brightness", "contrast", "saturation"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
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
    batch_size: Annotated[int, Field(ge=2)] = 64
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


class Ensemble(Section):
    """How the members' outputs become one."""

    combine: Literal["mean_probability", "mean_logit", "weighted", "greedy"] = "greedy"
    weights: dict[str, NotNegative] = {}
    """For `weighted`: member name → weight; they are scaled to sum to one."""
    rounds: Count = 50
    """For `greedy`: at most this many picks (Caruana et al., ICML 2004)."""
    fit_on: Literal["holdout", "val"] = "holdout"
    """Where greedy weights are chosen. `val` is the set that is scored: the score is then labelled as flattered."""


class Recipe(Section):
    """A whole recipe: data, augmentation, training, members and their combination."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    task: Literal["classify"] = "classify"
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = 0
    data: Data = Data()
    augment: Augment = Augment()
    train: Train = Train()
    ensemble: Ensemble = Ensemble()
    members: Annotated[tuple[Member, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        names = [m.name for m in self.members]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise ValueError(f'members[{i}].name: "{name}" is used twice; members need names of their own')
        for name in self.ensemble.weights:
            if name not in names:
                raise ValueError(f'ensemble.weights: unknown member "{name}"{suggest(name, names)}')
        if self.ensemble.weights and self.ensemble.combine != "weighted":
            raise ValueError(f'ensemble.weights: combine = "{self.ensemble.combine}" doesn\'t use them; set "weighted"')
        if self.ensemble.combine == "weighted" and not sum(self.ensemble.weights.values()) > 0:
            raise ValueError('ensemble.weights: combine = "weighted" needs a weight above zero for some member')
        needs = {
            "train.patience": self.train.patience > 0,
            'train.keep = "best"': self.train.keep == "best",
            'ensemble.combine = "greedy"': self.ensemble.combine == "greedy"
            and self.ensemble.fit_on == "holdout"
            and len(names) > 1,
        }
        for key, needed in needs.items():
            if needed and self.data.holdout == 0:
                raise ValueError(
                    f"{key} chooses on held-out training images, but data.holdout is 0; set it to 0.1, say"
                )
        for member in self.members:
            train = self.train_of(member)
            if train.mode == "frozen" and train.cache and self.augment.random and train.views == 1:
                raise ValueError(
                    "train.cache: cached features of a frozen extractor can't have random augmentation; "
                    "set train.views = 4 (fixed views), or train.cache = false, or remove augment"
                )
            if train.mode == "frozen" and train.cache and (self.augment.mixup or self.augment.cutmix):
                raise ValueError(
                    "augment.mixup, augment.cutmix: cached features can't be mixed; set train.cache = false"
                )
        if self.train.head_epochs and all(self.train_of(m).mode == "frozen" for m in self.members):
            raise ValueError('train.head_epochs: mode = "frozen" trains the head alone in every epoch; remove it')
        frozen = any(t.mode == "frozen" and t.cache for t in map(self.train_of, self.members))
        if self.train.views > 1 and not (frozen and self.augment.random):
            raise ValueError('train.views: more than one view needs mode = "frozen", cache = true and an augmentation')
        return self

    def train_of(self, member: Member) -> Train:
        """Return the training settings of one member: `train` with the member's own values over it."""
        own = {k: getattr(member, k) for k in Train.model_fields if getattr(member, k, None) is not None}
        return self.train.model_copy(update=own)

    def size_of(self, member: Member) -> int:
        """Return the input side of one member in pixels."""
        return member.size or self.data.size

    @property
    def stored_side(self) -> int:
        """Bound on the shorter side of stored images, in pixels."""
        return self.data.stored or -(-max(self.size_of(m) for m in self.members) * 8 // 7)
