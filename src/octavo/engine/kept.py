"""Features that a job's frozen network makes of all its images: computed once, and known by what made them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from octavo.cache import source_of
from octavo.data.batches import Batch, PixelRows
from octavo.data.inputs import Inputs, SceneInputs
from octavo.engine.features import Features, cached, extractor_key
from octavo.engine.job import Job
from octavo.progress import Progress


def kept_features(
    job: Job,
    body: nn.Module,
    width: int,
    ways: Sequence[Callable[[Batch], Tensor]],
    fixed: Inputs | SceneInputs,
    facts: dict[str, Any],
    seed: int,
    progress: Progress,
    *,
    what: str,
    batch: int | None = None,
) -> Features:
    """Return the features of all images of a job, from the cache or computed into it.

    Args:
        job: whose images they are, and on what and how precisely it computes.
        body: the frozen network on the job's device, images → [B,F].
        width: F.
        ways: one function a view, from a batch to the network's input; the first is the plain one.
        fixed: how images become that input; its augmentation and seed draw the other views.
        facts: what else changes a feature: the network, its weights, its input's size.
        seed: key of which view an image shows in which epoch.
        progress: told after every batch.
        what: the features in a few words, for `octavo cache` to show.
        batch: images computed at once.
    """
    return cached(
        job.cache,
        extractor_key(facts, fixed, job.train, job.pixels.digest, job.hardware.kind),
        body,
        width,
        PixelRows(job.pixels),
        np.setdiff1d(np.arange(len(job.pixels)), np.array(sorted(job.pixels.broken), np.int64)),
        len(job.pixels),
        list(ways),
        seed,
        device=job.hardware.device,
        bf16=job.bf16,
        progress=progress,
        data=source_of(job.pixels.folder),
        what=what,
        batch=batch,
    )
