"""How a segmenter is trained: whole images or crops, the masks it draws on the way, its confusion counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from octavo.data.batches import Batch, MaskRows, PixelRows
from octavo.data.inputs import SceneInputs
from octavo.data.masks import paint
from octavo.engine.cross_entropy import balanced
from octavo.engine.estimate import Anatomy
from octavo.engine.fit import reestimate
from octavo.engine.goals import SegmentGoal, enlarged
from octavo.engine.job import Job, Prepared
from octavo.engine.losses import make_loss
from octavo.engine.member_folder import MemberFolder
from octavo.errors import UserError
from octavo.networks import weights
from octavo.networks.backbone import parameters
from octavo.networks.build import build_segmenter, start_segmenter
from octavo.networks.segmenter import SegmenterNet
from octavo.numbers.confusion import confusion, confusions_of
from octavo.numbers.rules import RULES, headline_rule
from octavo.progress import Progress, silent
from octavo.recipe import Segmenter, SegmentRecipe
from octavo.tasks.segmentation.pyramid_cache import PyramidHead, PyramidInputs, pyramid_features
from octavo.tasks.segmentation.stages import StageMasks, chosen_images

SCORE, SORTED = 10e-9, 60e-9
"""Seconds that a CPU takes for one score of a mask (a pixel of one class) in the loss and back, and for one that the
Lovász loss sorts beside that; a GPU takes next to nothing."""


def prepare(job: Job, progress: Progress) -> Prepared:
    """Return the segmenter as its training starts, with its images and masks: stored, or as a cached pyramid."""
    recipe, spec, masks = _own(job)
    train = job.train
    net, origin = start_segmenter(spec, recipe, job.classes, job.weights_dir)
    inputs = inputs_of(job)
    loss = recipe.loss
    goal = SegmentGoal(
        make_loss(loss, job.classes, class_weights(job, progress), train.label_smoothing),
        _table(job).names,
        confusions_of,
        partial(_score, headline_rule(recipe.measure.rule, _table(job).scored), _table(job).scored),
        plain=loss.cross_entropy == 1 and not (loss.focal or loss.dice or loss.lovasz),
    )
    source, ways, trained = PixelRows(job.pixels), inputs, net
    if train.mode == "frozen" and train.cache:
        size = one_size(job.pixels.sizes)
        source, shapes = pyramid_features(job, net, inputs, size, progress)
        ways, trained = PyramidInputs(inputs, source, size, job.pixels.sizes), PyramidHead(net, shapes, size)
    batch = whole_batch(recipe, job.pixels.sizes, masks.sizes) if trained is net else train.batch_size
    return Prepared(net, trained, source, ways, goal, masks, batch, origin)


def inputs_of(job: Job) -> SceneInputs:
    """Return how stored images and masks become the segmenter's input."""
    recipe, spec, masks = _own(job)
    plain = recipe.data.normalize == "none"
    mean, std = ((0.0,) * 3, (1.0,) * 3) if plain else weights.normalization(spec)
    return SceneInputs(
        recipe.data.size, mean, std, recipe.augment, job.seed, masks.sizes, channels_last=job.train.channels_last
    )


def whole_batch(recipe: SegmentRecipe, sizes: np.ndarray, mask_sizes: np.ndarray) -> int:
    """Return how many whole images make a batch: with no more pixels than one of training, and one if sizes differ.

    `sizes` and `mask_sizes` int [N,2] are those of the images and masks, zero where one couldn't be decoded.
    """
    if not (uniform(sizes) and uniform(mask_sizes)):
        return 1
    trained = recipe.train.batch_size * recipe.data.size[0] * recipe.data.size[1]
    return max(1, min(recipe.train.batch_size, trained // int(sizes.prod(axis=1).max())))


def uniform(sizes: np.ndarray) -> bool:
    """Return whether all that could be decoded are of one size; `sizes` int [N,2], zero where it couldn't."""
    return len(np.unique(sizes[sizes[:, 0] > 0], axis=0)) == 1


def one_size(found: np.ndarray) -> tuple[int, int]:
    """Return height and width that all images have; `found` int [N,2], zero where one couldn't be decoded.

    Raises:
        UserError: they have several sizes.
    """
    sizes = np.unique(found[found[:, 0] > 0], axis=0)
    if len(sizes) > 1:
        raise UserError(
            f'train.mode: "frozen" with train.cache needs images of one size; these have {len(sizes)}, such as '
            f"{sizes[0][1]}×{sizes[0][0]} and {sizes[-1][1]}×{sizes[-1][0]}; set train.cache = false"
        )
    return int(sizes[0][0]), int(sizes[0][1])


def callbacks(job: Job, prepared: Prepared, folder: MemberFolder) -> Sequence[Callback]:
    """Return what keeps predicted masks by stage of the training."""
    recipe, _, _ = _own(job)
    images = chosen_images(recipe.stages, job.files, job.parts["val"])
    if not len(images) or not recipe.stage_epochs:
        return ()
    predict = partial(_on_the_way, job, prepared, images)
    return (StageMasks(recipe.stage_epochs, predict, partial(_write_stage, job, folder), folder.keep_masks),)


def _on_the_way(job: Job, prepared: Prepared, images: np.ndarray, net: nn.Module) -> Iterator[tuple[int, np.ndarray]]:
    """Yield what `predicted` does of a network that is still trained, by the statistics that it would end with."""
    kept = {name: buffer.clone() for name, buffer in net.named_buffers()}
    reestimate(job, prepared, net, silent)
    try:
        yield from predicted(job, prepared, net.eval(), indices=images)
    finally:
        for name, buffer in net.named_buffers():
            buffer.copy_(kept[name])


def outputs_of(
    job: Job, prepared: Prepared, best: nn.Module, folder: MemberFolder, progress: Progress
) -> Mapping[str, np.ndarray]:
    """Return confusion counts int32 [n,C+1,C+1] of the images of every part but the one that was trained on.

    The masks of the validation images are written, and those of the chosen images as the stage `best`.
    """
    recipe, _, masks = _own(job)
    table, counts = _table(job), {}
    wanted = recipe.stages.at is None or "best" in recipe.stages.at
    chosen = set(chosen_images(recipe.stages, job.files, job.parts["val"]).tolist()) if wanted else set()
    for part, indices in job.parts.items():
        rows = []
        if part == "fit" or not len(indices):
            continue
        for index, ids in predicted(job, prepared, best, indices=indices):
            truth = masks[np.array([index])][0]
            rows.append(confusion(ids, truth, job.classes))
            if part == "val":
                image = paint(ids, table)
                folder.write_mask(folder.predicted_file(part, job.names[index]), image)
                if index in chosen:
                    folder.write_mask(folder.stage_file("best", job.names[index]), image)
            progress(f"{job.member.name}: {part}", len(rows), len(indices))
        counts[part] = np.stack(rows).astype(np.int32)
    return counts


@torch.inference_mode()
def predicted(job: Job, prepared: Prepared, net: nn.Module, *, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the place of each image and its predicted ids, uint8 [H,W] in the size of its mask; `net` in eval mode.

    Raises:
        UserError: outputs that aren't finite.
    """
    device = job.hardware.device
    for batch in prepared.in_order(indices):
        with torch.autocast(device.type, torch.bfloat16, enabled=job.bf16):
            logits = net(prepared.ways.plain(batch.to(device))).float()
        if not torch.isfinite(logits).all():
            raise UserError(
                f"{job.member.name}: its outputs are not finite, its training diverged; lower train.lr, or set "
                "train.clip_norm = 1"
            )
        yield from zip(batch.indices.tolist(), _ids(logits, batch), strict=True)


def _ids(logits: Tensor, batch: Batch) -> np.ndarray:
    size = (batch.labels.shape[1], batch.labels.shape[2])
    return enlarged(logits, size).argmax(1).to(torch.uint8).cpu().numpy()


def facts_of(job: Job, prepared: Prepared) -> dict[str, Any]:
    """Return what must be known of a trained segmenter to use it."""
    recipe, spec, _ = _own(job)
    inputs, net = inputs_of(job), prepared.net
    assert isinstance(net, SegmenterNet)
    return {
        "network": spec.network,
        "backbone": spec.extractor,
        "classes": job.classes,
        "scale": recipe.data.scale,
        "mean": inputs.mean,
        "std": inputs.std,
        "parameters": {"backbone": parameters(net.backbone), "head": parameters(net.head)},
    }


def class_weights(job: Job, progress: Progress) -> Tensor | None:
    """Return float32 [C], or None: given, or by the classes' shares of the pixels that are trained on."""
    given = job.train.class_weights
    if given == "none":
        return None
    if given != "balanced":
        return torch.tensor(given, dtype=torch.float32)
    _, _, masks = _own(job)
    counts = np.zeros(256, np.int64)
    for done, index in enumerate(job.parts["fit"].tolist(), 1):
        counts += np.bincount(masks.pixels.image(index).ravel(), minlength=256)
        progress("count pixels", done, len(job.parts["fit"]))
    return balanced(counts[: job.classes])


def _score(rule: str, scored: np.ndarray, counts: Tensor) -> tuple[float, np.ndarray]:
    """Return the mean IoU by a rule's own counting over the classes that occur, of summed counts [C+1,C+1], and each's.

    Over those that occur, since a held-out share may lack a class, where some rules have no number at all.
    """
    chosen, table = RULES[rule], counts.numpy()[None]
    occur = chosen.count(table).union[0] > 0
    each = np.where(occur, chosen.score(table, scored).per_class, np.nan)
    ious = each[occur & scored if chosen.scored_alone else occur]
    return (float(np.nanmean(ious)) if np.isfinite(ious).any() else 0.0), each


def _write_stage(job: Job, folder: MemberFolder, epoch: int, index: int, ids: np.ndarray) -> None:
    folder.write_mask(folder.stage_file(epoch, job.names[index]), paint(ids, _table(job)))


def _table(job: Job) -> Any:
    assert job.table is not None
    return job.table


def _own(job: Job) -> tuple[SegmentRecipe, Segmenter, MaskRows]:
    assert isinstance(job.recipe, SegmentRecipe) and isinstance(job.member, Segmenter)
    assert isinstance(job.labels, MaskRows)
    return job.recipe, job.member, job.labels


def anatomy_of(recipe: SegmentRecipe, spec: Segmenter, classes: int, typical: tuple[int, int] | None) -> Anatomy:
    """Return how a segmenter is built; it is evaluated on whole images of a `typical` height and width in pixels."""
    net = build_segmenter(spec, recipe, classes, "meta").train()
    height, width = recipe.data.size
    area = max(1.0, typical[0] * typical[1] * recipe.data.scale**2 / (height * width)) if typical else 1.0
    scores = (SCORE + SORTED * (recipe.loss.lovasz > 0)) * height * width * classes

    def decode(maps: Any) -> Tensor:
        return net.decode(maps, (height, width))

    return Anatomy(net, net.features, decode, net.head, (height, width), spec.name, area, batch=1, scores=scores)


def typical_size(recipe: SegmentRecipe, sizes: np.ndarray) -> tuple[int, int]:
    """Return height and width of a typical image in its file; `sizes` int [N,2] are those of the stored images."""
    height, width = np.median(sizes[sizes[:, 0] > 0], axis=0) / recipe.data.scale
    return round(float(height)), round(float(width))
