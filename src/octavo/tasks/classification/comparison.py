"""Comparison of runs of classifiers: paired accuracy on the validation images that all share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.looks.paired import Answers, all_classes, answers, label_truths, share
from octavo.looks.subject import ClassifySubject
from octavo.numbers.averages import Flags
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.compare import compare_answers
from octavo.numbers.compare_results import Comparison, HardImage
from octavo.numbers.metrics import METRICS
from octavo.progress import Progress
from octavo.tasks.comparison import LEVEL, comparison_of, corrected

_WRONG = 15  # hardest images that are named


def compare(runs: Sequence[RunFolder], names: tuple[str, ...], progress: Progress) -> Comparison:
    """Return every number of a comparison of finished runs, which are called `names`."""
    classes = all_classes(runs)
    shared = share(names, label_truths(runs))
    found: list[Answers] = []
    for run, places in zip(runs, shared.places, strict=True):
        found.append(answers(ClassifySubject(run), places, classes))
        progress("compare", len(found), len(runs))
    own = [runs[0].manifest["classes"][i] for i in runs[0].labels("val")[shared.places[0]]]
    labels = np.array([classes.index(name) for name in own], np.int64)
    right: Flags = np.stack([a.predicted == labels for a in found])
    groups = runs[0].groups("val")
    together = None if groups is None else groups[shared.places[0]]
    boot = Bootstrap(labels, level=LEVEL, groups=together)
    result = compare_answers(names, right, [a.members for a in found], labels, classes, boot)
    lost = np.flatnonzero(~right.any(axis=0))
    surest = lost[np.argsort(np.mean([a.certainty for a in found], axis=0)[lost], kind="stable")]
    shown, said = ClassifySubject(runs[0]).named, [[classes[i] for i in a.predicted] for a in found]
    hardest = tuple(
        HardImage(file=shown[shared.files[i]], truth=classes[labels[i]], answers=tuple(own[i] for own in said))
        for i in surest[:_WRONG].tolist()
    )
    known = [run.manifest["classes"] for run in runs]
    sizes = ", ".join(f"{name}: {len(own)}" for name, own in zip(names, known, strict=True))
    others = [f"the runs know different classes ({sizes}); the more a run knows, the harder its task"]
    rule = (
        f"Compared on {len(labels):,} validation images that all runs share, with the same label; the ensemble of each "
        f"run. {METRICS['accuracy'].rule} {boot.rule} p: McNemar's exact test (binomial, two-sided) on the images that "
        f"one of the two runs alone gets right.{corrected(len(runs))}"
    )
    return comparison_of(
        runs, names, shared, result, boot,
        task="classify", classes=classes, headline="accuracy", rule=rule, metrics=[a.metrics for a in found],
        none_right=len(lost), hardest=hardest, warnings=others if any(set(k) != set(known[0]) for k in known) else [],
    )  # fmt: skip
