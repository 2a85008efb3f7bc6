"""What several test modules share: real images written to a folder, and a cache of the test's own."""

from __future__ import annotations

import os

# Before torch is loaded: where other work runs too, threads that wait for each other cost ten times more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

if TYPE_CHECKING:
    from octavo.engine.folder import RunFolder

SMALL = """\
name = "small"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none", holdout = 0.25}
train = {epochs = 4, batch_size = 20, optimizer = "adam", lr = 1e-3, reestimate_norm = true}
[[members]]
name = "vgg"
backbone = "vgg11"
weights = "none"
pool = "avg"
mode = "frozen"
epochs = 40
head.hidden = [{width = 256}]
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
[[members]]
name = "mobile"
backbone = "mobilenet_v3_small"
weights = "none"
"""
"""A recipe of three small members, one of them frozen with cached features."""


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's handwritten 8×8 digits in the reference's flat form: ten classes of 16 + 4 images."""
    root, digits = tmp_path_factory.mktemp("digits"), load_digits()
    for label in range(10):
        for i, row in enumerate(np.flatnonzero(digits.target == label)[:20]):
            path = root / ("train_10" if i < 16 else "val_10") / f"{label}_{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).save(path)
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder that Octavo takes by itself."""
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> RunFolder:
    """A finished run of SMALL on the digits; tests that write into it work on a copy."""
    from octavo.options import Options
    from octavo.verbs.training import train

    folder = tmp_path_factory.mktemp("small")
    (folder / "small.toml").write_text(SMALL)
    options = Options(out=folder / "run", cache=folder / "cache", device="cpu")
    return train(folder / "small.toml", digits_folder, (), options)
