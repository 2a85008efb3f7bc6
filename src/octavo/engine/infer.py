"""A network's answers on stored images, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized

import numpy as np
import torch
from torch import Tensor, nn

from octavo.data.batches import Batch
from octavo.errors import UserError
from octavo.progress import Progress, silent

AT_ONCE = 64
"""Images that a network is given at once; a larger batch goes through it in parts."""
_PIXELS = 8 * 224**2
"""Pixels that a network on a CPU is given at once, if not a single image has more."""
Part = Callable[[Tensor], Tensor]
"""An extractor, from a network's input to features, or a head, from these to logits."""


def at_once(height: int, width: int) -> int:
    """Return how many images a network on a CPU is given at once, so that it is fast.

    Large images are fewer: memory for the outputs of many is had anew from the system in every layer. (Intel Xeon,
    ResNet-152, 224 px: 5.8 images a second 64 at a time, 9.3 eight at a time.)
    """
    return min(AT_ONCE, max(1, _PIXELS // (height * width)))


def in_parts(part: Part, x: Tensor, most: int = AT_ONCE) -> Tensor:
    """Return what a part of a network makes of a batch, [B,…], given to it a few images at a time.

    What one image gets must not depend on the others.

    Args:
        part: of a network.
        x: what it takes.
        most: images at once; of pictures on a CPU fewer, see `at_once`.
    """
    if x.device.type == "cpu" and x.dim() == 4:
        most = min(most, at_once(*x.shape[2:]))
        most = -(-len(x) // max(1, -(-len(x) // most)))  # parts of about one size
    return torch.cat([part(rows) for rows in x.split(most)]) if len(x) > most else part(x)


class Parts:
    """Computes batches whole as long as memory bears it, and in halves, quarters and so on once it doesn't."""

    def __init__(self) -> None:
        """Start with batches as they come; what was found to fit holds for later batches."""
        self.most = 0

    def __call__(self, compute: Callable[[Batch], np.ndarray], batch: Batch) -> np.ndarray:
        """Return `compute` of a batch, [B,…], a row an image; what one image gets must not depend on the others.

        Raises:
            UserError: there isn't the memory for a single image.
        """
        count = len(batch.indices)
        while True:
            size = min(self.most or count, count)
            starts = range(0, count, size)
            try:
                if size == count:
                    return compute(batch)
                return np.concatenate([compute(batch.some(np.arange(count)[at : at + size])) for at in starts])
            except RuntimeError as error:
                from pytorch_lightning.utilities.memory import is_oom_error  # here, as its import takes a second

                if not is_oom_error(error):
                    raise
            # Outside of `except`, whose traceback holds what was computed.
            torch.cuda.empty_cache()
            if size == 1:
                raise UserError("out of memory with one image at a time; take a smaller network, or --device cpu")
            self.most = (size + 1) // 2


@torch.inference_mode()
def outputs(
    net: Callable[[Tensor], Tensor],
    way: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    device: torch.device,
    *,
    bf16: bool = False,
    progress: Progress = silent,
    what: str = "evaluate",
) -> np.ndarray:
    """Return what `net` (in eval mode, on `device`) says of every image, float32 [n,…], in the order of `batches`.

    Args:
        net: from a network's input to logits [B,C] or features [B,F]; a `Replayed` is faster on a GPU.
        way: from a batch to the network's input.
        batches: loader or list of batches.
        device: where to compute.
        bf16: compute in bfloat16 where it is safe.
        progress: told after every batch, as `what`.

    Raises:
        UserError: there isn't the memory for a single image; a batch that memory doesn't bear is computed in parts.
    """

    def compute(batch: Batch) -> np.ndarray:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            x = way(batch.to(device))
            return in_parts(net, x, most=len(x)).float().cpu().numpy()

    return on_all(compute, batches, progress=progress, what=what)


def on_all(
    compute: Callable[[Batch], np.ndarray], batches: Iterable[Batch], *, progress: Progress = silent, what: str
) -> np.ndarray:
    """Return `compute`, a row an image, of all batches one below the other, [n,…]; see `Parts`."""
    found, fitting = [], Parts()
    total = len(batches) if isinstance(batches, Sized) else 0
    for done, batch in enumerate(batches, 1):
        found.append(fitting(compute, batch))
        progress(what, done, total)
    return np.concatenate(found)


def ready(net: nn.Module, device: torch.device, channels_last: bool = False) -> nn.Module:
    """Return `net` on `device`, in eval mode and in the memory format asked for."""
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return net.to(device).eval()
