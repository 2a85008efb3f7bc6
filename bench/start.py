"""Seconds until a command answers: Octavo's help and first prediction, beside imports and a peer's help.

    python bench/start.py RUN IMAGE [--member NAME] [--repeats 5]     # pip install octavo[bench]

RUN is a finished run of classifiers. Every command is a process of its own, all of them in turns, files in the page
cache and modules compiled (even where PYTHONDONTWRITEBYTECODE is set) after one round that isn't counted; the median is
shown. Peers that aren't installed are left out, and said so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from sides import guarded, machine


def main() -> None:
    """Time all commands and print their seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("image")
    parser.add_argument("--member")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    scripts, python = Path(sys.executable).parent, sys.executable
    member = ["--member", given.member] if given.member else []
    out = ["--out", f"{tempfile.mkdtemp()}/labels.csv"]
    commands = {
        "octavo --help": [str(scripts / "octavo"), "--help"],
        "octavo predict, one image": [str(scripts / "octavo"), "predict", given.run, given.image, *member, *out],
        "import torchvision": [python, "-c", "import torchvision"],
        "import fastai.vision.all": [python, "-c", "import fastai.vision.all"],
        "yolo --help": [str(scripts / "yolo"), "--help"],
    }
    for name, module in (("import fastai.vision.all", "fastai"), ("yolo --help", "ultralytics")):
        if find_spec(module) is None:
            print(f"{name}: {module} is not installed")
            del commands[name]
    print(machine("fastai", "ultralytics"))
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(given.repeats + 1):
        for name, words in commands.items():
            start = time.perf_counter()
            subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=env)
            seconds[name].append(time.perf_counter() - start)
    for name, found in seconds.items():
        print(f"{name:28} {statistics.median(found[1:]):6.2f} s")


if __name__ == "__main__":
    guarded(main)
