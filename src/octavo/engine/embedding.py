"""What a layer of a trained member says of images, computed once and kept in the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from octavo.data.batches import PixelRows, in_order
from octavo.data.store import Pixels
from octavo.engine.estimate import pass_seconds
from octavo.engine.features import Features, extractor_facts, extractor_key, found
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.restore import Trained, inputs_of, restore
from octavo.errors import UserError
from octavo.integrity import SEAL
from octavo.keyed import seed_of
from octavo.networks.build import build_member
from octavo.networks.fold import Pooling, pooling_of
from octavo.networks.member import MemberNet
from octavo.progress import Progress, silent

BATCH = 64
_AT_ONCE = 1024  # features that go through a head at once
_ROOM = 1 << 29  # bytes of a layer's outputs


def default_layer(run: RunFolder) -> str:
    """Return the reference's layer as `MEMBER.LAYER`: the head's first Linear of the first vgg16, or first member.

    `vgg16.head.0`, 256 numbers before the ReLU, in the reference's own recipe; a head that begins with standardisation
    or dropout has it further up.
    """
    recipe = run.ensemble_recipe
    member = next((m for m in recipe.members if m.backbone == "vgg16"), recipe.members[0])
    head = build_member(member, recipe, len(run.manifest["classes"]), "meta").head
    return f"{member.name}.head.{next(name for name, layer in head.named_modules() if isinstance(layer, nn.Linear))}"


def split_layer(names: Sequence[str], layer: str) -> tuple[str, str]:
    """Return the member's name, one of `names`, and the layer's name of `MEMBER.LAYER`.

    Raises:
        UserError: it names no member.
    """
    name = max((n for n in names if layer.startswith(f"{n}.")), key=len, default="")
    if not name:
        raise UserError(f'layer: "{layer}" names no member; expected MEMBER.LAYER with one of: {", ".join(names)}')
    return name, layer.removeprefix(f"{name}.")


def _names(run: RunFolder) -> list[str]:
    return [member.name for member in run.ensemble_recipe.members]


def layer_outputs(
    run: RunFolder,
    layer: str,
    pixels: Callable[[], Pixels],
    rows: np.ndarray,
    *,
    cache: Path,
    device: str = "auto",
    progress: Progress = silent,
) -> np.ndarray:
    """Return one layer's output on stored images, flattened, float32 [n,F]; kept as `explained/features-LAYER`.

    A layer in the head of a frozen member is taken from the cached features that it was trained on, while they are
    there.

    Args:
        run: a finished run.
        layer: `MEMBER.LAYER`.
        pixels: gives the stored images of all files; not asked where the outputs are at hand.
        rows: int64 [n], which of them.
        cache: folder of cached features.
        device: where to compute: `auto`, `cpu`, `cuda` or `mps`.
        progress: told after every batch.

    Raises:
        UserError: no such member or layer, a member that isn't trained, or a layer whose output is too large to keep.
    """
    name, below = split_layer(_names(run), layer)

    def make() -> np.ndarray:
        hardware = find(device)
        trained = restore(run, name, hardware.device)
        features = _frozen(run, name, hardware.kind, cache) if below.startswith("head.") else None
        if features is not None:
            return _by_head(trained, below, features.rows(rows, -1)[0], _pooling(run, name))
        return _computed(trained, below, pixels(), rows, progress)

    return kept(run, f"features-{layer}", _facts(layer, rows), make)


def layer_seconds(run: RunFolder, layer: str, rows: np.ndarray, *, cache: Path, device: str = "auto") -> float:
    """Return about how long `layer_outputs` would run a network; 0 where the outputs, or all it needs, are at hand.

    Raises:
        UserError: no such member, or one that isn't trained.
    """
    name, below = split_layer(_names(run), layer)
    if _read(run, f"features-{layer}", _facts(layer, rows)) is not None:
        return 0.0
    hardware = find(device)
    if below.startswith("head.") and _frozen(run, name, hardware.kind, cache) is not None:
        return 0.0
    recipe = run.ensemble_recipe
    member = next(m for m in recipe.members if m.name == name)
    return pass_seconds(recipe, member, len(run.manifest["classes"]), len(rows), hardware)


def _facts(layer: str, rows: np.ndarray) -> dict[str, str]:
    return {"layer": layer, "images": digest_of(rows)}


def kept(run: RunFolder, name: str, facts: Mapping[str, str], make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return an array that a look needs: as it is kept in `explained/NAME.safetensors`, or made now and kept there.

    Args:
        run: where it is kept.
        name: of the file, without ending.
        facts: all that it was made from; the run's own weights and images, which never change, go without saying.
        make: makes it.
    """
    if (found := _read(run, name, facts)) is not None:
        return found
    array = np.ascontiguousarray(make())
    hashed = {**facts, SEAL: _seal(run, name, array)}
    run.write_explained(f"{name}.safetensors", save({"array": array}, metadata=hashed))
    return array


def _read(run: RunFolder, name: str, facts: Mapping[str, str]) -> np.ndarray | None:
    """Return what is kept, if it was made from these facts; None where it isn't there yet, or damaged."""
    try:
        found, whole = _opened(run, name)
    except (OSError, SafetensorError):
        return None
    known, array = found
    usable = not run.on_disk.hashed if whole is None else whole
    return array if known == dict(facts) and usable else None


def is_whole(run: RunFolder, name: str) -> bool | None:
    """Tell whether an array that `kept` left is as it was written; None of one that older versions wrote."""
    try:
        return _opened(run, name)[1]
    except (OSError, SafetensorError):
        return False


def _opened(run: RunFolder, name: str) -> tuple[tuple[dict[str, str], np.ndarray], bool | None]:
    with safe_open(run.explained(f"{name}.safetensors"), framework="np") as file:
        known, array = dict(file.metadata() or {}), file.get_tensor("array")
    seal = known.pop(SEAL, None)  # older versions wrote none
    return (known, array), None if seal is None else seal == _seal(run, name, array)


def _seal(run: RunFolder, name: str, array: np.ndarray) -> str:
    """Return the SHA-256 of an array that is kept in a run under a name."""
    digest = hashlib.sha256(f"{run.on_disk.identity} {name}\0".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def digest_of(rows: np.ndarray) -> str:
    """Return a short name for a choice of images, int64 [n]."""
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:20]


def _pooling(run: RunFolder, name: str) -> Pooling | None:
    recipe = run.ensemble_recipe
    member = next(m for m in recipe.members if m.name == name)
    return pooling_of(member.backbone, recipe.size_of(member), member.pool)


def _frozen(run: RunFolder, name: str, kind: str, cache: Path) -> Features | None:
    """Return what is kept of a frozen member's extractor for all images, if it is in the cache."""
    recipe = run.ensemble_recipe
    member = next(m for m in recipe.members if m.name == name)
    train = recipe.train_of(member)
    if train.mode != "frozen" or not train.cache:
        return None
    known = run.member(name).facts()
    start, inputs = known.get("weights"), inputs_of(known, train)
    weights, places = start["sha256"] if start else None, _pooling(run, name) is not None
    facts = extractor_facts(member, recipe.seed, inputs.size, inputs.resize, weights, places=places)
    fixed = replace(inputs, augment=recipe.augment, seed=seed_of("views", recipe.seed))
    manifest = run.manifest
    threads = manifest["hardware"]["threads"]
    return found(cache, extractor_key(facts, fixed, train, manifest["data"]["pixels"], kind, threads))


@torch.inference_mode()
def _by_head(trained: Trained, below: str, features: np.ndarray, pooling: Pooling | None) -> np.ndarray:
    """Return the output of a layer of the head for features as they are kept, [n,·], float32 [n,·]."""
    short = MemberNet(nn.Identity(), trained.one.head)  # pyright: ignore[reportArgumentType]
    short.eval()
    parts = []
    for part in np.array_split(features, range(_AT_ONCE, len(features), _AT_ONCE)):
        with torch.autocast(trained.device.type, torch.bfloat16, enabled=trained.bf16):
            kept = torch.from_numpy(part).to(trained.device)
            x = pooling.spread(kept) if pooling else kept
            parts.append(short.features_at(x, below).float().cpu().numpy())
    return np.concatenate(parts)


def _computed(trained: Trained, below: str, pixels: Pixels, rows: np.ndarray, progress: Progress) -> np.ndarray:
    parts: list[np.ndarray] = []
    layer = f"{trained.name}.{below}"
    batches = in_order(PixelRows(pixels), rows, np.zeros(len(pixels), np.int64), BATCH)
    for done, batch in enumerate(batches, 1):
        parts.append(trained.layer(batch, below))
        if not parts[1:] and (room := 4 * parts[0].shape[1] * len(rows)) > _ROOM:
            raise UserError(
                f'layer: "{layer}" gives {parts[0].shape[1]:,} numbers an image, {room / 2**20:,.0f} MiB in all; '
                f"choose a later layer with at most {_ROOM // (4 * len(rows)):,}"
            )
        progress(f"{layer}: images", done, len(batches))
    return np.concatenate(parts)
