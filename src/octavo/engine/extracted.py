"""What the frozen extractor of a classifier makes of all images of its job."""

from __future__ import annotations

from dataclasses import replace

from octavo.data.inputs import Inputs
from octavo.engine.features import VIEW_EPOCH, Features, extractor_facts
from octavo.engine.infer import ready
from octavo.engine.job import Job
from octavo.engine.kept import kept_features
from octavo.keyed import seed_of
from octavo.networks import weights
from octavo.networks.fold import Halves
from octavo.networks.member import MemberNet
from octavo.progress import Progress
from octavo.recipe import ClassifyRecipe, Member


def own(job: Job) -> tuple[ClassifyRecipe, Member]:
    """Return the recipe and the member of a classifier's job."""
    assert isinstance(job.recipe, ClassifyRecipe) and isinstance(job.member, Member)
    return job.recipe, job.member


def inputs_of(job: Job) -> Inputs:
    """Return how stored images become this member's input."""
    recipe, member = own(job)
    data = recipe.data
    mean, std = weights.normalization(member) if data.normalize == "weights" else ((0.0,) * 3, (1.0,) * 3)
    return Inputs(
        recipe.size_of(member),
        data.resize,
        mean,
        std,
        recipe.augment,
        job.seed,
        job.classes,
        job.train.channels_last,
    )


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
