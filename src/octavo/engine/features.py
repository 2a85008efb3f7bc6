"""Features of a frozen extractor: computed once per image, kept on disk under what made them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from octavo.cache import locked, mark_used, note_facts
from octavo.data.batches import Batch, Source, in_order
from octavo.data.inputs import Inputs, SceneInputs
from octavo.data.render import RENDER
from octavo.engine.feature_file import Computation, FeatureFile, opened
from octavo.engine.graphs import Replayed
from octavo.engine.infer import AT_ONCE, at_once, in_parts
from octavo.errors import UserError
from octavo.keyed import uniform
from octavo.progress import Progress
from octavo.recipe import Member, Train

BATCH = 64
MARK_SECONDS = 60
"""Time after which a computation notes how far it is: the most that is lost when it is killed."""
VIEW_EPOCH = 1_000_000
"""Views are drawn as if in epochs from here on, which no training reaches."""


@dataclass(frozen=True)
class Features:
    """Cached features as a source of batches.

    Attributes:
        stored: float32 [V,N,F], in a file of the cache or in memory; view 0 is the plain one.
        seed: key of which view an image shows in which epoch.
    """

    stored: FeatureFile | np.ndarray
    seed: int

    @property
    def views(self) -> np.ndarray:
        """All of them, float32 [V,N,F]; those of a file are compared with its checksums."""
        return self.stored.whole() if isinstance(self.stored, FeatureFile) else self.stored

    def rows(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return features float32 [B,F] and no sizes; outside training (epoch −1) the plain view's."""
        return self.stored[self.view_of(indices, epoch), indices], np.empty((0, 2), np.int64)

    def view_of(self, indices: np.ndarray, epoch: int) -> np.ndarray:
        """Return which view each image shows in an epoch, int64 [B]; the plain one, 0, outside training (epoch −1)."""
        count = len(self.stored)
        if epoch < 0 or count == 1:
            return np.zeros(len(indices), np.int64)
        return (uniform(self.seed, epoch, indices, n=1)[:, 0] * count).astype(np.int64)


def key_of(**facts: object) -> str:
    """Return a name for the features that these facts make: everything that changes a feature must be among them."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def extractor_facts(
    member: Member, seed: int, size: int, resize: str, sha256: str | None, *, places: bool = False
) -> dict[str, Any]:
    """Return what a frozen extractor of a classifier is.

    Args:
        member: whose extractor.
        seed: of the recipe; random weights depend on it.
        size: side of its input in pixels.
        resize: how an image gets that side.
        sha256: of the file its weights came from; None for random ones.
        places: whether its features are taken before its pooling, see `networks.fold`.
    """
    facts = {
        "backbone": member.backbone,
        "pool": member.pool,
        "weights": sha256 or f"init {seed} {member.name} {member.zero_init_residual}",
        "size": size,
        "resize": resize,
    }
    return facts | {"places": True} if places else facts


def extractor_key(
    facts: Mapping[str, Any],
    fixed: Inputs | SceneInputs,
    train: Train,
    pixels: str,
    device: str,
    threads: int | None = None,
) -> str:
    """Return the name of what a frozen extractor makes of a store of images.

    Args:
        facts: what the extractor is: the network, its weights, its input's size.
        fixed: how images become its input; its augmentation and seed draw all views but the plain one.
        train: how precisely it computes, and how many views there are.
        pixels: the store's digest.
        device: kind of device it computes on.
        threads: how many of them compute on a CPU: the last bits of a small batch depend on it; as now if None.
    """
    processor = (threads or torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())
    side = int(facts.get("size", 0))
    parts = {"at_once": at_once(side, side)} if device == "cpu" and side and at_once(side, side) < AT_ONCE else {}
    views = {"views": train.views, "augment": fixed.augment.model_dump(), "seed": fixed.seed}
    return key_of(
        **facts,
        **parts,
        mean=fixed.mean,
        std=fixed.std,
        pixels=pixels,
        precision=train.precision,
        channels_last=train.channels_last,
        render=RENDER,
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        device=device,
        processor=processor if device == "cpu" else None,
        views=views if train.views > 1 else None,
    )


def found(root: Path, key: str) -> Features | None:
    """Return the features of this key, if they lie whole in the cache; their views aren't told apart by epoch."""
    stored = opened(root / "features" / key)
    if stored is None:
        return None
    mark_used(stored.folder)
    return Features(stored, 0)


def cached(
    root: Path,
    key: str,
    net: nn.Module,
    width: int,
    source: Source,
    indices: np.ndarray,
    total: int,
    ways: list[Callable[[Batch], Tensor]],
    seed: int,
    *,
    device: torch.device,
    bf16: bool,
    progress: Progress,
    data: str = "",
    what: str = "",
    batch: int | None = None,
) -> Features:
    """Return the features of the images at `indices`, from the cache or computed into it.

    A computation that was stopped goes on where it was, two processes never compute the same, and clearing the cache
    leaves out what is being computed.

    Args:
        root: the cache folder.
        key: name of these features, by `key_of`.
        net: the extractor, images [B,3,S,S] → [B,F], in eval mode.
        width: F.
        source: stored pixels.
        indices: int64 [n], ascending, which of the `total` images are wanted; rows of the others stay zero.
        total: N.
        ways: one function a view, from a batch to the network's input.
        seed: see `Features`.
        device: where to compute.
        bf16: compute in bfloat16; features are kept in float32.
        progress: told after every batch.
        data: the images' own folder, for `octavo cache` to show.
        what: these features in a few words, for the same.
        batch: images computed at once, `BATCH` by default; one and the same for one key.
    """
    folder = root / "features" / key
    with locked(root, f"features-{key}"):
        stored = opened(folder)
        if stored is None:
            folder.mkdir(parents=True, exist_ok=True)
            note_facts(folder, source=data, images=len(indices), what=what)
            _compute(
                folder, net, (len(ways), total, width), source, indices, ways, device, bf16, progress, batch or BATCH
            )
            stored = FeatureFile(folder)
        mark_used(folder)
        return Features(stored, seed)


def _compute(
    folder: Path,
    net: nn.Module,
    shape: tuple[int, int, int],
    source: Source,
    indices: np.ndarray,
    ways: list[Callable[[Batch], Tensor]],
    device: torch.device,
    bf16: bool,
    progress: Progress,
    size: int,
) -> None:
    out = Computation(folder, shape)
    loader = in_order(source, indices, np.zeros(shape[1], np.int64), size)
    replayed = Replayed(net.to(device).eval())
    total, count = len(loader) * len(ways), 0
    with _marks(out) as reached:
        for view, way in enumerate(ways):
            for batch in loader if count + len(loader) > out.batches else ():
                count += 1
                if count <= out.batches:
                    continue
                out.array[view, batch.indices] = _features(replayed, way, batch, device, bf16)
                reached(count, view, int(batch.indices[-1]))
                progress("features", count, total, f"view {view + 1}/{len(ways)}" if len(ways) > 1 else "")
            count = max(count, (view + 1) * len(loader))
    out.finish()


@contextmanager
def _marks(out: Computation) -> Iterator[Callable[[int, int, int], None]]:
    """Give a function to tell which batch, view and image `out` has come to: noted now and then, and at a stop."""
    reached, marked, since = (0, 0, 0), (0, 0, 0), time.monotonic()

    def mark() -> None:
        nonlocal marked, since
        out.mark(*reached)
        marked, since = reached, time.monotonic()

    def tell(*place: int) -> None:
        nonlocal reached
        reached = place
        if time.monotonic() - since >= MARK_SECONDS:
            mark()

    try:
        yield tell
    except Exception:
        if reached > marked:
            with suppress(OSError, UserError):  # what stopped it is worth more to the user than that this failed too
                mark()
        raise


@torch.inference_mode()
def _features(
    net: Callable[[Tensor], Tensor], way: Callable[[Batch], Tensor], batch: Batch, device: torch.device, bf16: bool
) -> np.ndarray:
    batch = batch.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        x = way(batch)
        found = in_parts(net, x, most=len(x)) if isinstance(x, Tensor) else net(x)
    return found.float().cpu().numpy()
