"""Recipes: what is wrong is said at once, by path and nearest name; `--set`; TOML there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.errors import UserError
from octavo.networks.build import check_recipe, check_segmenter
from octavo.recipe import ClassifyRecipe, SegmentRecipe, Train, dumps, load, shipped

MINE = """
description = "two"
[train]
lr = 0.01
[[members]]
name = "a"
backbone = "resnet18"
head.hidden = [{ width = 8 }]
[[members]]
name = "b"
backbone = "vgg16"
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def refused(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    return str(caught.value).splitlines()


def test_a_file_is_named_for_itself(mine: Path) -> None:
    recipe = load(mine)
    assert (recipe.name, recipe.train.lr, len(recipe.members)) == ("mine", 0.01, 2)
    assert load(str(mine)) == recipe
    assert load(recipe) == recipe


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("""
seeed = 1
[train]
learning_rate = 1
epochs = 0
optimizer = "adan"
[data]
sise = 32
holdout = "much"
[[members]]
name = "a b"
backbone = "resnet18"
head.hidden = [{ width = 8, activation = "rellu", dropot = 0.1 }]
[[members]]
backbone = "vgg16"
poool = "avg"
""")
    lines = {line.removeprefix(f"{path}: ").split(": ", 1)[0]: line for line in refused(path)}
    expected = {
        "seeed": 'unknown key; did you mean "seed"?',
        "train.learning_rate": "unknown key; expected one of: ",
        "train.epochs": "greater than or equal to 1, got 0",
        "train.optimizer": 'unknown "adan"; did you mean "adam"?',
        "data.sise": 'unknown key; did you mean "size"?',
        "data.holdout": "valid number",
        "members[0].name": "got 'a b'",
        "members[0].head.hidden[0].activation": 'unknown "rellu"; did you mean "relu"?',
        "members[0].head.hidden[0].dropot": 'unknown key; did you mean "dropout"?',
        "members[1].name": "required, but not given",
        "members[1].poool": 'unknown key; did you mean "pool"?',
    }
    assert set(lines) == set(expected)
    for key, words in expected.items():
        assert words in lines[key]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("members[1].name=a", 'members[1].name: "a" is used twice'),
        ("ensemble.weights.c=1", 'ensemble.weights: unknown member "c"'),
        ("ensemble.combine=weighted", "needs a weight above zero"),
        ("data.holdout=0", 'ensemble.combine = "greedy" chooses on held-out'),
        ("augment.crop=[0.9, 0.1]", "expected [low, high], got [0.9, 0.1]"),
        ("train.nesterov=true", None),
        ("train={nesterov=true, momentum=0.0}", 'nesterov: needs optimizer = "sgd" and a momentum above 0'),
        ("train={nesterov=true, optimizer='adam'}", 'nesterov: needs optimizer = "sgd"'),
        ("members=[]", "members: tuple should have at least 1 item"),
        ("data={size=7}", "data.size: input should be greater than or equal to 8, got 7"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: str, words: str | None, mine: Path) -> None:
    if words is None:
        assert load(mine, [change]).train.nesterov
    else:
        assert words in "\n".join(refused(mine, change))


@pytest.mark.parametrize("key", ["patience=3", 'keep="best"'])
def test_choosing_needs_held_out_images(key: str, mine: Path) -> None:
    lines = refused(mine, f"train.{key}", "data.holdout=0", "ensemble.combine=mean_logit")
    assert f"train.{key.replace('=3', '').replace('=', ' = ')} chooses on held-out" in lines[0]


def test_cached_features_exclude_random_augmentation(mine: Path) -> None:
    frozen, flip = "train.mode=frozen", "augment.hflip=0.5"
    assert "train.views = 4" in refused(mine, frozen, flip)[0]
    for mended in ("train.views=4", "train.cache=false", "augment.hflip=0", "train.mode=finetune"):
        load(mine, [frozen, flip, mended])
    refused(mine, "members[1].mode=frozen", flip)
    for key in ("mixup", "cutmix"):
        assert "can't be mixed" in refused(mine, frozen, f"augment.{key}=1.0", "train.views=4")[0]
        load(mine, [frozen, f"augment.{key}=1.0", "train.cache=false"])


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("train.epochs=3", "train.epochs", 3),
        (" train.lr = 1e-4 ", "train.lr", 1e-4),
        ("train.optimizer=adamw", "train.optimizer", "adamw"),
        ('train.optimizer="adamw"', "train.optimizer", "adamw"),
        ("train.nesterov=true", "train.nesterov", True),
        ("augment.crop=[0.5, 1.0]", "augment.crop", (0.5, 1.0)),
        ("members[1].lr=0.5", "members.1.lr", 0.5),
        ("members[0].head.hidden[0].width=9", "members.0.head.hidden.0.width", 9),
        ("members[0].head.hidden=[]", "members.0.head.hidden", ()),
        ("ensemble={combine='weighted', weights={a=1, b=2}}", "ensemble.weights", {"a": 1.0, "b": 2.0}),
        ("train.precision=32", "train.precision", "32"),
        ("members[0].weights=/a/b=c.pth", "members.0.weights", "/a/b=c.pth"),
        ("description=", "description", ""),
        ("description=a, b and 'c'", "description", "a, b and 'c'"),
        ("seed=7", "seed", 7),
    ],
)
def test_set(change: str, path: str, value: Any, mine: Path) -> None:
    for source in (mine, load(mine)):
        found: Any = load(source, [change])
        for part in path.split("."):
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        assert found == value


def test_a_later_set_wins(mine: Path) -> None:
    assert load(mine, ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.epochs", "expected KEY=VALUE such as train.epochs=3"),
        ("=3", "expected KEY=VALUE"),
        ("train..epochs=3", "expected KEY=VALUE"),
        ("members[x].lr=1", "expected KEY=VALUE"),
        ("members[2].lr=1", "no item [2]; the list has 2, counted from 0"),
        ("members.lr=1", "write members[0].lr"),
        ("members.head.norm=batch", "write members[0].head"),
        ("train.lr.x=1", '"x" has no place in a list'),
        ("train.lr[0]=1", "no item [0]"),
        ("train.epoch=3", 'train.epoch: unknown key; did you mean "epochs"?'),
        ("tarin.epochs=3", 'tarin: unknown key; did you mean "train"?'),
        ("train.epochs=three", "train.epochs: input should be a valid integer"),
        ("members[0].backbone=3", "members[0].backbone: input should be a valid string, got 3"),
        ("seed=-1", "seed: input should be greater than or equal to 0"),
    ],
)
def test_set_of_what_is_not_there(change: str, words: str, mine: Path) -> None:
    lines = refused(mine, change)
    assert len(lines) == 1
    assert words in lines[0]


def test_all_mistakes_of_all_sets_are_told_at_once(mine: Path) -> None:
    assert refused(mine, "a", "nonsense") == [
        f"--set {change}: expected KEY=VALUE such as train.epochs=3 or members[2].lr=1e-4"
        for change in ("a", "nonsense")
    ]
    changes = ("train.epochs=4", "members[7].lr=1", "train.lr[0]=1", "train.epoch=3", "a", "members[0].poool=avg")
    lines = refused(mine, *changes)
    assert [line.split(": ")[0 if line.startswith("--set") else 1] for line in lines] == [
        "--set members[7].lr=1", "--set train.lr[0]=1", "--set a", "train.epoch", "members[0].poool"
    ]  # fmt: skip
    assert [line.split(": ", 1)[0] for line in refused(mine, "a", "task=clasify")] == ["--set a", str(mine)]


def test_an_override_that_fails_has_no_followers(mine: Path) -> None:
    """`data.holdout=0` needs another combination, which the second override would have named."""
    assert refused(mine, "data.holdout=0", "ensemble.combine") == [
        "--set ensemble.combine: expected KEY=VALUE such as train.epochs=3 or members[2].lr=1e-4"
    ]


@pytest.mark.parametrize("task", ["clasify", "3"])
def test_an_unknown_task_is_refused(mine: Path, task: str) -> None:
    (line,) = refused(mine, f"task={task}")
    assert line.startswith(f'{mine}: task: unknown "{task}"; ')


def test_unknown_recipes_and_files(tmp_path: Path) -> None:
    for name, words in (
        ("octett", 'did you mean "octet"?'),
        ("./octet", 'did you mean "octet"?'),
        (str(tmp_path / "a.toml"), "no file"),
    ):
        with pytest.raises(UserError, match="recipe: ") as caught:
            load(name)
        assert words in str(caught.value)
    for content in (b"a = ", b"\xff\xfe", b"a = 1\na = 2"):
        (tmp_path / "odd.toml").write_bytes(content)
        with pytest.raises(UserError, match="not a readable TOML file"):
            load(tmp_path / "odd.toml")


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_load_build_and_come_back(name: str, tmp_path: Path) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.description
    if isinstance(recipe, SegmentRecipe):
        check_segmenter(recipe, len(given) if isinstance(given := recipe.train.class_weights, tuple) else 7)
    else:
        assert isinstance(recipe, ClassifyRecipe)
        assert set(check_recipe(recipe, 50)) == {m.name for m in recipe.members}
    (tmp_path / "copy.toml").write_text(dumps(recipe), encoding="utf-8")
    assert load(tmp_path / "copy.toml") == recipe


def test_everything_comes_back_from_toml(tmp_path: Path) -> None:
    recipe = ClassifyRecipe.model_validate(
        {
            "name": "all",
            "description": "ü \"q\" \\ 'x'\nline",
            "seed": 2**32 - 1,
            "data": {"stored": None, "size": 40},
            "augment": {"crop": (0.25, 1.0), "ratio": (0.5, 2.0), "brightness": (0.1, 1.9)},
            "train": {"class_weights": (1.0, 2.5, 0.0), "lr": 1e-7, "checkpoint_minutes": 0.1},
            "ensemble": {"combine": "weighted", "weights": {"a.b": 1, "c": 0}},
            "members": [
                {"name": "a.b", "backbone": "resnet18", "lr": None, "size": 33, "epochs": 3},
                {"name": "c", "backbone": "vgg16", "head": {"hidden": [{"width": 3, "dropout": 0.1}, {"width": 4}]}},
            ],
        }
    )
    (tmp_path / "x.toml").write_text(dumps(recipe), encoding="utf-8")
    again = load(tmp_path / "x.toml")
    assert again == recipe
    assert again.data.stored is None
    assert again.members[0].lr is None
    assert again.train.class_weights == (1.0, 2.5, 0.0)
    assert dumps(again) == dumps(recipe)


def test_a_members_own_settings_go_over_the_recipes(mine: Path) -> None:
    recipe = load(mine, ["members[1].lr=0.5", "members[1].backbone_lr=0", "members[1].size=96"])
    first, second = recipe.members
    assert recipe.train_of(first) == recipe.train
    assert recipe.train_of(second) == Train.model_validate(recipe.train.model_dump() | {"lr": 0.5, "backbone_lr": 0.0})
    assert [recipe.size_of(m) for m in recipe.members] == [224, 96]
    assert recipe.stored_side == 256
