"""ImageNet weights: which file a network needs, where it is found and what input it expects."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import save
from torch import Tensor

from octavo.errors import Damaged, UserError, lookup
from octavo.files import write_atomic
from octavo.networks.backbone import TIMM, require
from octavo.networks.checksums import SUMS, digits_of, note_own, sums_of
from octavo.networks.loading import Extractor, LoadReport, load_into
from octavo.recipe import SUFFIXES, Member, Network, Recipe, is_file

ENVIRONMENT = "OCTAVO_WEIGHTS"
"""Environment variable that names the folder of weights files when none is given."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels in 0–1, by channel R, G, B."""

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Entry:
    """One published set of weights; `size_bytes` is 0 and `top1` (per cent, ImageNet) None where nobody says."""

    backbone: str
    tag: str
    url: str
    file_name: str
    size_bytes: int
    sha_prefix: str
    mean: Channels
    std: Channels
    top1: float | None
    default: bool
    """Whether it is what `weights = "imagenet"` stands for."""


def check_name(backbone: str, weights: str) -> None:
    """Refuse a `weights` that means nothing; files are looked at when they're loaded.

    Raises:
        UserError: unknown set, with the nearest one, or a file of an unknown kind.
    """
    if is_file(weights):
        if not weights.endswith(SUFFIXES):
            raise UserError(f'weights: "{weights}" is no weights file; expected one ending in {", ".join(SUFFIXES)}')
    elif weights != "none":
        entry(backbone, weights)


def entry(backbone: str, weights: str = "imagenet") -> Entry:
    """Return the published weights of a network by name.

    `imagenet` is torchvision's IMAGENET1K_V1, or the first set it lists for the few networks without one (vit_h_14 and
    regnet_y_128gf: SWAG); the entry's `tag` says which. For `timm:NAME` it is the only name: timm's own default.

    Raises:
        UserError: unknown network or set.
    """
    require(backbone)
    if backbone.startswith(TIMM):
        return _timm_entry(backbone, weights)
    tags = {w.name: w for w in torchvision.models.get_model_weights(backbone)}
    default = "IMAGENET1K_V1" if "IMAGENET1K_V1" in tags else next(iter(tags))
    weights = default if weights == "imagenet" else weights
    if weights not in tags:
        lookup(dict.fromkeys(["imagenet", "none", *tags]), weights, "weights")
    found: Any = tags[weights]
    preset, name = found.transforms(), found.url.rsplit("/", 1)[1]
    top1 = found.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    return Entry(
        backbone=backbone,
        tag=found.name,
        url=found.url,
        file_name=name,
        size_bytes=round(found.meta["_file_size"] * 2**20),
        sha_prefix=digits_of(name),
        mean=_channels(preset.mean),
        std=_channels(preset.std),
        top1=None if math.isnan(top1) else top1,
        default=found.name == default,
    )


def locate(entry: Entry, weights_dir: Path | None = None) -> Path | None:
    """Return where an entry's file is on this machine, or None; nothing is downloaded.

    Looked for, in this order: in `weights_dir` (or the folder that OCTAVO_WEIGHTS names) torchvision's own file name,
    `NAME-TAG.safetensors`, and for the default set `NAME.safetensors`; then the file name in torch hub's cache.

    Raises:
        UserError: the folder doesn't exist.
        Damaged: its SHA256SUMS can't be read, or lists a file of the entry's that isn't there.
    """
    places = [hub_folder() / entry.file_name]
    folder = weights_dir or (Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None)
    if folder is not None:
        folder = folder.expanduser()
        if not folder.is_dir():
            raise UserError(f"weights: {folder}: no such folder; see --weights-dir and {ENVIRONMENT}")
        _require_listed(entry, folder)
        places[:0] = [folder / name for name in file_names(entry)]
    return next((place for place in places if place.is_file()), None)


def _require_listed(entry: Entry, folder: Path) -> None:
    listed, names = sums_of(folder), file_names(entry)
    lost = next((name for name in names if name in listed), None)
    if lost and not any((folder / name).is_file() for name in names):
        raise Damaged(
            f"{folder / lost}: missing; {SUMS} in its folder lists it; copy the folder again, or take the line out"
        )


def fetch(entry: Entry, weights_dir: Path | None = None, download: bool = True, progress: bool = False) -> Path:
    """Return where an entry's file is, downloaded into torch hub's cache if need be and checked against its hash.

    Args:
        entry: from `entry()`.
        weights_dir: folder looked into first; by default what OCTAVO_WEIGHTS names.
        download: whether the network may be used.
        progress: show torch hub's progress bar on the terminal.

    Raises:
        UserError: neither here nor to be had: the file's name, size, where to get it and where to put it.
    """
    path = locate(entry, weights_dir)
    if path is not None:
        return path
    if not download:
        raise UserError(_instructions(entry, "not on this machine"))
    target = hub_folder() / entry.file_name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.backbone.startswith(TIMM):
            content = save(_timm_download(entry.backbone))
            note_own(target, hashlib.sha256(content).hexdigest())
            write_atomic(target, content)
        else:
            torch.hub.download_url_to_file(entry.url, str(target), entry.sha_prefix or None, progress)
    except Exception as error:  # OSError, a wrong hash, and whatever timm's HTTP library raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(_instructions(entry, f"not on this machine, and the download failed ({reason})")) from error
    return target


def source(
    backbone: str, weights: str, weights_dir: Path | None = None, download: bool = True, progress: bool = False
) -> Path:
    """Return the file that `weights` (a set's name or a path; not `none`) stands for.

    Raises:
        UserError: as `fetch`, or there is no such file.
    """
    if not is_file(weights):
        return fetch(entry(backbone, weights), weights_dir, download, progress)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f'weights: "{weights}": no such file')
    return path


def load_pretrained(
    backbone: Extractor, weights: str, weights_dir: Path | None = None, download: bool = True, progress: bool = False
) -> LoadReport | None:
    """Fill a backbone with what a member's `weights` names; None for `none`, which leaves it random.

    Raises:
        UserError: the file can't be had, is damaged, or doesn't fit. It never stays random silently.
    """
    if weights == "none":
        return None
    path = source(backbone.name, weights, weights_dir, download, progress)
    return load_into(backbone, path)


def gather(
    recipe: Recipe,
    weights_dir: Path | None = None,
    download: bool = True,
    progress: bool = False,
    only: Collection[str] | None = None,
) -> dict[str, Path]:
    """Return the weights file of each network (of those in `only`) that needs one, downloading what is missing.

    Raises:
        UserError: the first that can't be had, with the network's path in the recipe.
    """
    paths = {}
    for i, member in enumerate(recipe.networks):
        if member.weights != "none" and (only is None or member.name in only):
            try:
                paths[member.name] = source(member.extractor, member.weights, weights_dir, download, progress)
            except UserError as error:
                where = f"members[{i}]" if isinstance(member, Member) else "segmenter"
                raise UserError(f"{where}.{error}") from error
    return paths


def normalization(member: Network) -> tuple[Channels, Channels]:
    """Return the mean and standard deviation (R, G, B; pixels in 0–1) that a network's weights expect.

    They belong to the published set; `none` and files of one's own take ImageNet's.

    Raises:
        UserError: unknown network or set.
    """
    if member.weights == "none" or is_file(member.weights):
        return IMAGENET_MEAN, IMAGENET_STD
    found = entry(member.extractor, member.weights)
    return found.mean, found.std


def hub_folder() -> Path:
    """Return the folder in which torch hub keeps downloaded weights, which downloads here go to as well."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def file_names(entry: Entry) -> list[str]:
    """Return the names that an entry's file may have in a folder of weights, the first that is there counts."""
    stem = entry.backbone.replace(":", "-")  # timm-NAME: timm's resnet50 and torchvision's aren't the same weights
    own = [entry.file_name, f"{stem}-{entry.tag}.safetensors"]
    return [*own, f"{stem}.safetensors"] if entry.default else own


def _instructions(entry: Entry, why: str) -> str:
    size = f" ({entry.size_bytes / 1e6:,.0f} MB)" if entry.size_bytes else ""
    return (
        f"weights: {entry.tag} of {entry.backbone} are {why}; get {entry.file_name}{size} from {entry.url} and "
        f"put it into the folder of --weights-dir or {ENVIRONMENT}, or into {hub_folder()}; "
        'weights = "none" begins with random ones'
    )


def _timm_entry(backbone: str, weights: str) -> Entry:
    import timm

    if weights != "imagenet":
        raise UserError(
            f'weights: "{weights}" isn\'t known for {backbone}; use "imagenet", and timm:NAME.TAG to choose a set'
        )
    config = timm.get_pretrained_cfg(backbone.removeprefix(TIMM))
    if config is None or not config.has_weights:
        raise UserError(f'weights: timm has no pretrained weights for "{backbone}"; set weights = "none" or a file')
    hub = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
    url = hub if config.hf_hub_id else str(config.url)  # timm takes them in this order too
    name = backbone.replace(":", "-") + ".safetensors"
    mean, std = _channels(config.mean), _channels(config.std)
    return Entry(backbone, "imagenet", url, name, 0, "", mean, std, None, True)


def _timm_download(backbone: str) -> dict[str, Tensor]:
    import timm

    net = timm.create_model(backbone.removeprefix(TIMM), pretrained=True, num_classes=0)
    return {name: tensor.contiguous() for name, tensor in net.state_dict().items()}


def _channels(values: Any) -> Channels:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
