"""Comparison of runs of segmenters: mIoU by one rule on the validation images that all share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.looks.paired import aligned_counts, mask_truths, share
from octavo.looks.subject import SegmentSubject
from octavo.numbers.averages import Confusions
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.compare import FEWEST, compare_masks, replicates_for
from octavo.numbers.compare_results import Comparison, HardImage
from octavo.numbers.mask_results import SegmentReport
from octavo.numbers.rule import Rule
from octavo.numbers.rules import AUTO, BESIDE, RULES
from octavo.progress import Progress
from octavo.recipe import SegmentRecipe
from octavo.tasks.comparison import LEVEL, comparison_of, corrected

_BAD = 10  # hardest images that are named
_FEW = (
    f"nothing is tested on {{}} images: a paired bootstrap needs {FEWEST} or more, and intervals of so few say little"
)


def compare(runs: Sequence[RunFolder], names: tuple[str, ...], progress: Progress) -> Comparison:
    """Return every number of a comparison of finished runs, which are called `names`."""
    subjects = [SegmentSubject(run) for run in runs]
    classes, table = tuple(runs[0].manifest["classes"]), runs[0].table
    whole: list[Confusions] = []
    for subject in subjects:
        whole.append(aligned_counts(subject, classes))
        progress("compare", len(whole), len(subjects))
    shared = share(names, mask_truths(runs, whole))
    counts = [own[places] for own, places in zip(whole, shared.places, strict=True)]
    rule, scored = RULES[_rule_of(runs[0])], np.asarray(table.scored)
    groups = runs[0].groups("val")
    together = None if groups is None else groups[shared.places[0]]
    boot = Bootstrap(
        np.zeros(len(shared.files), np.int64), replicates_for(len(runs)), level=LEVEL, stratify=False, groups=together
    )
    result = compare_masks(names, counts, classes, scored, rule, boot)
    few = len(shared.files) < FEWEST
    return comparison_of(
        runs, names, shared, result, boot,
        task="segment", classes=classes, headline="miou", rule=_mask_words(rule, boot, len(runs)),
        metrics=[{key: beside.score(own, scored).value for key, beside in BESIDE.items()} for own in counts],
        none_right=None, hardest=_worst([subjects[0].named[file] for file in shared.files], counts),
        warnings=[*_other_rules(runs, names, rule), *([_FEW.format(len(shared.files))] if few else [])],
    )  # fmt: skip


def _worst(files: Sequence[str], counts: Sequence[Confusions]) -> tuple[HardImage, ...]:
    """Return the images of which the best run has the smallest share of the pixels right."""
    true = counts[0][:, :-1].sum(axis=(1, 2))
    hits = np.array([np.diagonal(own, axis1=1, axis2=2)[:, :-1].sum(axis=1) for own in counts])
    shares = hits / np.maximum(true, 1)
    order: list[int] = [i for i in np.argsort(shares.max(axis=0), kind="stable").tolist() if true[i]]
    return tuple(
        HardImage(file=files[i], truth=None, shares=tuple(shares[:, i].tolist())) for i in order[:_BAD]
    )  # fmt: skip


def _rule_of(run: RunFolder) -> str:
    report, asked = cast(SegmentReport, run.metrics), run.recipe_as(SegmentRecipe).measure.rule
    return report.rule_name if asked == AUTO else asked


def _other_rules(runs: Sequence[RunFolder], names: Sequence[str], rule: Rule) -> list[str]:
    """Return a warning where runs would be scored by another rule, or with other classes, by themselves."""
    own = {name: _rule_of(run) for name, run in zip(names, runs, strict=True)}
    others = [f'{name} "{key}"' for name, key in own.items() if key != rule.name]
    found = [f'every run is scored by the rule of {names[0]}, "{rule.name}"; by itself: {", ".join(others)}']
    tables = [dict(zip(run.table.names, map(bool, run.table.scored), strict=True)) for run in runs]
    strange = [name for name, table in zip(names, tables, strict=True) if table != tables[0]]
    scored = [f"every run is scored on the classes that {names[0]} scores; others are scored in: {', '.join(strange)}"]
    return (found if others else []) + (scored if strange else [])


def _mask_words(rule: Rule, boot: Bootstrap, runs: int) -> str:
    return (
        f"Compared on {len(boot.labels):,} validation images that all runs share, with the same true pixels of each "
        f"class. mIoU by the rule {rule.name}: {rule.text} Intervals: {100 * boot.level:g} %, paired bootstrap of the "
        f"images, {boot.replicates:,} resamples, seed {boot.seed}; percentiles for differences. p: the smallest "
        "1 − level at which the interval of the difference leaves out zero, never below "
        f"2/{boot.replicates + 1:,}.{corrected(runs)} Images of one scene are alike, so that intervals are too narrow "
        "and p too small where the images are tiles or frames of few scenes. They leave out the spread between "
        "trainings."
    )
