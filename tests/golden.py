"""Compares this tree with another commit, byte by byte: `python tests/golden.py COMMIT`; exit code 1: they differ.

One scripted session (`golden_session.py`) runs with the `src` of COMMIT, in a worktree of its own, and with this
tree's, on this machine, in one and the same folder: it trains classifiers and segmenters from fixed seeds, frozen and
fine-tuned, and uses what came out by the command line and the public API. Compared are all files of the runs (weights,
histories, metrics, predictions, masks, data of the report's sections), transcripts with exit codes, and the API.
Nothing is stored, since another processor rounds otherwise.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

TREE = Path(__file__).resolve().parents[1]
PARTS = ("train", "transcripts", "api")

EXPECTED: dict[str, str] = {
    "octavo check *": "check exits with 1, and not with 2, where training would refuse the data",
    "*(evaluate-rule-of-classifier)": "options of another task are refused by one mechanism, in the same words",
}
"""Deliberate differences: pattern of what is compared (as in fnmatch) → why. They are shown and not counted."""
RENAMED: dict[str, str] = {
    r"0\.7(?:5)? if they share a part": "0.7 or 0.75 if they share a part",
}
"""Deliberately changed wording: regular expression in old and new texts → what both are taken to say."""

UNSTABLE = (
    (r"about (?:[\d.]+ )?(?:s|min|h|a minute|\d+ \w+)\b", "about TIME"),
    (r"[\d.]+ of [\d.]+ GiB free disk", "DISK"),
    (r"[\d.]+ GiB of memory", "MEMORY"),
    (r"[\d.,]+ (?:ms|µs|s|min|h)\b", "TIME"),
    (r"[\d.,]+ (?:images|pixels)/s\b", "SPEED"),
    (r"[\d.]+ × as fast", "FACTOR as fast"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::[\d.]+)?\S*", "DATE"),
    (r"[\d.]+ (?:KiB|MiB|GiB)", "SIZE"),
    (r"\b[0-9a-f]{12,64}\b…?", "HASH"),
)
"""What differs from one hour or version to the next in texts, and what it is taken to say."""
TIMED = ("ensemble-cascade", "ensemble-precision")
"""Transcripts whose tables hold measured times: their numbers aren't compared."""
UNSTABLE_KEYS = ("sha256", "code", "octavo", "files", "seconds", "measured", "cores", "samples", "recipe", "hardware")
"""Keys of JSON files whose values are hashes, versions and times."""
IGNORED = ("*.pdf", "transcripts/*", "cache/*", "*.png.tmp", "api.*")
"""Files of the session that are compared otherwise or not at all."""


@dataclass(frozen=True)
class Thing:
    """One thing that was compared: its name, and the first difference, empty where there is none."""

    name: str
    difference: str = ""

    @property
    def reason(self) -> str:
        """Why it may differ; empty where it may not."""
        return next((why for pattern, why in EXPECTED.items() if fnmatch.fnmatch(self.name, pattern)), "")


def normalise(text: str) -> str:
    """Return a text without what changes from one hour or version to the next."""
    for pattern, replacement in (*UNSTABLE, *RENAMED.items()):
        text = re.sub(pattern, replacement, text)
    return text


def numbers_in(text: str) -> str:
    """Return the numbers of a text, one a line; its words don't count."""
    return "\n".join(re.findall(r"(?<![A-Za-z_])[-+]?\d[\d.,]*(?<![.,])", text))


def first_difference(old: str, new: str) -> str:
    """Return the first line in which two texts differ, as both have it; empty where they are equal."""
    before, after = old.splitlines(), new.splitlines()
    for i in range(max(len(before), len(after))):
        pair = [lines[i] if i < len(lines) else "(ends)" for lines in (before, after)]
        if pair[0] != pair[1]:
            return f"line {i + 1}: {pair[0].strip()[:200]!r} → {pair[1].strip()[:200]!r}"
    return ""


def json_difference(old: Any, new: Any, where: str = "", words: bool = False) -> str:
    """Return the first place at which two JSON values differ; with `words`, texts and the order of keys don't count."""
    if isinstance(old, dict) and isinstance(new, dict):
        if not words and list(old) != list(new):
            return f"{where or 'keys'}: {list(old)} → {list(new)}"
        if words and len(old) != len(new):
            return f"{where or 'keys'}: {len(old)} → {len(new)}"
        pairs = zip(old.values(), new.values(), strict=True) if words else ((old[k], new[k]) for k in old)
        found = (
            json_difference(a, b, f"{where}.{k}", words)
            for k, (a, b) in zip(old, pairs, strict=True)
            if k not in UNSTABLE_KEYS
        )
        return next(filter(None, found), "")
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = (json_difference(a, b, f"{where}[{i}]", words) for i, (a, b) in enumerate(zip(old, new, strict=True)))
        return next(filter(None, found), "")
    if isinstance(old, str) and isinstance(new, str):
        read = numbers_in if words else str
        old, new = read(normalise(old)), read(normalise(new))
    return "" if old == new and type(old) is type(new) else f"{where}: {str(old)[:80]!r} → {str(new)[:80]!r}"


def arrays_difference(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> str:
    """Return the first array that differs in name, shape, type or bytes."""
    if old.keys() != new.keys():
        return f"arrays: only in one: {sorted(old.keys() ^ new.keys())[:5]}"
    for name, a in old.items():
        b = new[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"{name}: {a.shape} {a.dtype} → {b.shape} {b.dtype}"
        if a.tobytes() != b.tobytes():
            row = np.flatnonzero((a != b).ravel())
            return f"{name}: {len(row)} of {a.size} values" + (
                f", {a.flat[row[0]]} → {b.flat[row[0]]}" if a.size else ""
            )
    return ""


def file_difference(old: Path, new: Path, words: bool) -> str:
    """Return the first difference of two files of one name, by what they hold."""
    if old.read_bytes() == new.read_bytes():
        return ""
    if old.suffix == ".safetensors":
        return arrays_difference(load_file(old), load_file(new))
    if old.suffix == ".npz":
        return arrays_difference(dict(np.load(old)), dict(np.load(new)))
    if old.suffix == ".json":
        return json_difference(*(json.loads(p.read_text()) for p in (old, new)), words=words)
    if old.suffix == ".html" and words:
        return ""  # bound from the sections' data, which are compared by themselves
    if old.suffix in (".html", ".csv", ".toml", ".txt"):
        read = numbers_in if words else str
        return first_difference(*(read(normalise(p.read_text())) for p in (old, new)))
    return "" if words and old.parent.name == "plots" else "other bytes"


def compare_files(old: Path, new: Path, words: bool = False) -> Iterator[Thing]:
    """Compare all files that two sessions left, but for transcripts and cache."""
    found = [{str(p.relative_to(root)): p for p in sorted(root.rglob("*")) if p.is_file()} for root in (old, new)]
    for name in sorted(found[0] | found[1]):
        if any(fnmatch.fnmatch(name, pattern) for pattern in IGNORED):
            continue
        if name not in found[0] or name not in found[1]:
            yield Thing(name, "is gone" if name in found[0] else "is new")
        else:
            yield Thing(name, file_difference(found[0][name], found[1][name], words))


def compare_transcripts(old: Path, new: Path, words: bool = False) -> Iterator[Thing]:
    """Compare exit codes and what was printed, output and errors apart."""
    for code in sorted((old / "transcripts").glob("*.code")):
        texts = []
        for root in (old, new):
            parts = [
                (root / "transcripts" / code.name).with_suffix(end).read_text() for end in (".code", ".out", ".err")
            ]
            streams = [normalise(part) for part in parts[1:]]
            if words:
                streams = [numbers_in(part) for part in streams]
            if code.stem in TIMED:
                streams = [re.sub(r"[\d.,]+|[─━]+|  +", "#", part) for part in streams] if not words else []
            texts.append("\n".join((parts[0].splitlines()[-1], *streams)))
        yield Thing(
            f"octavo {parts[0].splitlines()[0].removeprefix('octavo ')} ({code.stem})", first_difference(*texts)
        )


def compare_api(old: Path, new: Path, words: bool = False) -> Iterator[Thing]:
    """Compare the names and signatures that `old` has, and what they answered; names that are new count as equal."""
    before, after = (json.loads((root / "api.json").read_text()) for root in (old, new))
    for name, signature in before.items():
        found = after.get(name, "(is gone)")
        yield Thing(f"api {name}", "" if found == signature else f"{signature} → {found}")
    yield Thing("api.npz", file_difference(old / "api.npz", new / "api.npz", words))


def compare(old: Path, new: Path, parts: set[str], words: bool = False) -> Iterator[Thing]:
    """Compare what two sessions left in their folders."""
    if "train" in parts:
        yield from compare_files(old, new, words)
    if parts & {"transcripts", "quick"}:
        yield from compare_transcripts(old, new, words)
    if "api" in parts:
        yield from compare_api(old, new, words)


def run_session(source: Path, folder: Path, parts: set[str]) -> None:
    """Run the session in `folder` with the Octavo of `source`."""
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "OCTAVO_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
        "MPLCONFIGDIR": str(folder.parent / "matplotlib"),
        "NO_COLOR": "1",
    }
    command = [sys.executable, str(Path(__file__).with_name("golden_session.py")), str(folder), *sorted(parts)]
    subprocess.run(command, env=environment, check=True, cwd=folder.parent)


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """Check `commit` out into `folder` as long as the context lasts."""
    git = ["git", "-C", str(TREE), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def run_both(commit: str, base: Path, parts: set[str]) -> None:
    """Leave the session of `commit` in `base`/old and this tree's in `base`/new; both ran in `base`/session."""
    with worktree(commit, base / "tree") as tree:
        for name, source in (("old", tree / "src"), ("new", TREE / "src")):
            began = time.monotonic()
            run_session(source, base / "session", parts)
            (base / "session").rename(base / name)
            print(f"{name}: {source}, {time.monotonic() - began:.0f} s", flush=True)


def main() -> int:
    """Compare, print a line for each thing, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what to compare this tree with")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas: train, transcripts, api")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave it there")
    parser.add_argument("--words", action="store_true", help="words may differ: compare exit codes and numbers alone")
    parser.add_argument("--quiet", action="store_true", help="leave the lines of what is equal away")
    asked = parser.parse_args()
    parts = set(asked.only.split(","))
    if not parts <= {*PARTS, "quick"}:
        parser.error(f"--only {asked.only}: expected some of {', '.join(PARTS)}")
    base = Path(asked.keep or tempfile.mkdtemp(prefix="golden-")).absolute()
    base.mkdir(parents=True, exist_ok=asked.keep is None)
    try:
        run_both(asked.commit, base, parts)
        things = list(compare(base / "old", base / "new", parts, asked.words))
    finally:
        if asked.keep is None:
            shutil.rmtree(base, ignore_errors=True)
    return summarise(things, asked.quiet)


def summarise(things: list[Thing], quiet: bool = False) -> int:
    """Print a line for each thing and a count; return 1 where one differs that may not."""
    for thing in things:
        verdict = "equal" if not thing.difference else f"expected ({thing.reason})" if thing.reason else "DIFFERS"
        if not quiet or verdict != "equal":
            print(f"{verdict}: {thing.name}" + (f": {thing.difference}" if thing.difference else ""))
    differing = [t for t in things if t.difference and not t.reason]
    allowed = sum(bool(t.difference and t.reason) for t in things)
    print(f"{len(things)} compared: {len(differing)} differ, {allowed} as expected")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
