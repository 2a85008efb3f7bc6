"""A recipe's images and masks, read, split and stored: what a segmenter is trained on."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from octavo.data import store, torchvision_data
from octavo.data.batches import MaskRows
from octavo.data.doctor import resolve
from octavo.data.masks import MaskDecoder
from octavo.data.pair_division import Shown, divide_pairs
from octavo.data.pairs import Pairs
from octavo.data.pixels import probe
from octavo.engine.identity import IMAGE_COLUMN, MASK_COLUMN
from octavo.engine.losses import make_loss
from octavo.engine.material import Material, part_of
from octavo.errors import UserError, lookup
from octavo.networks.build import build_segmenter, check_segmenter, fits_norm
from octavo.numbers.rules import AUTO, RULES
from octavo.progress import Progress
from octavo.recipe import SegmentRecipe
from octavo.tasks.segmentation.stages import chosen_images
from octavo.tasks.segmentation.training import one_size, whole_batch
from octavo.threads import in_threads

_LONGEST = 251  # bytes that most file systems leave a name before `.png`


def prepare(
    recipe: SegmentRecipe,
    data: str,
    layout: str | None,
    cache: Path,
    skip_broken: bool,
    labels: Path | None = None,
    *,
    columns: str | None = None,
    progress: Progress,
) -> Material:
    """Return the images and masks that `data` holds, split as the recipe says and decoded into the cache.

    Raises:
        UserError: data that can't be read or used, masks that nobody can tell the classes of, a network that can't be
            built; corrected `labels`, which masks don't have.
    """
    if labels:
        raise UserError(f"--labels: {recipe.name} is trained on masks, which have no labels of images; leave it away")
    if recipe.measure.rule != AUTO:
        lookup(RULES, recipe.measure.rule, "measure.rule")
    pairs = torchvision_data.read_pairs(data, layout, columns, cache=cache, progress=progress)
    decoder = _decoder(recipe, pairs, progress)
    check_segmenter(recipe, len(decoder.table.names))
    if not pairs.own_split:
        pairs = pairs.with_val(recipe.data.val, recipe.seed)
    images = store.ImageDecoder(scale=recipe.data.scale)
    pixels = store.build(pairs, images, cache, skip_broken=skip_broken, progress=progress)
    masks = store.build(pairs.mask_files, decoder, cache, skip_broken=skip_broken, progress=progress)
    broken = {**masks.broken, **pixels.broken}
    shown = partial(_shown, masks, len(decoder.table.names))
    division = divide_pairs(recipe, pairs, Shown(decoder.table, frozenset(broken), frozenset(masks.broken), shown))
    parts = division.parts
    _same_sizes(pairs, images, pixels.sizes, masks.sizes, broken, progress)
    _will_start(recipe, pairs, parts, pixels.sizes, masks.sizes, len(decoder.table.names))
    places = part_of(parts, broken, len(pairs.files))
    names = mask_names(pairs.files, places)
    rows = [
        {"file": file, "mask": mask, "part": part, "name": name, IMAGE_COLUMN: image, MASK_COLUMN: content}
        for file, mask, part, name, image, content in zip(
            pairs.files, pairs.masks, places, names, pixels.digests, masks.digests, strict=True
        )
    ]
    for row, group in zip(rows, pairs.groups, strict=bool(pairs.groups)):
        row["group"] = group
    return Material(
        data,
        pairs,
        decoder.table.names,
        MaskRows(masks),
        pixels,
        parts,
        rows,
        broken,
        decoder.table,
        names,
        warnings=division.warnings,
    )


def _decoder(recipe: SegmentRecipe, pairs: Pairs, progress: Progress) -> MaskDecoder:
    """Return how the masks are read; where a key of the recipe must say it, so can the command line."""
    try:
        return resolve(pairs, recipe.data.classes, recipe.data.tolerant, progress)
    except UserError as error:
        keys = [key for key in ("classes=NAME", "tolerant=true") if f"data.{key.partition('=')[0]} =" in str(error)]
        typed = " and ".join(f"--set data.{key}" for key in keys)
        raise UserError(f"{error}; on the command line: {typed}" if keys else str(error)) from error


def mask_names(files: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:
    """Return a name for the predicted mask of each image, without ending: its stem; where two of one part have the
    same, its path; and where two differ in their endings alone, its path with the ending. A list may name images
    outside of its folder; their names stay inside of the run's all the same."""
    stems = [PurePosixPath(file).stem for file in files]
    inside = ["/".join(part for part in PurePosixPath(file).parts if part not in ("/", "..")) for file in files]
    paths = [str(PurePosixPath(file).with_suffix("")) for file in inside]
    stem_count, path_count = Counter(zip(parts, stems, strict=True)), Counter(paths)
    return tuple(
        stem if stem_count[part, stem] == 1 else path if path_count[path] == 1 else _shortened(file)
        for file, part, stem, path in zip(inside, parts, stems, paths, strict=True)
    )


def _shown(masks: store.Pixels, classes: int, index: int) -> np.ndarray:
    """Return which classes a stored mask shows, bool [C]."""
    return np.bincount(masks.image(index).ravel(), minlength=classes)[:classes] > 0


def _shortened(file: str) -> str:
    """Return a path whose name leaves room for another ending; its hash stands for what is cut off."""
    path = PurePosixPath(file)
    name = os.fsencode(path.name)
    if len(name) <= _LONGEST:
        return file
    digest = hashlib.sha256(name).hexdigest()[:16]
    return str(path.with_name(f"{name[: _LONGEST - 17].decode(errors='ignore')}-{digest}"))


def _will_start(
    recipe: SegmentRecipe,
    pairs: Pairs,
    parts: Mapping[str, np.ndarray],
    sizes: np.ndarray,
    mask_sizes: np.ndarray,
    classes: int,
) -> None:
    """Refuse now what the training would only refuse when its folder exists, or at its end."""
    weighted = torch.ones(classes) if recipe.train.class_weights != "none" else None
    make_loss(recipe.loss, classes, weighted, recipe.train.label_smoothing)
    chosen_images(recipe.stages, pairs.files, parts["val"])
    if recipe.train.mode == "frozen" and recipe.train.cache:
        one_size(sizes)
    _fits_norm(recipe, parts["fit"], sizes, mask_sizes, classes)


def _fits_norm(recipe: SegmentRecipe, fit: np.ndarray, sizes: np.ndarray, mask_sizes: np.ndarray, count: int) -> None:
    """Refuse batches of one where batch norm is left with one value a channel, in training and after it.

    Args:
        recipe: of the training.
        fit: int64 [n], which images it is trained on.
        sizes: int [N,2], of the stored images.
        mask_sizes: int [N,2], of the stored masks.
        count: of classes.
    """
    train, spec = recipe.train, recipe.segmenter
    frozen, cached = train.mode == "frozen", train.mode == "frozen" and train.cache
    net = build_segmenter(spec, recipe, count, "meta")
    height, width = sizes[fit[np.argmin(sizes[fit].prod(axis=1))]].tolist()
    if len(fit) == 1 and not fits_norm(net, 1, (height, width) if cached else recipe.data.size, frozen=frozen):
        raise UserError(
            f"{spec.network}: its batch norm can't be trained on 1 image, which leaves one value a channel; add "
            "images, or lower data.holdout"
        )
    batch = train.batch_size if cached else whole_batch(recipe, sizes, mask_sizes)
    if train.reestimate_norm and min(batch, len(fit)) == 1 and not fits_norm(net, 1, (height, width), frozen=frozen):
        raise UserError(
            f"train.reestimate_norm: whole images go one by one through {spec.network}, whose batch norm then has one "
            "value a channel; set it to false"
        )


def _same_sizes(
    pairs: Pairs,
    decoder: store.ImageDecoder,
    images: np.ndarray,
    masks: np.ndarray,
    broken: Mapping[int, str],
    progress: Progress,
) -> None:
    """Refuse masks that don't lie on their images; `images` and `masks` int [N,2] are the sizes in the stores.

    Images that were reduced may have been a pixel larger or smaller than their masks: their files are asked.
    """
    expected = np.array([decoder.size(width, height)[::-1] for height, width in masks.tolist()])
    odd = [i for i in np.flatnonzero((expected != images).any(axis=1)).tolist() if i not in broken]
    if not odd and decoder.scale != 1:
        whole = [i for i in range(len(masks)) if i not in broken]
        found = zip(whole, in_threads(lambda i: probe(pairs.path(i)), whole), strict=True)
        for done, (i, header) in enumerate(found, 1):
            odd += [i] if (header.height, header.width) != tuple(masks[i]) else []
            progress("sizes", done, len(whole))
    if odd:
        header, (height, width) = probe(pairs.path(odd[0])), masks[odd[0]]
        raise UserError(
            f"{pairs.path(odd[0])}: is {header.width}×{header.height} pixels, its mask {width}×{height} ({len(odd)} "
            "such pairs); image and mask must be of one size (octavo check lists them)"
        )
