"""The manifest of a run and the facts of a member, as types that the files are held against."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, model_validator

FORMAT = 2
"""Of the manifest: since 2 it is sealed, and every file of the run has a hash."""

Text = InstanceOf[str]
"""A string that may hold the bytes of a file name that aren't Unicode."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, strict=True)]
Channel = Annotated[int, Field(ge=0, le=255, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Part(BaseModel):
    """A part of a file of a run: keys that aren't known are left to the seal."""

    model_config = ConfigDict(extra="allow")


class ClassOfMasks(Part):
    """One class of a segmenter's table."""

    name: Text
    value: Channel
    colour: tuple[Channel, Channel, Channel]
    ignored: bool
    scored: bool


class Table(Part):
    """A segmenter's table of classes."""

    name: Text
    classes: list[ClassOfMasks]


class Data(Part):
    """What a run was trained on."""

    root: Text | None = None
    layout: Text | None = None
    own_split: bool = False
    samples: Sha256 | None = None
    """SHA-256 of `samples.csv`."""
    pixels: Text | None = None
    masks: Text | None = None
    labels: dict[str, Any] = {}
    parts: dict[str, Count] = {}
    broken: Count = 0


class Manifest(Part):
    """What is fixed before the first step of a run."""

    octavo: str = ""
    task: str = "classify"
    seed: Count = 0
    recipe: Sha256 | None = None
    """SHA-256 of `recipe.toml`."""
    classes: Annotated[list[Text], Field(min_length=1)]
    table: Table | None = None
    data: Data = Data()
    hardware: dict[str, Any] = {}
    weights: dict[str, str] = {}
    options: dict[str, Any] = {}
    teacher: str | None = None
    code: dict[str, Any] = {}
    python: str = ""
    packages: dict[str, str] = {}
    environment: dict[str, str] = {}

    @model_validator(mode="after")
    def _distinct(self) -> Manifest:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have one name")
        return self


class OlderManifest(Manifest):
    """A manifest of a version that didn't seal it: all its keys are known."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1


class Leak(Part):
    """Two images that are one picture."""

    first: Text
    first_part: str
    second: Text
    second_part: str
    kind: str
    similarity: Finite


class Leaks(Part):
    """Images that parts of the data share, and how they were looked for."""

    rule: str
    searched: dict[str, Count]
    pairs: list[Leak]


class Precision(Part):
    """Members that answer in bfloat16, and on what."""

    device: str
    members: list[str] = []


class CascadeResult(Part):
    """How a cascade did."""

    budget: Finite
    device: str


class FittedCascade(Part):
    """A cascade, and how it did."""

    cascade: dict[str, Any]
    report: CascadeResult
    bf16: list[str] = []


def _mapping(value: object) -> object:
    return {} if value is None else value


class MemberFacts(Part):
    """What is known of a trained member or segmenter."""

    backbone: str = ""
    network: str = ""
    features: Count = 0
    classes: Count = 0
    size: Count = 0
    resize: str = ""
    scale: Positive = 1.0
    mean: tuple[Finite, Finite, Finite] = (0, 0, 0)
    std: tuple[Positive, Positive, Positive] = (1, 1, 1)
    parameters: dict[str, Count] = {}
    weights: Annotated[dict[str, str], BeforeValidator(_mapping)] = {}
    folds: Annotated[int, Field(ge=1, strict=True)] | None = None
    files: dict[str, Sha256] = {}
    """Path in the run's folder → SHA-256 of a file that training left."""
