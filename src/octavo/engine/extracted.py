"""What the frozen extractor of a classifier makes of all images of its job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from octavo.data.inputs import Inputs
from octavo.data.store import Pixels
from octavo.engine.feature_file import opened
from octavo.engine.features import VIEW_EPOCH, Features, extractor_facts, extractor_key
from octavo.engine.infer import ready
from octavo.engine.job import Job
from octavo.engine.kept import kept_features
from octavo.keyed import seed_of
from octavo.networks import weights
from octavo.networks.fold import Halves, pooling_of
from octavo.networks.member import MemberNet
from octavo.progress import Progress, unsaid
from octavo.recipe import EnsembleRecipe, Member


def own(job: Job) -> tuple[EnsembleRecipe, Member]:
    """Return the recipe and the member of a classifier's job."""
    assert isinstance(job.recipe, EnsembleRecipe) and isinstance(job.member, Member)
    return job.recipe, job.member


def inputs_of(job: Job) -> Inputs:
    """Return how stored images become this member's input."""
    return _inputs(*own(job), job.seed, job.classes)


def _inputs(recipe: EnsembleRecipe, member: Member, seed: int, classes: int) -> Inputs:
    data, train = recipe.data, recipe.train_of(member)
    mean, std = weights.normalization(member) if data.normalize == "weights" else ((0.0,) * 3, (1.0,) * 3)
    size = recipe.size_of(member)
    return Inputs(size, data.resize, mean, std, recipe.augment, seed, classes, train.channels_last)


def known_features(
    recipe: EnsembleRecipe, classes: int, pixels: Pixels, hashes: Mapping[str, str], device: str, cache: Path
) -> frozenset[str]:
    """Return the names of the frozen members whose features are in the cache already.

    Args:
        recipe: the resolved recipe.
        classes: number of classes.
        pixels: the decoded images.
        hashes: name of a member → SHA-256 of the weights that it starts from.
        device: kind of device that it computes on.
        cache: the cache folder.
    """
    found: set[str] = set()
    for member in recipe.members:
        train = recipe.train_of(member)
        if train.mode != "frozen" or not train.cache:
            continue
        fixed = _inputs(recipe, member, seed_of("views", recipe.seed), classes)
        places = pooling_of(member.backbone, fixed.size, member.pool) is not None
        sha256 = hashes.get(member.name)
        facts = extractor_facts(member, recipe.seed, fixed.size, fixed.resize, sha256, places=places)
        folder = cache / "features" / extractor_key(facts, fixed, train, pixels.digest, device)
        if opened(folder, tell=unsaid) is not None:
            found.add(member.name)
    return frozenset(found)


def extracted(
    job: Job, net: MemberNet, parts: Halves, inputs: Inputs, sha256: str | None, progress: Progress
) -> Features:
    """Return the features of all images, computed by the network's extractor or found in the cache."""
    recipe, member = own(job)
    # Not the member's own seed: members with one extractor share its features.
    fixed = replace(inputs, seed=seed_of("views", recipe.seed))
    ways = [inputs.plain, *(lambda b, v=v: fixed.augmented(b, VIEW_EPOCH + v) for v in range(1, job.train.views))]
    facts = extractor_facts(member, recipe.seed, inputs.size, inputs.resize, sha256, places=parts.places)

    def told(what: str, done: int, total: int, note: str = "") -> None:
        progress(f"{job.title}: {what}", done, total, note)

    body = ready(parts.body, job.hardware.device, job.train.channels_last)
    what = f"{member.backbone}, {inputs.size} px"
    features = kept_features(job, body, parts.width, ways, fixed, facts, job.seed, told, what=what)
    net.backbone.cpu()
    return features
