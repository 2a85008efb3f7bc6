"""Weights files into networks: read without running code, checked name by name, cast to the network's precision."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from octavo.errors import Damaged, UserError
from octavo.integrity import checking, hashing, sha256_of
from octavo.networks.backbone import Backbone, whole
from octavo.networks.checksums import require_as_expected

DIGEST = "tensors_sha256"
"""Key of a safetensors file's metadata that holds the SHA-256 of its tensors, sorted by name."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_RENAMES = (
    # Published DenseNet files name the layers norm.1, conv.1, …: torchvision's `densenet._load_state_dict` renames too.
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    # Published ViT files are older than torchvision's MLP block (pytorch/vision#6053).
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)
_POSITIONS = "encoder.pos_embedding"


@dataclass(frozen=True)
class LoadReport:
    """Where a network's weights came from: the file, its sha256, and how many tensors were taken and left.

    `notes` say in plain sentences what else there is to know, such as which layers start from random weights.
    """

    path: Path
    sha256: str
    loaded: int
    unused: int
    notes: tuple[str, ...] = ()


class Extractor(Protocol):
    """What published weights fill: a backbone, a pyramid or a segmentation network's backbone."""

    name: str
    """Name of the classification network that it is a part of."""
    net: Any
    """The part, an nn.Module with the network's own parameter names."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a weights file, 64 hexadecimal digits, compared with what it should be.

    Raises:
        Damaged: it isn't what SHA256SUMS beside it, or its name, says.
    """
    found = sha256_of(path)
    require_as_expected(path, found)
    return found


def digest(net: nn.Module) -> str:
    """Return the SHA-256 of all tensors of a network: what it is, however it came."""
    return tensors_digest(net.state_dict())


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors in their order: names, shapes, types and values."""
    total = hashlib.sha256()
    for name, tensor in tensors.items():
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return what `read_tensors` does, and the file's SHA-256, compared with what it should be; it is read once.

    Raises:
        UserError: as `read_tensors`.
        Damaged: it isn't what SHA256SUMS beside it, or its name, says.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    with hashing(path) as found:
        try:
            tensors = read_tensors(path)
        except UserError:
            require_as_expected(path, found.result())  # says more, where it is damaged
            raise
    require_as_expected(path, found.result())
    return tensors, found.result()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors`, `.pth` or `.pt` file by name, on the CPU, without running code in it.

    A checkpoint's `state_dict` or `model` part is taken, a `module.` prefix (DistributedDataParallel) is cut off, and
    torchvision's older names are brought up to date.

    Raises:
        UserError: no such file, or one that holds no weights that can be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    content = load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    tensors = {str(k): v for k, v in _unwrapped(content).items() if isinstance(v, Tensor) and k != "n_averaged"}
    if not tensors:
        raise UserError(
            f"{path}: holds no named tensors; expected a state dict, as torch.save(model.state_dict()) writes"
        )
    for prefix in _PREFIXES:
        if all(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return {_renamed(k): v for k, v in tensors.items()}


def load_into(backbone: Extractor, path: Path) -> LoadReport:
    """Fill a backbone from a file: torchvision's names (classifier or not), or a network saved by octavo.

    Every parameter and buffer must be there in its shape (batch norm's `num_batches_tracked` may be absent), and only
    the classifier and the auxiliary heads that the backbone dropped may be left over. ViT's position embeddings are
    interpolated to the backbone's input size.

    Raises:
        UserError: the file can't be read, or the first tensor that is missing, odd or left over.
    """
    found, content = read_weights(path)
    tensors = backbone_part(found)
    if isinstance(backbone.net, VisionTransformer):
        _interpolate(tensors, backbone, path)
    expected = backbone.net.state_dict()
    original = whole(backbone.name, backbone.size) if isinstance(backbone, Backbone) else whole(backbone.name)
    spare = {k.split(".")[0] for k in original.state_dict().keys() - expected.keys()}
    # A fine-tuned file may have another head in the classifier's place, so the first part of the name decides.
    _fill(expected, tensors, spare, f'{path}: not weights of "{backbone.name}"')
    used = sum(k in tensors for k in expected)
    return LoadReport(path, content, used, len(found) - used)


def load_matching(net: nn.Module, path: Path) -> LoadReport:
    """Take every tensor of a file that has a name and a shape of the network's; the rest of the network stays.

    Raises:
        UserError: the file can't be read, nothing in it fits, or a tensor that fits holds no finite numbers.
    """
    (found, content), expected = read_weights(path), net.state_dict()
    fits = {k: v for k, v in found.items() if k in expected and v.shape == expected[k].shape}
    if not fits:
        raise UserError(f"{path}: can't be started from: no tensor in it has a name and a shape of this network's")
    what = f"{path}: can't be started from"
    _fill({k: expected[k] for k in fits}, fits, (), what)
    note = f"{len(fits)} of the network's {len(expected)} tensors start from {path}"
    rest = [k for k in expected if k not in fits and not k.endswith("num_batches_tracked")]
    if rest:
        note += f"; these start anew: {', '.join(dict.fromkeys(k.rpartition('.')[0] for k in rest))}"
    return LoadReport(path, content, len(fits), len(found) - len(fits), (note,))


def load_member(net: nn.Module, path: Path, sha256: str | None = None, remedy: str = "") -> None:
    """Fill a whole member, head included, from a file of its own `state_dict()`.

    Args:
        net: the member.
        path: the file.
        sha256: what its content should hash to; None: that isn't known.
        remedy: what to do about a file that holds something else.

    Raises:
        UserError: the file can't be read, or the first tensor that is missing, odd or left over.
        Damaged: it isn't the file that was written.
    """
    with checking(path, sha256, remedy):
        _fill(net.state_dict(), read_tensors(path), (), f"{path}: not weights of this member")


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        UserError: the file is damaged or something else.
        Damaged: it holds a checksum of its tensors, and others.
    """
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            expected = (file.metadata() or {}).get(DIGEST)
    except Exception as error:  # the library's own exception and any OSError: all mean the file can't be read
        raise UserError(f"{path}: not a whole safetensors file ({_line(error)}); get it again") from error
    if expected is not None and sealing(tensors)[DIGEST] != expected:
        raise Damaged(f"{path}: damaged: its tensors aren't those that were written; get it again")
    return tensors


def sealing(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return metadata by which `load_safetensors` knows these tensors again."""
    return {DIGEST: tensors_digest(dict(sorted(tensors.items())))}


def _load_pickle(path: Path) -> Any:
    try:
        # Namespace: torchvision's own training scripts put their options beside the weights; it runs no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch's reader raise nearly anything
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise UserError(
                f"{path}: holds more than weights ({code[1]}), which could run code and isn't loaded; "
                "save model.state_dict() alone"
            ) from error
        raise UserError(f"{path}: not a whole PyTorch weights file ({_line(error)}); get it again") from error


def _line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    state: Any = content if isinstance(content, Mapping) else {}
    return next((state[name] for name in _WRAPPERS if isinstance(state.get(name), Mapping)), state)


def _renamed(name: str) -> str:
    for pattern, new in _RENAMES:
        name = pattern.sub(new, name)
    return name


def backbone_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the extractor's tensors under torchvision's names, whether or not octavo saved them with a head."""
    for prefix in ("backbone.net.", "net."):
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if part:
            return part
    return dict(tensors)


def _interpolate(tensors: dict[str, Tensor], backbone: Extractor, path: Path) -> None:
    net = backbone.net
    found = tensors.get(_POSITIONS)
    if found is None or not isinstance(net, VisionTransformer) or found.shape == net.encoder.pos_embedding.shape:
        return
    if (
        found.ndim != 3
        or found.shape[-1] != net.hidden_dim
        or round((found.shape[1] - 1) ** 0.5) ** 2 != found.shape[1] - 1
    ):
        raise UserError(f'{path}: not weights of "{backbone.name}": "{_POSITIONS}" is {_shape(found)}')
    state: Any = {_POSITIONS: found.float()}
    tensors[_POSITIONS] = interpolate_embeddings(net.image_size, net.patch_size, state)[_POSITIONS]


def _fill(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], spare: Iterable[str], what: str) -> None:
    for name, target in expected.items():
        if name not in tensors:
            if name.endswith("num_batches_tracked"):
                continue
            raise UserError(f'{what}: "{name}" is missing')
        _check(name, target, tensors[name], what)
    spare = set(spare)
    left = sorted(name for name in tensors.keys() - expected.keys() if name.split(".")[0] not in spare)
    if left:
        raise UserError(f'{what}: it has no "{left[0]}"')
    with torch.no_grad():
        for name, target in expected.items():
            if name in tensors:
                target.copy_(tensors[name])


def _check(name: str, target: Tensor, found: Tensor, what: str) -> None:
    if found.shape != target.shape:
        raise UserError(f'{what}: "{name}" is {_shape(found)}, expected {_shape(target)}')
    if target.is_floating_point() and not found.is_floating_point():
        raise UserError(f'{what}: "{name}" holds {str(found.dtype).removeprefix("torch.")}, expected floating point')
    if found.is_floating_point() and not torch.isfinite(found).all():
        raise UserError(f'{what}: "{name}" holds NaN or infinite numbers')


def _shape(tensor: Tensor) -> str:
    return "×".join(str(n) for n in tensor.shape) or "a single number"
