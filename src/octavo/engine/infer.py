"""A network's answers on stored images, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized

import numpy as np
import torch
from torch import Tensor, nn

from octavo.data.batches import Batch
from octavo.progress import Progress, silent


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
        net: from a network's input to logits [B,C] or features [B,F].
        way: from a batch to the network's input.
        batches: loader or list of batches.
        device: where to compute.
        bf16: compute in bfloat16 where it is safe.
        progress: told after every batch, as `what`.
    """
    parts = []
    total = len(batches) if isinstance(batches, Sized) else 0
    for done, batch in enumerate(batches, 1):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            parts.append(net(way(batch.to(device))).float().cpu().numpy())
        progress(what, done, total)
    return np.concatenate(parts)


def ready(net: nn.Module, device: torch.device, channels_last: bool = False) -> nn.Module:
    """Return `net` on `device`, in eval mode and in the memory format asked for."""
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return net.to(device).eval()
