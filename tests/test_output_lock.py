"""Two processes that write to one place: the second is refused, and the lock of a killed one is free."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import Octavo
from octavo.engine.folder import RunFolder
from octavo.errors import NotWritten, UserError
from octavo.networks.checksums import SUMS
from octavo.networks.pack import pack
from octavo.output_lock import locked_output
from octavo.recipe import load
from octavo.tasks.classification.prediction import errors_path
from octavo.tasks.classification.predictor import ClassPredictor

HOLD = """\
import sys
from pathlib import Path
from octavo.output_lock import locked_output
with locked_output(map(Path, sys.argv[1:]), "--out"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(*files: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of these files until its input ends."""
    command = [sys.executable, "-c", HOLD, *map(str, files)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.communicate()


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def refused(out: Path) -> str:
    why = "another process is writing there; wait until it has ended, or choose another place"
    return f"error: --out {out}: {why}\n"


@pytest.mark.parametrize(
    ("trained_run", "folder", "images", "out", "loaded", "written"),
    [
        ("trained", "digits_folder", "val_10/3_*.png", "a.csv", "classification.predictor.ClassPredictor", set()),
        (
            "segmented",
            "scenes_folder",
            "validation/0001_sat.jpg",
            "masks",
            "segmentation.predictor.MaskPredictor",
            {"masks/0001_sat.png"},
        ),
    ],
)
def test_second_of_two_predictions_into_one_place_is_refused_at_once(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    run_cli: Octavo,
    tmp_path: Path,
    trained_run: str,
    folder: str,
    images: str,
    out: str,
    loaded: str,
    written: set[str],
) -> None:
    run, place = request.getfixturevalue(trained_run), tmp_path / "new" / out
    words = ["predict", run.path, *request.getfixturevalue(folder).glob(images), "--out", place]
    load, second = importlib.import_module(f"octavo.tasks.{loaded.rpartition('.')[0]}"), []
    own = getattr(load, loaded.rpartition(".")[2]).__init__

    def while_loading(*given: object, **named: object) -> None:
        """Start the second process when the first is about to load its networks."""
        command = [sys.executable, "-m", "octavo", *map(str, words)]
        second.append(subprocess.run(command, capture_output=True, text=True, check=False))
        own(*given, **named)

    monkeypatch.setattr(getattr(load, loaded.rpartition(".")[2]), "__init__", while_loading)
    code, _, _ = run_cli(*words)
    assert [(done.returncode, done.stdout, done.stderr) for done in second] == [(2, "", refused(place))]
    assert code == 0
    assert everything(tmp_path / "new") == {out, *written}


def test_tables_of_one_stem_share_their_list_of_errors(
    run_cli: Octavo, trained: RunFolder, digits_folder: Path, tmp_path: Path
) -> None:
    with held(tmp_path / "a.csv", errors_path(tmp_path / "a.csv")):
        code, _, told = run_cli("predict", trained.path, digits_folder, "--out", tmp_path / "a.txt")
    assert code == 2 and "another process is writing there" in told
    assert everything(tmp_path) <= {"cache"}


def test_python_is_refused_alike(trained: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    found = ClassPredictor(trained, "cpu").predict(sorted((digits_folder / "val_10").iterdir())[:1])
    with held(tmp_path / "a.csv"), pytest.raises(UserError, match="another process is writing there"):
        found.write(tmp_path / "a.csv")
    assert not everything(tmp_path)
    found.write(tmp_path / "a.csv")
    assert everything(tmp_path) == {"a.csv"}


def test_weights_are_packed_by_one_process_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path / SUMS), pytest.raises(UserError, match="another process is writing there"):
        pack(load("demo"), tmp_path)
    pack(load("demo"), tmp_path)
    assert not everything(tmp_path)


def test_lock_of_a_killed_process_is_free_and_goes_with_the_next(tmp_path: Path) -> None:
    with held(tmp_path / "masks" / "errors.csv") as process:
        process.kill()
        process.wait()
    assert len(everything(tmp_path)) == 2  # folder and lock
    with locked_output([tmp_path / "masks" / "errors.csv"], "--out"):
        (tmp_path / "masks" / "a.png").touch()
    assert everything(tmp_path) == {"masks", "masks/a.png"}


def test_folders_made_for_a_lock_go_where_nothing_was_written(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="no images"),
        locked_output([tmp_path / "a" / "b" / ("x" * 249 + ".csv")], "--out"),
    ):
        raise UserError("no images")
    assert not everything(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(NotWritten, match=r"a\.csv: can't be written"), locked_output([tmp_path / "a.csv"], "--out"):
            pass
    finally:
        tmp_path.chmod(0o700)
