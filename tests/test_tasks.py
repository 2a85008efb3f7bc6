"""Tasks: what each must do that is one, and that nothing outside of them asks which one a run is of."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from torch import nn

from conftest import Octavo
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.progress import silent
from octavo.recipe import load, shipped
from octavo.registry import TASKS
from octavo.tasks.base import Task
from octavo.tasks.known import accepted, flags_of, recognised, scoring, subject_of, task_of, tasks

SOURCES = Path(__file__).parents[1] / "src" / "octavo"
ASKS = re.compile(
    r"isinstance\([^)]*(Segment|Classify)[A-Za-z]*\b|recipe_as\(|\.task *(==|!=|in )|task *== *|"
    r"in \(?\"(classify|segment)\""
)
"""An expression that asks which task something is of."""


@dataclass(frozen=True)
class Case:
    """A task with a finished run of it, and the data that the run was trained on."""

    task: Task
    run: RunFolder
    data: Path
    predictions: str
    images: Path


@pytest.fixture(params=list(TASKS))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Each task with a small run, a copy that a test may write to."""
    name, folder, predictions, images = {
        "classify": ("trained", "digits_folder", "predictions/val.csv", "val_10"),
        "segment": ("segmented", "scenes_folder", "predictions/val", "validation"),
    }[request.param]
    done: RunFolder = request.getfixturevalue(name)
    data: Path = request.getfixturevalue(folder)
    run = RunFolder.open(shutil.copytree(done.path, tmp_path / "run"))
    return Case(tasks()[request.param], run, data, predictions, data / images)


def test_outside_of_the_tasks_hardly_anything_asks_for_them() -> None:
    found = [
        f"{path.relative_to(SOURCES)}:{number}: {line.strip()}"
        for path in sorted(SOURCES.rglob("*.py"))
        if path.relative_to(SOURCES).parts[0] != "tasks"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ASKS.search(line)
    ]
    assert len(found) <= 8, "\n".join(found)


def test_a_registered_task_loads_no_torch() -> None:
    code = (
        "import sys; from octavo.tasks.known import tasks; tasks(); print(*({'torch', 'matplotlib'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_shipped_recipes_are_of_a_task() -> None:
    for name in shipped():
        recipe = load(name)
        assert isinstance(recipe, task_of(recipe).recipe_type) and task_of(recipe).name == recipe.task


def test_its_recipe_and_its_report_are_those_of_its_runs(case: Case) -> None:
    assert case.task is task_of(case.run.recipe) and isinstance(case.run.recipe, case.task.recipe_type)
    metrics = case.run.metrics
    assert type(metrics) is case.task.report_type
    assert case.task.report_type.from_json(metrics.to_json()) == metrics
    assert case.task.tables(metrics, True) and case.task.name == metrics.task


def test_it_knows_its_data_and_its_predictions(case: Case) -> None:
    assert recognised(str(case.data)) is case.task
    assert scoring(case.run.path / case.predictions) is case.task
    known = {"classes": "course"} if "classes" in case.task.options["check"].flags else {}
    report = case.task.check(str(case.data), leaks=False, **known)
    shown = StringIO()
    report.show(Console(file=shown, width=120))
    assert report.ok and "ready to train on" in shown.getvalue()


def test_evaluation_of_the_runs_own_images_gives_its_numbers(case: Case) -> None:
    assert case.task.evaluate(case.run) == case.run.metrics
    assert case.task.evaluate(case.run, data=case.data) == case.run.metrics
    with pytest.raises(UserError, match="--split"):
        case.task.evaluate(case.run, split="nosuch")


def test_scores_of_the_runs_own_predictions_give_its_headline(case: Case) -> None:
    score = case.task.score(case.run.path / case.predictions, str(case.run.path), silent, missing="refuse")
    assert case.task.score_type.from_json(score.to_json()) == score and case.task.score_tables(score)
    assert score.quoted.value == pytest.approx(case.run.metrics.quoted.value, abs=1e-12)


def test_its_networks_are_loaded_and_share_the_answer(case: Case) -> None:
    shares = case.task.shares(case.run)
    assert list(shares) == [network.name for network in case.run.recipe.networks]
    assert sum(shares.values()) == pytest.approx(1)
    for name in shares:
        net = case.task.network(case.run, name, "cpu")
        assert isinstance(net, nn.Module) and not net.training


def test_predictions_are_written_and_score_as_the_run_does(case: Case, run_cli: Octavo, tmp_path: Path) -> None:
    out = tmp_path / ("out.csv" if case.predictions.endswith(".csv") else "out")
    own = {"ids": False, "device": "cpu", "overwrite": False, "progress": silent}
    written = case.task.write_predictions(case.run, [case.images], out, **own)
    assert written.errors == 0 and written.count == case.run.metrics.n
    score = case.task.score(out, str(case.run.path), silent, missing="refuse")
    assert score.quoted.value == pytest.approx(case.run.metrics.quoted.value, abs=1e-3)


def test_what_a_report_reads_and_shows(case: Case) -> None:
    subject = subject_of(case.run, "cpu")
    sections = case.task.sections()
    assert {"history", "networks", "leaks", "confusion", "classes"} <= set(sections)
    drawn = sections["history"].draw(subject)
    assert drawn is not None and drawn.look.name == "history"
    summary = case.task.summary(subject)
    assert summary.headline.value and summary.purpose.startswith("to ") and summary.findings
    assert np.isfinite([row.share for ranking in summary.rankings for row in ranking.rows]).all()


def test_runs_of_it_are_compared(case: Case, tmp_path: Path) -> None:
    other = RunFolder.open(shutil.copytree(case.run.path, tmp_path / "other"))
    found = case.task.compare([case.run, other], ("run", "other"), silent)
    assert (found.n, found.task) == (case.run.metrics.n, case.task.name)
    assert [side.headline.value for side in found.runs] == [case.run.metrics.quoted.value] * 2


def test_its_networks_are_described_and_estimated(case: Case) -> None:
    recipe = case.run.recipe
    text = case.task.describe(recipe, recipe.networks, len(case.run.manifest["classes"]), 1)
    assert all(network.name in text for network in recipe.networks)
    for network in recipe.networks:
        built = case.task.anatomy(recipe, network, 3)
        assert all(p.device.type == "meta" for p in built.net.parameters())
        assert case.task.extractor(network, recipe) is not None


@pytest.mark.parametrize("command", ["check", "evaluate", "predict", "score"])
def test_options_of_other_tasks_are_refused(case: Case, command: str, run_cli: Octavo, tmp_path: Path) -> None:
    own, flags = case.task.options[command], flags_of(command)
    places = {
        "check": [case.data],
        "evaluate": [case.run.path],
        "predict": [case.run.path, case.images, "--out", tmp_path / "out.csv"],
        "score": [case.run.path / case.predictions, "--truth", case.run.path],
    }
    values = {"sets": ["lac"], "coverage": ["0.9"], "rule": ["voc"], "classes": ["course"], "scales": ["1"],
              "labels": ["x.csv"], "write_classes": ["x.toml"], "member": ["x"], "overlay": ["0.5"], "window": ["64"],
              "overlap": ["8"]}  # fmt: skip
    others = {name: flag for name, flag in flags.items() if name not in own.flags}
    for name, flag in others.items():
        code, _, err = run_cli(command, *places[command], flag, *values.get(name, []))
        assert (code, err) == (2, f"error: {flag}: means nothing for {own.of}; leave it away\n")
        with pytest.raises(UserError, match=re.escape(flag)):
            accepted(case.task, command, {name: 1})
    assert others and accepted(case.task, command, dict.fromkeys(own.flags, 1)) == dict.fromkeys(own.flags, 1)
