"""What the benchmarks share: sides that are processes of their own, slices of data, and a line on the machine."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from octavo.errors import UserError


def guarded(main: Callable[[], None]) -> None:
    """Run a benchmark; a mistake ends with one line and exit code 2."""
    try:
        main()
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def machine(*packages: str) -> str:
    """Return a line that says on what, and with which packages, a benchmark runs."""
    from octavo.engine.hardware import find

    found = find().describe()
    names = ("torch", "torchvision", *packages)
    versions = ", ".join(f"{name} {there}" for name in names if (there := _version(name)))
    return f"{found['processor']}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def limits(device: torch.device | None = None) -> str:
    """Return the measured rates of matrix products and of copying memory: what nothing here can be faster than."""
    from octavo.engine.hardware import matrix_rate

    device = device or torch.device("cpu")
    rates = [matrix_rate(device, bf16) / 1e9 for bf16 in (False, True)]
    copied = copy_rate(device) / 1e9
    return f"matrix products {rates[0]:.0f} GFLOP/s float32, {rates[1]:.0f} bfloat16; copying {copied:.1f} GB/s"


def copy_rate(device: torch.device) -> float:
    """Return the bytes per second that are read and written in copying 1 GiB, the best of five."""
    source = torch.zeros(256 << 20, device=device)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(5):
        start = time.perf_counter()
        target.copy_(source)
        target[0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def cpu_seconds(words: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, float, str]:
    """Run a command; return its CPU seconds (user + system), its seconds, and what it printed.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    assert process.stdout
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(f"{' '.join(words)} failed")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start, out


def octavo(*words: str) -> tuple[float, float, str]:
    """Run a command of Octavo as `cpu_seconds` does."""
    return cpu_seconds([sys.executable, "-m", "octavo", *words])


def report_of(run: Path) -> dict:
    """Return a run's metrics.json."""
    return json.loads((run / "metrics.json").read_text())


def slice_of(data: Path, folder: Path, images: Mapping[str, int]) -> Path:
    """Write a CSV of the first images of each class of data in the course's form, as many of each class as fit."""
    rows = []
    for split, wanted in images.items():
        files = sorted(next(data.glob(f"{split}*")).glob("*.png"))
        classes = {path.stem.split("_")[0] for path in files}
        taken: Counter[str] = Counter()
        for path in files:
            label = path.stem.split("_")[0]
            if taken[label] < wanted // len(classes):
                taken[label] += 1
                rows.append({"image": str(path), "label": label, "split": split})
    table = folder / "slice.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return table
