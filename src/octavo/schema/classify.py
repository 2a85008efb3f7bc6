"""What a recipe of an ensemble of classifiers may say."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from octavo.errors import suggest
from octavo.schema.common import Changes, Count, Network, NotNegative, Positive, Probability, Recipe, Section, Split


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


class Member(Network):
    """One network of the ensemble: a torchvision (or `timm:NAME`) extractor, its weights, and a head of its own."""

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


class Data(Split):
    """How images become a classifier's input."""

    size: Annotated[int, Field(ge=8)] = 224
    """Side of the square input, in pixels."""
    resize: Literal["crop", "stretch"] = "crop"
    """`crop`: the centre square of the image; `stretch`: the whole image, its aspect ratio given up."""
    stored: Annotated[int, Field(ge=8)] | None = None
    """Bound on the shorter side of the decoded images kept on disk, in pixels; by default 8/7 of the input side."""
    folds: Annotated[int, Field(ge=0, le=50)] = 0
    """k-fold bagging: each member is trained once per fold on the training images outside of it, and is the mean of
    those networks; all training images get out-of-fold predictions, to choose by. 0 trains once; `holdout` is then
    what is chosen by."""


class Augment(Changes):
    """Random changes to a classifier's training images."""

    crop: Annotated[tuple[Positive, Positive] | None, Field()] = None
    """Random resized crop: range of the area kept, as shares of the image."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Range of the crop's aspect ratio (width/height), drawn log-uniformly."""
    mixup: NotNegative = 0.0
    """α of Beta(α, α); 0 is off."""
    cutmix: NotNegative = 0.0
    """α of Beta(α, α); 0 is off. With mixup too, each batch takes one of them at random."""


class Ensemble(Section):
    """How the members' outputs become one, and their probabilities honest."""

    combine: Literal["mean_probability", "mean_logit", "weighted", "greedy", "caruana"] = "greedy"
    """`greedy`: weights by likelihood, shrunk towards equal ones (`numbers.shrinkage`); `caruana`: by greedy selection
    for accuracy, as the reference's."""
    weights: dict[str, NotNegative] = Field(default_factory=dict)
    """For `weighted`: member name → weight; they are scaled to sum to one."""
    rounds: Count = 50
    """For `caruana`: at most this many picks (Caruana et al., ICML 2004)."""
    fit_on: Literal["holdout", "val"] = "holdout"
    """Where weights are chosen and the calibration is fitted: held-out training images, or with `data.folds`
    out-of-fold predictions. `val` is the set that is scored: the score is then labelled as flattered."""
    calibration: Literal["temperature", "vector", "none"] = "temperature"
    """Scaling of the ensemble's and of each member's logits before softmax (Guo et al., ICML 2017), fitted on `fit_on`
    by likelihood: one number, or a factor and an offset a class. Nothing is fitted where nothing is held out."""


class Distil(Section):
    """Learning from another run's ensemble (Hinton, Vinyals and Dean, arXiv 1503.02531, section 2)."""

    run: str = ""
    """Folder of the finished run that teaches; empty for none. `octavo distil` writes it."""
    temperature: Positive = 2.0
    """T, by which the logits of teacher and student are divided before softmax."""
    weight: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the teacher in the loss, weight × T² × KL divergence; the rest is the cross-entropy with the labels."""


class EnsembleRecipe(Recipe):
    """What a recipe of an ensemble says: data, augmentation, training, members and their combination."""

    data: Data = Data()
    augment: Augment = Augment()
    ensemble: Ensemble = Ensemble()
    members: Annotated[tuple[Member, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _combinable(self) -> Self:
        if self.train.batch_size < 2:
            raise ValueError("train.batch_size: expected 2 or more; batch norm can't normalise a batch of one")
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
        return self

    @model_validator(mode="after")
    def _held_out(self) -> Self:
        needs = {
            "train.patience": self.train.patience > 0,
            'train.keep = "best"': self.train.keep == "best",
            f'ensemble.combine = "{self.ensemble.combine}"': self.ensemble.combine in ("greedy", "caruana")
            and self.ensemble.fit_on == "holdout"
            and len(self.members) > 1,
        }
        for key, needed in needs.items():
            if needed and self.data.holdout == 0 and not self.data.folds:
                raise ValueError(
                    f"{key} chooses on held-out training images, but data.holdout is 0; set it to 0.1, say"
                )
        if self.data.folds == 1:
            raise ValueError("data.folds: one fold leaves nothing to train on; expected 0 (off), or 2 or more")
        return self

    @model_validator(mode="after")
    def _cacheable(self) -> Self:
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

    @property
    def decoding(self) -> object:
        """Bound on the shorter side of stored images."""
        return self.stored_side

    @property
    def least_batch(self) -> int:
        """Two images, as batch norm can't normalise a batch of one."""
        return 2

    def with_whole_paths(self, whole: Callable[[str], str]) -> Self:
        """Return the recipe with every file that it names by its whole path."""
        members = tuple(member.with_whole_path(whole) for member in self.members)
        recipe = self.model_copy(update={"members": members})
        return recipe.taught_in(whole(recipe.teacher)) if recipe.teacher else recipe

    def of_members(self, names: Collection[str]) -> Self:
        """Return the recipe with those members alone, each trained on the images that all of them see."""
        return self.model_copy(
            update={
                "members": tuple(member for member in self.members if member.name in names),
                "data": self.data.model_copy(update={"stored": self.stored_side}),  # all members' sizes made it
                "ensemble": self.ensemble.model_copy(update={"combine": "mean_logit", "weights": {}}),
            }
        )

    @property
    def networks(self) -> tuple[Member, ...]:
        """The members."""
        return self.members

    @property
    def folds(self) -> int:
        """How many times each member is trained on another share of the training images; 0 is once, on one share."""
        return self.data.folds

    def size_of(self, member: Member) -> int:
        """Return the input side of one member in pixels."""
        return member.size or self.data.size

    @property
    def stored_side(self) -> int:
        """Bound on the shorter side of stored images, in pixels."""
        return self.data.stored or -(-max(self.size_of(m) for m in self.members) * 8 // 7)


class ClassifyRecipe(EnsembleRecipe):
    """A recipe of an ensemble of classifiers; a single one may learn from another ensemble."""

    task: Literal["classify"] = "classify"
    distil: Distil = Distil()

    @model_validator(mode="after")
    def _teachable(self) -> Self:
        if self.distil.run and (self.augment.mixup or self.augment.cutmix):
            raise ValueError("augment.mixup, augment.cutmix: a teacher's answers can't be mixed; set both to 0")
        return self

    @property
    def teacher(self) -> str:
        """Folder of the run that it learns from; empty for none."""
        return self.distil.run

    def taught_in(self, place: str) -> Self:
        """Return the recipe with its teacher's folder at `place`."""
        return self.model_copy(update={"distil": self.distil.model_copy(update={"run": place})})
