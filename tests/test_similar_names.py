"""Classes whose names differ only in how they are written: `check` and `train` say so in a line, in both tasks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import SCENES, Octavo
from octavo.data.similar_names import similar_names
from octavo.progress import silent
from octavo.recipe import load
from octavo.registry import task_named

ONE = """\
data = {size = 32, stored = 8, normalize = "none", holdout = 0}
train = {epochs = 1}
[[members]]
name = "one"
backbone = "squeezenet1_1"
weights = "none"
"""
SAY = "differ only in how they are written: "


@pytest.mark.parametrize(
    "names",
    ["cat Cat", "sea_lion|sea lion", "sea-lion|Sea  Lion", "1 1.0", "01 1", "-2 -2.", "straße STRASSE", "a\u00a0b|a b",
     "cat\u200b cat", "ﬁsh fish", " cat|cat"],
)  # fmt: skip
def test_ways_of_writing_one_name(names: str) -> None:
    first, second = names.split("|" if "|" in names else " ")
    (warning,) = similar_names("data", [first, "other", second])
    assert warning.startswith("data: ") and f'{SAY}"{first}" and "{second}"; where' in warning


@pytest.mark.parametrize("names", ["1 -1 11 1.1 +-1 1-1 10 100", "C C# C++", "a b ab", "x_1 x_2 x_11", "cat cats"])
def test_other_names(names: str) -> None:
    assert similar_names("data", names.split()) == ()


def test_many_are_one_line() -> None:
    names = [f"{letter * 2}\n" for letter in "abcdefgABCDEFG"]
    (warning,) = similar_names("data", names)
    assert warning.count("\n") == 0 and warning.count(" and ") == 5 and '"ee\\n" and "EE\\n"; …; ' in warning


@pytest.mark.parametrize("form", ["table", "folders"])
def test_check_and_train_warn_of_labels(form: str, run_cli: Octavo, digits_folder: Path, tmp_path: Path) -> None:
    data, recipe = tmp_path / "data", tmp_path / "small.toml"
    rows = []
    for path in sorted((digits_folder / "train_10").glob("[01]_*.png")):
        name = ("Cat" if int(path.stem[2:]) % 2 else "cat") if path.name[0] == "0" else "dog"
        place = data / (name if form == "folders" else "images") / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        rows.append(f"images/{path.name},{name} \n")
    if form == "table":
        (data / "labels.csv").write_text("image,label\n" + "".join(rows))
    if len(list(data.iterdir())) == 2 and form == "folders":
        pytest.skip("this file system takes cat and Cat for one name")
    code, out, err = run_cli("check", data)
    assert code == 0 and " ".join(out.split()).count(f'{SAY}"Cat" and "cat"') == 1, out + err
    recipe.write_text(ONE)
    code, out, err = run_cli("train", recipe, "--data", data, "--out", tmp_path / "run", "--no-report")
    warning = f'warning: {data}: these names are classes of their own, but {SAY}"Cat" and "cat"'
    assert code == 0 and err.count(warning) == 1, err


def test_check_and_train_warn_of_a_table_of_classes(
    run_cli: Octavo, scenes_folder: Path, tmp_path: Path, cache: Path
) -> None:
    shipped = (Path(similar_names.__code__.co_filename).parents[1] / "classes" / "course.toml").read_text()
    table, recipe = tmp_path / "classes.toml", tmp_path / "scenes.toml"
    table.write_text(shipped.replace('"barren"', '"Water"'))
    _, out, err = run_cli("check", scenes_folder, "--classes", table)
    assert " ".join(out.split()).count(f'{SAY}"water" and "Water"') == 1, out + err
    recipe.write_text(SCENES.replace('"course"', f'"{table}"'))
    read, own = task_named("segment"), load(recipe)
    found = read.load_data(own, str(scenes_folder), None, cache, skip_broken=False, progress=silent)
    assert [SAY in warning for warning in found.warnings] == [True]  # the terminal shows all of them
