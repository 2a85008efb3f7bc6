"""The gate before training: twins of scored images are said, kept, and scored with and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score

from octavo.engine.folder import RunFolder
from octavo.looks.leaks import leaks
from octavo.looks.subject import ClassifySubject
from octavo.numbers.results import Report
from octavo.options import Options
from octavo.recipe import ClassifyRecipe
from octavo.tasks import leakage as gate
from octavo.tasks.classification.check import check
from octavo.verbs.training import train
from test_leaks import textured

RECIPE = ClassifyRecipe.model_validate(
    {
        "name": "t",
        "data": {"size": 32, "stored": 64, "normalize": "none", "holdout": 0.25},
        "train": {"mode": "frozen", "epochs": 1, "batch_size": 8},
        "members": [{"name": "m", "backbone": "squeezenet1_1", "weights": "none"}],
    }
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes with eight training and four validation images each; one of the latter is a mirrored training one."""
    for split, each, first in (("train", 8, 0), ("val", 4, 1000)):
        for label, name in enumerate("ab"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(each):
                textured(first + 100 * label + i).save(tmp_path / "data" / split / name / f"{i}.png")
    twin = textured(102).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    twin.save(tmp_path / "data" / "val" / "b" / "3.png")
    return tmp_path / "data"


def test_twins_are_said_kept_and_left_out(data: Path, tmp_path: Path, cache: Path) -> None:
    said: list[str] = []
    run = train(RECIPE, data, (), Options(out=tmp_path / "run", cache=cache, device="cpu"), say=said.append)
    (told,) = [line for line in said if line.startswith("beware:")]
    assert "1 of 8 images of val have a twin" in told and "val/b/3.png = train/b/2.png (flipped)" in told
    assert run.leaks is not None and run.leaks["searched"] == {"val": 8, "train": 16}
    assert [(p["first"], p["second"], p["kind"]) for p in run.leaks["pairs"]] == [
        ("val/b/3.png", "train/b/2.png", "flipped")
    ]
    report = run.metrics
    assert isinstance(report, Report) and report.without_twins is not None
    clean = report.without_twins
    assert (clean.twins, clean.n, clean.kinds) == (1, 7, {"flipped": 1})
    own = np.array([file != "val/b/3.png" for file in run.files("val")])
    answer = run.ensemble.logits(np.stack([run.member("m").outputs()["val"]])).argmax(1)
    assert clean.metrics["accuracy"].value == pytest.approx(accuracy_score(run.labels("val")[own], answer[own]))
    assert any("on the 7 images without such a twin the accuracy is" in warning for warning in report.warnings)
    drawn = leaks(ClassifySubject(run, "cpu"))
    assert drawn is not None and "leaks.png" in drawn.figures and "1 flipped" in drawn.look.sees
    assert drawn.look.tables[0].rows[0][:2] == ("val/b/3.png", "validation")


def test_training_takes_what_check_found(data: Path, tmp_path: Path, cache: Path) -> None:
    assert [(near.files, near.kind) for near in check(data, cache=cache).near] == [
        (("val/b/3.png", "train/b/2.png"), "flipped")
    ]
    done: list[str] = []

    def progress(what: str, *rest: object) -> None:
        done.append(what)

    run = train(RECIPE, data, (), Options(out=tmp_path / "run", cache=cache, device="cpu"), progress=progress)
    assert run.leaks is not None and len(run.leaks["pairs"]) == 1
    assert done and not any("leaks" in what for what in done)


def test_nobody_looks_where_it_is_unwanted_or_too_long(
    data: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(name: str, wanted: bool | None, said: list[str]) -> RunFolder:
        options = Options(out=tmp_path / name, cache=cache, device="cpu")
        return train(RECIPE, data, (), replace(options, leaks=wanted), say=said.append)

    run = trained("unwanted", False, [])
    assert run.leaks is None and run.metrics.without_twins is None and leaks(ClassifySubject(run, "cpu")) is None
    monkeypatch.setattr(gate, "MOST", 100)
    said: list[str] = []
    assert trained("many", None, said).leaks is None
    assert any("128 pairs of images are too many to look for leaks in passing" in line for line in said)
    assert trained("asked", True, []).leaks is not None
