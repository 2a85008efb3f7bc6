"""A run trained in float32 → whether its ensemble may answer in bfloat16, and what that changes."""

from __future__ import annotations

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.infer import AT_ONCE, on_all
from octavo.engine.restore import batch_of, restore
from octavo.engine.timing import BATCH, Timing, Turn, time_in_turns, too_busy
from octavo.errors import UserError
from octavo.looks.subject import ClassifySubject
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.metrics import METRICS, accuracy_of
from octavo.numbers.speed_results import PrecisionReport
from octavo.progress import Progress, silent
from octavo.tasks.known import subject_of

_RULE = (
    "Every validation image goes through the members in bfloat16 and channels-last order; its answer is set against "
    "that of the stored outputs. Times are per image, in batches of 16, resizing in them and decoding not."
)


def precision(
    run: RunFolder, changed: float, *, data: str | None = None, device: str = "auto", progress: Progress = silent
) -> PrecisionReport:
    """Return what bfloat16 changes in the answers of a run's ensemble, and how much faster it is.

    Args:
        run: a finished run of classifiers.
        changed: percent of the validation images whose most probable class may become another, 0–100.
        data: where the run's data are now; None: where they were.
        device: where they run.
        progress: told how far it is.

    Raises:
        UserError: a share out of range, a segmenter, a run that was trained in bfloat16, or data that are gone.
    """
    if not 0 <= changed <= 100:
        raise UserError(f"--changed {changed:g}: expected percent of the answers, from 0 to 100, such as 0.5")
    subject = subject_of(run, device, data=data, progress=progress)
    if not isinstance(subject, ClassifySubject):
        raise UserError(f"{run.path}: a segmenter; octavo ensemble is for classifiers")
    recipe, ensemble = subject.recipe, run.ensemble
    used = list(ensemble.used)
    train = {member.name: recipe.train_of(member).precision for member in recipe.members}
    tried = [name for name in used if train[name] != "bf16"]
    if not tried:
        raise UserError(f"{run.path}: was trained in bfloat16, and answers in it already")
    logits = np.array(subject.logits)
    times, others = np.zeros(2), [0.0]
    for done, name in enumerate(tried):
        logits[ensemble.names.index(name)], both = _half(subject, name, device)
        times += [timing.milliseconds for timing in both]
        others.append(both[0].others or 0.0)
        progress("bfloat16", done + 1, len(tried))
    return _compared(subject, tried, logits, changed / 100, times, device, too_busy(max(others)))


def against(report: PrecisionReport) -> str:
    """Return why a run had better not answer in bfloat16; empty where nothing speaks against it."""
    if report.changed > report.allowed:
        return (
            f"{report.changed:.2%} of the answers change in bfloat16, {report.allowed:.2%} may; allow more by --changed"
        )
    return "" if report.speedup > 1 else f"bfloat16 isn't faster on this {report.device} (× {report.speedup:.2f})"


def apply(run: RunFolder, report: PrecisionReport) -> None:
    """Let the members that were tried answer in bfloat16 on this kind of device from now on.

    The run's own numbers stay those of the outputs it was graded on.

    Raises:
        UserError: more answers change than are allowed, or it isn't faster.
    """
    if why := against(report):
        raise UserError(f"{run.path}: {why}; nothing is changed")
    run.bf16 = report.model_dump(mode="json")


def undo(run: RunFolder) -> None:
    """Let all members of a run answer as they were trained again.

    Raises:
        UserError: they do already.
    """
    if not run.has_bf16:
        raise UserError(f"{run.path}: its members answer as they were trained already")
    run.bf16 = None


def _half(subject: ClassifySubject, name: str, device: str) -> tuple[np.ndarray, list[Timing]]:
    """Return a member's logits on the validation images in bfloat16, and its times before and after."""
    target, count = find(device).device, len(subject.labels)
    batch = batch_of([subject.picture(i) for i in range(min(BATCH, count))])
    half = restore(subject.run, name, target, bf16=True)
    both = time_in_turns([Turn(restore(subject.run, name, target, bf16=False)), Turn(half)], batch)
    starts = range(0, count, AT_ONCE)
    batches = (batch_of([subject.picture(i) for i in range(at, min(at + AT_ONCE, count))]) for at in starts)

    def told(what: str, done: int, total: int, note: str = "") -> None:
        subject.progress(what, done, len(starts), note)

    return on_all(half.logits, batches, progress=told, what=f"{name}: bfloat16"), both


def _compared(
    subject: ClassifySubject,
    tried: list[str],
    half: np.ndarray,
    allowed: float,
    times: np.ndarray,
    device: str,
    beware: str,
) -> PrecisionReport:
    run, ensemble, labels = subject.run, subject.run.ensemble, subject.labels
    before, after = (ensemble.logits(stack).argmax(1) for stack in (subject.logits, half))
    boot = Bootstrap(labels, groups=run.groups("val"))
    draws, metric = (
        boot.draw({"32": accuracy_of(before, labels), "16": accuracy_of(after, labels)}),
        METRICS["accuracy"],
    )
    return PrecisionReport(
        members=tuple(tried),
        scored=len(labels),
        allowed=allowed,
        changed=float((before != after).mean()),
        float32=boot.interval(draws["32"], metric),
        bfloat16=boot.interval(draws["16"], metric),
        loss=boot.difference(draws["32"], draws["16"], same=bool((before == after).all())),
        milliseconds=(float(times[0]), float(times[1])),
        device=find(device).kind,
        beware=beware,
        rule=f"{_RULE} {boot.rule}",
    )
