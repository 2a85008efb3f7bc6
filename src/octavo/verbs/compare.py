"""Finished runs → one page that holds them side by side, with paired statistics, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.files import write_atomic
from octavo.looks.comparison import looks_of
from octavo.looks.differences import data_warnings, differences
from octavo.looks.names import last_parts
from octavo.looks.paired import Answers, Shared, aligned_counts, all_classes, answers, label_truths, mask_truths, share
from octavo.looks.subject import SegmentSubject, subject_of
from octavo.numbers.averages import Confusions, Flags
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.compare import FEWEST, Compared, compare_answers, compare_masks, replicates_for
from octavo.numbers.compare_results import BestMember, Comparison, HardImage, RunSide
from octavo.numbers.mask_results import SegmentReport
from octavo.numbers.metrics import METRICS
from octavo.numbers.results import Interval
from octavo.numbers.rule import Rule
from octavo.numbers.rules import AUTO, BESIDE, RULES
from octavo.overwrite import parsed_by, require_writable, run_of
from octavo.page.comparison import page_of
from octavo.page.page import PAGE, render
from octavo.progress import Progress, Say, silent, unsaid
from octavo.recipe import ClassifyRecipe, SegmentRecipe

_LEVEL = 0.95
_WRONG, _BAD = 15, 10  # hardest images that are named, of classifiers and of segmenters


def compare(
    runs: Sequence[RunFolder],
    out: Path = Path("comparison.html"),
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Say = unsaid,
) -> Path:
    """Write a page that compares finished runs, its numbers beside it as JSON, and return the page's path.

    Args:
        runs: two or more of one task.
        out: the page; a comparison that is there is replaced.
        overwrite: whether something else that is there is replaced too.
        progress: told after every run.
        say: told what a reader must know.

    Raises:
        UserError: fewer than two runs, one given twice, runs of different tasks or without common images, a run that
            isn't finished, or something else in the way of the files.
    """
    page, data = _files(out, overwrite)
    comparison = compared(runs, progress=progress)
    for warning in comparison.warnings:
        say(warning)
    write_atomic(data, comparison.to_json().encode())
    write_atomic(page, render(page_of(comparison, looks_of(comparison, data.name), data.name)).encode())
    return out


def compared(runs: Sequence[RunFolder], *, progress: Progress = silent) -> Comparison:
    """Return every number of a comparison of finished runs; raises as `compare`."""
    if len(runs) < 2:
        raise UserError("report: a comparison needs two runs or more")
    names = distinct([run.path for run in runs])
    recipes = [run.recipe for run in runs]
    for name, recipe in zip(names[1:], recipes[1:], strict=True):
        if recipe.task != recipes[0].task:
            raise UserError(
                f'report: {names[0]} is of task "{recipes[0].task}", {name} of "{recipe.task}"; runs of one task alone '
                "can be compared"
            )
    for run in runs:
        run.metrics  # noqa: B018 (raises where the run isn't finished)
    of_task = _classifiers if isinstance(recipes[0], ClassifyRecipe) else _segmenters
    return of_task(runs, names, progress)


def distinct(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the last parts of paths, as many as it takes to tell them apart.

    Raises:
        UserError: two of them are one folder.
    """
    whole = [path.resolve() for path in paths]
    for place, path in enumerate(whole):
        if path in whole[:place]:
            raise UserError(f"report: {paths[place]} is given twice; compare different runs")
    return tuple(last_parts([str(path) for path in whole]))


def _files(out: Path, overwrite: bool) -> tuple[Path, Path]:
    """Return where the page `out` and its numbers go; never onto something else, such as a run's `metrics.json`."""
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out {out}: expected the name of a page that ends in .html")
    if run_of(out.resolve()):
        raise UserError(f"--out {out}: lies in a run's folder; choose another place")
    numbers = parsed_by("numbers of a comparison", Comparison.from_json)
    return (
        require_writable(out, PAGE, overwrite=overwrite),
        require_writable(out.with_suffix(".json"), numbers, overwrite=overwrite),
    )


def _classifiers(runs: Sequence[RunFolder], names: tuple[str, ...], progress: Progress) -> Comparison:
    classes = all_classes(runs)
    shared = share(names, label_truths(runs))
    found: list[Answers] = []
    for run, places in zip(runs, shared.places, strict=True):
        found.append(answers(run, places, classes))
        progress("compare", len(found), len(runs))
    own = [runs[0].manifest["classes"][i] for i in runs[0].labels("val")[shared.places[0]]]
    labels = np.array([classes.index(name) for name in own], np.int64)
    right: Flags = np.stack([a.predicted == labels for a in found])
    groups = runs[0].groups("val")
    together = None if groups is None else groups[shared.places[0]]
    boot = Bootstrap(labels, level=_LEVEL, groups=together)
    result = compare_answers(names, right, [a.members for a in found], labels, classes, boot)
    lost = np.flatnonzero(~right.any(axis=0))
    surest = lost[np.argsort(np.mean([a.certainty for a in found], axis=0)[lost], kind="stable")]
    shown, said = subject_of(runs[0]).named, [[classes[i] for i in a.predicted] for a in found]
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
        f"one of the two runs alone gets right.{_corrected(len(runs))}"
    )
    return _comparison(
        runs, names, shared, result, boot,
        task="classify", classes=classes, headline="accuracy", rule=rule, metrics=[a.metrics for a in found],
        none_right=len(lost), hardest=hardest, warnings=others if any(set(k) != set(known[0]) for k in known) else [],
    )  # fmt: skip


def _segmenters(runs: Sequence[RunFolder], names: tuple[str, ...], progress: Progress) -> Comparison:
    subjects = [s for run in runs if isinstance(s := subject_of(run), SegmentSubject)]
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
        np.zeros(len(shared.files), np.int64), replicates_for(len(runs)), level=_LEVEL, stratify=False, groups=together
    )
    result = compare_masks(names, counts, classes, scored, rule, boot)
    few = len(shared.files) < FEWEST
    return _comparison(
        runs, names, shared, result, boot,
        task="segment", classes=classes, headline="miou", rule=_mask_words(rule, boot, len(runs)),
        metrics=[{key: beside.score(own, scored).value for key, beside in BESIDE.items()} for own in counts],
        none_right=None, hardest=_worst([subjects[0].named[file] for file in shared.files], counts),
        warnings=[*_other_rules(runs, names, rule), *([_FEW.format(len(shared.files))] if few else [])],
    )  # fmt: skip


_FEW = (
    f"nothing is tested on {{}} images: a paired bootstrap needs {FEWEST} or more, and intervals of so few say little"
)


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
    report, asked = run.metrics, run.recipe_as(SegmentRecipe).measure.rule
    assert isinstance(report, SegmentReport)
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
        f"2/{boot.replicates + 1:,}.{_corrected(runs)} Images of one scene are alike, so that intervals are too narrow "
        "and p too small where the images are tiles or frames of few scenes. They leave out the spread between "
        "trainings."
    )


def _corrected(runs: int) -> str:
    below = f"p below {100 * (1 - _LEVEL):.3g} %"
    if runs == 2:
        return f" Told apart: {below}."
    pairs = runs * (runs - 1) // 2
    return f" Told apart: {below} after Holm's correction for {pairs} pairs; intervals are of each pair alone."


def _comparison(
    runs: Sequence[RunFolder],
    names: tuple[str, ...],
    shared: Shared,
    result: Compared,
    boot: Bootstrap,
    *,
    metrics: Sequence[dict[str, float] | dict[str, float | None]],
    warnings: Sequence[str],
    **rest: object,
) -> Comparison:
    """Return a comparison of what both tasks have in common and `rest`."""
    sides = tuple(
        _side(name, run, headline, dict(own), best)
        for name, run, headline, own, best in zip(
            names, runs, result.headlines, metrics, result.best or [None] * len(runs), strict=True
        )
    )
    flattered = [
        f"{name}: {text}" for name, run in zip(names, runs, strict=True) for text in run.metrics.warnings
        if text.startswith("flattered")
    ]  # fmt: skip
    return Comparison.model_validate(
        rest
        | {
            "n": len(shared.files),
            "level": boot.level,
            "replicates": boot.replicates,
            "seed": boot.seed,
            "runs": sides,
            "pairs": result.pairs,
            "per_class": result.per_class,
            "differences": differences(runs),
            "warnings": (*flattered, *data_warnings(runs, names), *shared.warnings, *warnings),
        }
    )


def _side(
    name: str, run: RunFolder, headline: Interval, metrics: dict[str, float | None], best: BestMember | None
) -> RunSide:
    recipe, report = run.recipe, run.metrics
    return RunSide(
        name=name,
        recipe=recipe.name,
        networks=tuple(network.name for network in recipe.networks),
        data=Path(str(run.manifest["data"]["root"])).name,
        validation=report.n,
        headline=headline,
        metrics=metrics,
        best_member=best,
        flattered=report.flattered,
    )
