"""Training by several processes: the same steps as by one, and the member comes back whole."""

from __future__ import annotations

import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from octavo.bars import Bars
from octavo.data.readers import read
from octavo.data.store import ImageDecoder, Pixels, build
from octavo.engine import fit
from octavo.engine.checkpoint import Stop
from octavo.engine.feature_file import Computation, FeatureFile
from octavo.engine.features import Features
from octavo.errors import DiskFull, UserError
from octavo.options import Options
from octavo.progress import Interrupted
from octavo.recipe import ClassifyRecipe
from octavo.run import Run
from octavo.verbs.training import train

# squeezenet has no batch norm, whose statistics would be each process's own; 130 images are five even batches of 26
RECIPE = ClassifyRecipe.model_validate(
    {
        "name": "ddp",
        "data": {"size": 32, "resize": "stretch", "normalize": "none", "holdout": 0.2},
        "train": {"epochs": 2, "batch_size": 26, "lr": 0.02, "ema": 0.5, "keep": "best", "patience": 5},
        "members": [{"name": "m", "backbone": "squeezenet1_1", "weights": "none"}],
    }
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides", [("train.head_epochs=1",), ("train.mode=frozen", "train.cache=false")], ids=["finetune", "frozen"]
)
def test_two_processes_train_as_one(
    overrides: tuple[str, ...], digits_folder: Path, tmp_path: Path, cache: Path
) -> None:
    runs = [
        Run(train(RECIPE, digits_folder, overrides, Options(out=tmp_path / str(n), device="cpu", devices=n)).path)
        for n in (1, 2)
    ]
    one, two = ([line.split(",") for line in (r.folder / "history.csv").read_text().splitlines()] for r in runs)
    assert one[0] == two[0]
    assert len(two) == 3
    np.testing.assert_allclose(
        np.array(two[1:])[:, 1:].astype(float), np.array(one[1:])[:, 1:].astype(float), atol=2e-4
    )
    first, second = (r.members["m"].state_dict() for r in runs)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0.05, atol=3e-3)


def test_batches_too_small_for_the_devices_are_refused(digits_folder: Path, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=r"train\.batch_size: batches of 3 on 2 devices; expected 4 or more"):
        train(RECIPE, digits_folder, ("train.batch_size=3",), Options(out=tmp_path / "run", device="cpu", devices=2))


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        ("\noctavo.errors.UserError: /x: No space left on device; …", 0, UserError),
        (f"\noctavo.errors.DiskFull: {DiskFull('/x: full')}", 0, DiskFull),
        ("\noctavo.progress.Interrupted: stopped by signal 15", 15, Interrupted),
        ("\nValueError: of our own", 0, ProcessRaisedException),
    ],
)
def test_what_a_child_raises_is_raised_as_what_it_was(text: str, number: int, expected: type[Exception]) -> None:
    stop = Stop()
    stop.signal = number
    with pytest.raises(expected) as caught, fit._children(stop):
        raise ProcessRaisedException(f"-- Process 1 terminated with the following error:\nTraceback{text}\n", 1, 4711)
    if expected is UserError:
        assert str(caught.value) == "/x: No space left on device; …"
    if expected is DiskFull:
        assert str(caught.value) == str(DiskFull("/x: full"))
    if expected is Interrupted:
        assert caught.value.signal == signal.SIGTERM  # type: ignore[attr-defined]


def _ask_to_stop(stop: Stop) -> None:
    stop.signal = 15


@pytest.mark.slow
def test_processes_share_the_wish_to_stop() -> None:
    stop = Stop()
    process = torch.multiprocessing.get_context("spawn").Process(target=_ask_to_stop, args=(stop,))
    process.start()
    process.join()
    assert stop.signal == 15


def test_images_and_features_travel_by_name(digits_folder: Path, tmp_path: Path) -> None:
    pixels = build(read(digits_folder), ImageDecoder(8), tmp_path / "cache")
    sent = pickle.dumps(pixels)
    assert len(sent) < 1000
    copy: Pixels = pickle.loads(sent)
    np.testing.assert_array_equal(copy.batch([3, 199])[0], pixels.batch([3, 199])[0])

    (tmp_path / "features").mkdir()
    computed = Computation(tmp_path / "features", (2, 300, 10))
    computed.array[:] = np.arange(6000, dtype=np.float32).reshape(2, 300, 10)
    computed.finish()
    in_file = FeatureFile(tmp_path / "features")
    for stored, limit in ((in_file, 1000), (np.ones((1, 4, 2), np.float32), 9999)):
        views = stored.whole() if isinstance(stored, FeatureFile) else stored
        sent = pickle.dumps(Features(stored, 7))
        assert len(sent) < limit
        again: Features = pickle.loads(sent)
        assert again.seed == 7
        np.testing.assert_array_equal(again.views, views)
    assert isinstance(pickle.loads(pickle.dumps(Bars())), Bars)
