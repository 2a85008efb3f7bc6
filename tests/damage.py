"""Damages the files of runs, one at a time, and counts what commands make of it.

`python tests/damage.py --trials 2000` trains a small run of classifiers (folds, a cascade, a report), one of a
segmenter, and one of each that was stopped in training. Then it flips, cuts, swaps and rewrites their files by a seed,
each damage against evaluate, predict, report, explain and train --resume in this process. A command may refuse in one
line, may say what it made anew, or may not need the file; a traceback, an endless run, or another result without a word
is a fault, and the exit code is 1.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import hashlib
import io
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from octavo import cli

CLASSIFY = """\
name = "digits"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none", folds = 2}
train = {epochs = 2, batch_size = 20, optimizer = "adam", lr = 1e-3}
[[members]]
name = "frozen"
backbone = "squeezenet1_1"
weights = "none"
mode = "frozen"
epochs = 20
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
"""
SEGMENT = """\
name = "scenes"
task = "segment"
data = {size = 32, classes = "course", normalize = "none", holdout = 0.25}
train = {epochs = 3, batch_size = 3, optimizer = "adam", lr = 2e-3}
stages = {at = [1, 2, "best"], count = 2}
[segmenter]
backbone = "mobilenet_v3_small"
weights = "none"
hidden = [{width = 8}]
upsample = "bilinear"
zero_scores = true
"""
LOOKS = {"digits": "confusion", "scenes": "stages"}
LIMIT = 120
"""Seconds that a command may take."""
TOLD = re.compile(r"damaged|missing|changed|note: |warning: |made anew|no longer|can't be read")
OUTCOMES = ("refused", "told", "no effect", "traceback", "silent", "endless", "unclear")
FAULTS = OUTCOMES[3:]
NUMBER = re.compile(rb"\d")


@dataclass
class Ran:
    """What came of one command."""

    code: int
    out: str
    err: str
    trace: str = ""
    seconds: float = 0.0
    left: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A run that is damaged.

    Attributes:
        name: of its recipe.
        folder: where it lies.
        pristine: a copy of it that is never touched.
        images: what its networks predict.
        stopped: whether its training was stopped on the way.
    """

    name: str
    folder: Path
    pristine: Path
    images: tuple[Path, ...]
    stopped: bool = False

    @property
    def commands(self) -> Mapping[str, tuple[str, ...]]:
        """The commands that it is put before."""
        run, out = str(self.folder), str(self.folder.parent / f"out-{self.folder.name}")
        target = out if self.name == "scenes" else f"{out}.csv"
        resume = {"train": ("train", "--resume", "--no-report", "--out", run)}
        if self.stopped:
            return resume
        return {
            "evaluate": ("evaluate", run),
            "predict": ("predict", run, *map(str, self.images), "--out", target, *self._cascade),
            "report": ("report", run),
            "explain": ("explain", run, "--look", LOOKS[self.name]),
            **resume,
        }

    @property
    def _cascade(self) -> tuple[str, ...]:
        return ("--cascade",) if (self.pristine / "cascade.json").is_file() else ()

    @property
    def files(self) -> list[str]:
        """All its files, by their path in its folder."""
        return sorted(p.relative_to(self.pristine).as_posix() for p in self.pristine.rglob("*") if p.is_file())

    def restore(self) -> None:
        """Make its folder what it was."""
        kept = {name: (self.pristine / name).stat() for name in self.files}
        for path in [p for p in self.folder.rglob("*") if not p.is_dir()]:
            if path.relative_to(self.folder).as_posix() not in kept:
                path.unlink()
        for name, stat in kept.items():
            path = self.folder / name
            now = path.stat() if path.is_file() else None
            if now is None or (now.st_mtime_ns, now.st_size) != (stat.st_mtime_ns, stat.st_size):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.pristine / name, path)
        for path in self.folder.parent.glob(f"out-{self.folder.name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _late(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {LIMIT} s")


def run_cli(words: tuple[str, ...]) -> Ran:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["octavo", *words]
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(LIMIT)
    code, trace, began = 0, "", time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except TimeoutError:
        trace = "endless"
    except BaseException:
        trace = traceback.format_exc()
    finally:
        signal.alarm(0)
        sys.argv = before
    return Ran(code, out.getvalue(), err.getvalue(), trace, time.process_time() - began)


def observed(subject: Subject, command: str) -> Ran:
    """Run one command on a run as it is, and return what it said and what it left (but for Bokeh's counted names)."""
    found = run_cli(subject.commands[command])
    run = subject.folder
    if command == "evaluate":
        paths = [run / "metrics.json", run / "predictions" / "val.csv"]
    elif command == "predict":
        paths = sorted(p for p in run.parent.glob(f"out-{run.name}*") for p in (p, *p.rglob("*")))
    elif command == "report":
        paths = [run / "report.html"]
    elif command == "explain":
        paths = [run / "explained" / f"{LOOKS[subject.name]}.json", run / "plots" / f"{LOOKS[subject.name]}.png"]
    else:
        paths = [p for p in run.rglob("*") if p.suffix in (".safetensors", ".csv", ".json", ".png")]
        paths = [p for p in paths if not {"explained", "plots"} & set(p.relative_to(run).parts)]
    for path in sorted(paths):
        if path.is_file():
            found.left[path.relative_to(run.parent).as_posix()] = _hash(path.read_bytes())
    return found


def _hash(content: bytes) -> str:
    if content.startswith(b"<!doctype html>"):
        content = re.sub(rb"\bp\d{3,}\b", b"", content)
    return hashlib.sha256(content).hexdigest()


def judged(found: Ran, usual: Ran, damage: Mapping[str, str | None]) -> str:
    """Return which of `OUTCOMES` a command came to on a damaged run, beside what it usually does.

    `damage` holds the hash of each file that was damaged, None of one that was removed.
    """
    if found.trace:
        return "endless" if found.trace == "endless" else "traceback"
    lines = [line for line in found.err.splitlines() if line.strip()]
    if found.code:
        last = lines[-1] if lines else ""
        short = last.startswith("error: ") and len(last) < 1200 and "Traceback" not in found.err
        return "refused" if found.code == 2 and short else "told" if TOLD.search(last) else "unclear"
    new = set(lines) - set(usual.err.splitlines())
    told = any(TOLD.search(line) for line in new)
    # A file that a command doesn't write is as the damage left it, and is no result of the command.
    names = found.left.keys() | usual.left.keys()
    same = found.out == usual.out and all(
        found.left.get(name) == usual.left.get(name) or (name in damage and found.left.get(name) == damage[name])
        for name in names
    )
    return "told" if told else "no effect" if same else "silent"


spent: dict[str, float] = {}
"""Processor seconds of each command."""

Damage = Callable[[bytes, random.Random], bytes | None]


def _flip_bit(content: bytes, draw: random.Random) -> bytes | None:
    return _changed(content, draw, lambda byte: byte ^ (1 << draw.randrange(8)))


def _flip_byte(content: bytes, draw: random.Random) -> bytes | None:
    return _changed(content, draw, lambda byte: (byte + draw.randrange(1, 256)) % 256)


def _changed(content: bytes, draw: random.Random, change: Callable[[int], int]) -> bytes | None:
    if not content:
        return None
    place = draw.randrange(len(content))
    return content[:place] + bytes([change(content[place])]) + content[place + 1 :]


def _cut(content: bytes, draw: random.Random) -> bytes | None:
    return content[: draw.randrange(len(content))] if content else None


def _insert(content: bytes, draw: random.Random) -> bytes | None:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.randbytes(draw.choice((1, 8, 4096))) + content[place:]


def _digit(content: bytes, draw: random.Random) -> bytes | None:
    places = [found.start() for found in NUMBER.finditer(content[:200_000])]
    if not places:
        return None
    place = draw.choice(places)
    other = draw.choice([d for d in b"0123456789" if d != content[place]])
    return content[:place] + bytes([other]) + content[place + 1 :]


def _object(content: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) and value else None


def _rename_key(content: bytes, draw: random.Random) -> bytes | None:
    value = _object(content)
    if value is None:
        return None
    key = draw.choice(sorted(value))
    return json.dumps({(f"{name}x" if name == key else name): item for name, item in value.items()}, indent=2).encode()


def _drop_key(content: bytes, draw: random.Random) -> bytes | None:
    value = _object(content)
    if value is None:
        return None
    value.pop(draw.choice(sorted(value)))
    return json.dumps(value, indent=2).encode()


def _rows(content: bytes, draw: random.Random, change: Callable[[list[bytes], int], object]) -> bytes | None:
    lines = content.splitlines(keepends=True)
    if len(lines) < 3 or b"," not in lines[0] or len(content) > 200_000 or content[:1] in b"{[":
        return None
    change(lines, draw.randrange(1, len(lines)))
    return b"".join(lines)


DAMAGES: dict[str, Damage] = {
    "bit": _flip_bit,
    "byte": _flip_byte,
    "cut": _cut,
    "empty": lambda content, draw: b"",
    "insert": _insert,
    "list": lambda content, draw: b"[]",
    "object": lambda content, draw: b"{}",
    "deep": lambda content, draw: draw.choice((b"[", b'{"a":', b"a.")) * 50_000,
    "long number": lambda content, draw: b'{"format": ' + b"1" * 10_000 + b"}",
    "text": lambda content, draw: draw.randbytes(draw.randrange(1, 3000)),
    "digit": _digit,
    "rename key": _rename_key,
    "drop key": _drop_key,
    "drop row": lambda content, draw: _rows(content, draw, lambda lines, i: lines.pop(i)),
    "double row": lambda content, draw: _rows(content, draw, lambda lines, i: lines.insert(i, lines[i])),
}
"""Kind → what it makes of a file's content, None where it can't be done. Besides there are `gone`, `swap`, `other`."""


def damaged(subject: Subject, others: list[Subject], draw: random.Random) -> tuple[str, str, dict[str, bytes | None]]:
    """Return a file, a kind of damage, and the content of each file that it changes; None: the file is gone."""
    while True:
        file = draw.choice(subject.files)
        content = (subject.pristine / file).read_bytes()
        kind = draw.choice([*DAMAGES, "gone", "swap", "other"])
        changes: dict[str, bytes | None] = {}
        if kind == "gone":
            changes = {file: None}
        elif kind == "swap":
            alike = [name for name in subject.files if Path(name).suffix == Path(file).suffix and name != file]
            if alike:
                second = draw.choice(alike)
                changes = {file: (subject.pristine / second).read_bytes(), second: content}
        elif kind == "other":
            there = [other for other in others if (other.pristine / file).is_file()]
            changes = {file: (draw.choice(there).pristine / file).read_bytes()} if there else {}
        else:
            found = DAMAGES[kind](content, draw)
            changes = {} if found is None else {file: found}
        if any(new != (subject.pristine / name).read_bytes() for name, new in changes.items()):
            return file, kind, changes


def trial(
    subject: Subject, others: list[Subject], usual: Mapping[str, Ran], seed: int, most: int
) -> Iterator[tuple[str, str, str]]:
    """Damage a run once, put it before `most` commands, and yield command, outcome and, of a fault, what happened."""
    draw = random.Random(seed)
    file, kind, changes = damaged(subject, others, draw)
    hashes = {
        f"{subject.folder.name}/{name}": None if content is None else _hash(content)
        for name, content in changes.items()
    }
    for command in draw.sample(sorted(subject.commands), min(most, len(subject.commands))):
        subject.restore()
        for name, content in changes.items():
            path = subject.folder / name
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
        found = observed(subject, command)
        outcome = judged(found, usual[command], hashes)
        story = ""
        if outcome in FAULTS:
            tail = (
                found.trace.splitlines()[-3:]
                if found.trace
                else [*found.out.splitlines()[-2:], *found.err.splitlines()[-4:]]
            )
            what = f"seed {seed}: {command} on {subject.name}/{file}, {kind}: {outcome} (exit {found.code})"
            story = f"{what}: {' | '.join(tail)}"
        spent[command] = spent.get(command, 0.0) + found.seconds
        yield command, outcome, story
    subject.restore()


def write_images(folder: Path) -> None:
    """Write handwritten digits of four classes, and scenes of the course's classes, 32 pixels a side."""
    from conftest import write_scenes

    digits = load_digits()
    for label in range(4):
        for i, row in enumerate(np.flatnonzero(digits.target == label)[:18]):
            path = folder / "digits" / ("train_4" if i < 12 else "val_4") / f"{label}_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).save(path)
    write_scenes(folder / "scenes", 6, 3)


def made(root: Path, kinds: Sequence[str]) -> list[Subject]:
    """Train the runs: whole ones, others whose files are put in place of theirs, and ones that are stopped."""
    from octavo.options import Options
    from octavo.progress import Interrupted
    from octavo.verbs.training import train

    write_images(root)
    images = {"digits": sorted((root / "digits" / "val_4").glob("*.png"))[:3],
              "scenes": sorted((root / "scenes" / "validation").glob("*_sat.jpg"))[:1]}  # fmt: skip
    subjects = []
    for name, text in (("digits", CLASSIFY), ("scenes", SEGMENT)):
        recipe = root / f"{name}.toml"
        recipe.write_text(text)
        for kind in kinds:
            out = root / f"{name}-{kind}"
            options = Options(
                out=out, cache=root / "cache", device="cpu", report=kind != "stopped" and name == "scenes"
            )
            changes = ("seed=1",) if kind == "other" else ()
            with contextlib.suppress(Interrupted):
                train(recipe, root / name, changes, options, progress=_stopping if kind == "stopped" else _silent)
            if kind != "stopped" and name == "digits":
                run_cli(("ensemble", "cascade", str(out), "--budget", "50"))
                run_cli(("report", str(out)))
            pristine = root / f"{out.name}-pristine"
            shutil.copytree(out, pristine)
            subjects.append(Subject(name, out, pristine, tuple(images[name]), kind == "stopped"))
    return subjects


def _silent(what: str, done: int, total: int, note: str = "") -> None:
    return


def _stopping(what: str, done: int, total: int, note: str = "") -> None:
    """Ask to stop once the second epoch of the last network has begun."""
    if (what.startswith("squeeze fold 1: train") or what.startswith("segmenter: train")) and done * 2 > total:
        os.kill(os.getpid(), signal.SIGTERM)


def damage(
    root: Path,
    trials: int,
    seed: int,
    say: Callable[[str], object] = print,
    *,
    kinds: Sequence[str] = ("run", "other", "stopped"),
    most: int = 5,
) -> Counter[tuple[str, str]]:
    """Damage runs and return how often commands came to each outcome.

    Args:
        root: where the runs are made.
        trials: how many files are damaged, one after another.
        seed: of the first damage.
        say: told of every fault, and how far it is.
        kinds: of runs; without `stopped` all are finished, without `other` no file is replaced by another run's.
        most: commands that each damage is put before, chosen by the seed.
    """
    every = made(root, kinds)
    stopped = [s for s in every if s.stopped]
    whole = [s for s in every if not s.stopped and s.folder.name.endswith("-run")]
    others = {name: [s for s in every if s.name == name and s.folder.name.endswith("-other")] for name in LOOKS}
    usual: dict[Path, dict[str, Ran]] = {}
    for subject in (*whole, *stopped):
        usual[subject.folder] = {}
        for command in subject.commands:
            cached = None
            while cached != _names(root / "cache"):  # again, where it filled the cache
                cached = _names(root / "cache")
                subject.restore()
                usual[subject.folder][command] = observed(subject, command)
            if usual[subject.folder][command].code or usual[subject.folder][command].trace:
                raise RuntimeError(f"{command} fails on a run that isn't damaged: {usual[subject.folder][command]}")
    counts: Counter[tuple[str, str]] = Counter()
    began = time.monotonic()
    for number in range(trials):
        key = seed * 1_000_000 + number
        subject = stopped[number // 40 % 2] if stopped and number % 40 == 39 else whole[number % 2]
        for command, outcome, story in trial(subject, others[subject.name], usual[subject.folder], key, most):
            counts[command, outcome] += 1
            if story:
                say(story)
        if number % 50 == 49:
            took = time.monotonic() - began
            each = ", ".join(f"{command} {seconds / (number + 1):.2f}" for command, seconds in spent.items())
            say(f"{number + 1} damages, {sum(counts.values())} commands in {took:.0f} s; CPU s a damage: {each}")
    return counts


def _names(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.suffix != ".lock"}


def table(counts: Counter[tuple[str, str]]) -> str:
    """Return the outcomes by command as lines of text."""
    commands = ("evaluate", "predict", "report", "explain", "train")
    lines = [f"{'command':10}" + "".join(f"{outcome:>11}" for outcome in OUTCOMES)]
    for command in commands:
        lines.append(f"{command:10}" + "".join(f"{counts[command, outcome]:>11,}" for outcome in OUTCOMES))
    return "\n".join(lines)


def faults(counts: Counter[tuple[str, str]]) -> int:
    """Return how many commands came to no good end."""
    return sum(count for (_, outcome), count in counts.items() if outcome in FAULTS)


def main() -> None:
    """Damage runs as often as is asked for, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = given.folder or Path(temporary)
        os.environ["OCTAVO_CACHE"] = str(root / "cache")
        counts = damage(root, given.trials, given.seed, lambda line: print(line, flush=True))
    print(f"{given.trials:,} damages, seed {given.seed}\n{table(counts)}\nfaults: {faults(counts)}")
    sys.exit(1 if faults(counts) else 0)


if __name__ == "__main__":
    main()
