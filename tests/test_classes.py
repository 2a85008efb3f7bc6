"""Tables of classes: those that are shipped, and how mistakes in a user's own are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from octavo.data.classes import ClassEntry, ClassTable, dumps, load_table, shipped
from octavo.errors import UserError

GOOD = """
[[classes]]
id = 3
name = "wood"
color = [0, 100, 0]

[[classes]]
id = 1
name = "field"
color = [200, 200, 0]
scored = false

[[classes]]
id = 255
name = "void"
ignored = true
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", shipped())
def test_shipped_tables_hold_what_they_must(name: str) -> None:
    table = load_table(name)
    assert table.name == name
    assert len(set(table.names)) == len(table.names) == len(table.colours) == len(table.scored)
    assert len(np.unique(table.colours, axis=0)) == len(table.names)
    assert [e.value for e in table.trained] == sorted(e.value for e in table.trained)
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table
    assert not any(tuple(c) == e.colour for c in table.colours.tolist() for e in table.entries if e.ignored)


@pytest.mark.parametrize("name", shipped())
def test_a_table_survives_its_toml(name: str, tmp_path: Path) -> None:
    table = load_table(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(dumps(table))
    assert load_table(path) == table
    path.write_text(dumps(table, [f"note {k}" for k in range(len(table.entries))]))
    assert load_table(path) == table


def test_the_references_tables() -> None:
    course, deepglobe = load_table("course"), load_table("deepglobe")
    land = ("urban", "agriculture", "rangeland", "forest", "water", "barren")
    assert course.names == (*land, "unknown")
    assert deepglobe.names == land
    # The colours as REFERENCE.md prints them.
    shades = [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]
    assert course.colours.tolist() == [list(c) for c in shades]
    assert deepglobe.colours.tolist() == [list(c) for c in shades[:6]]
    assert course.scored.tolist() == [True] * 6 + [False]
    assert deepglobe.scored.all()
    assert (deepglobe.void_colour, load_table("voc").void_colour) == ((0, 0, 0), (224, 224, 192))


def test_counts_and_ids_of_the_others() -> None:
    camvid, voc, cityscapes = load_table("camvid"), load_table("voc"), load_table("cityscapes")
    assert ([e.value for e in camvid.trained], camvid.names[3], camvid.names[10]) == (
        list(range(11)), "road", "bicyclist"
    )  # fmt: skip
    assert [e.value for e in camvid.entries if e.ignored] == [11]
    assert [e.value for e in voc.trained] == list(range(21))
    assert (voc.names[0], voc.names[15], [e.value for e in voc.entries if e.ignored]) == ("background", "person", [255])
    trained = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert [e.value for e in cityscapes.trained] == trained
    assert {e.value for e in cityscapes.entries} == {*range(34), 255}


def test_vocs_colours_are_those_of_its_colour_map() -> None:
    """The development kit's VOCcolormap, as it is published: bit k of a channel comes from bit 3j + c of the id."""
    table = load_table("voc")
    for entry in table.entries:
        rest, colour = entry.value, [0, 0, 0]
        for j in range(8):
            for c in range(3):
                colour[c] |= ((rest >> c) & 1) << (7 - j)
            rest >>= 3
        assert list(entry.colour) == colour


def test_channels_go_by_value_and_flags_are_kept(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, GOOD))
    assert (table.name, table.names, table.scored.tolist()) == ("mine", ("field", "wood"), [False, True])
    assert table.colours.tolist() == [[200, 200, 0], [0, 100, 0]]
    assert table.colours.dtype == np.uint8
    assert table.entries[2] == ClassEntry("void", 255, (0, 0, 0), ignored=True)
    assert [table.channel(e) for e in table.entries] == [1, 0, 255]
    assert ClassTable("x", table.entries[:2]).void_colour == (0, 0, 0)


def test_names_need_no_care(tmp_path: Path) -> None:
    names = ['a "b" \\ c', "tab\there", "ünï\x7f", "line\nbreak"]
    entries = tuple(ClassEntry(name, k, (k, 0, 0)) for k, name in enumerate(names))
    path = write(tmp_path, "")
    path.write_text(dumps(ClassTable("mine", entries)), encoding="utf-8")
    assert load_table(path).names == tuple(names)


WRONG = {
    "id = 300\nname = 'a'\ncolor = [1, 2, 3]": "classes[0].id: input should be less than or equal to 255, got 300",
    "id = -1\nname = 'a'\ncolor = [1, 2, 3]": "classes[0].id: input should be greater than or equal to 0, got -1",
    "id = 1\nname = 'a'\ncolor = [1, 2, 256]": "[0].color[2]: input should be less than or equal to 255, got 256",
    "id = 1\nname = 'a'\ncolor = [1, 2]": "classes[0].color[2]: required, but not given",
    "id = 1\nname = ''\ncolor = [1, 2, 3]": "classes[0].name: string should have at least 1 character, got ''",
    "id = 1\nname = 'a'\ncolour = [1, 2, 3]": 'classes[0].colour: unknown key; did you mean "color"?',
    "id = 1\nname = 'a'": "classes[0].color: required, but not given; only an ignored class may do without",
    "name = 'a'\ncolor = [1, 2, 3]": "classes[0].id: required, but not given",
    "id = 1\nname = 'a'\ncolor = [1, 2, 3]\nignored = true": "every class is ignored; nothing is left to train",
    "id = 1\nname = 'a'\ncolor = [1, 2, 3]\nscored = false": (
        "classes: no trained class is scored; a mean over nothing says nothing"
    ),
}


@pytest.mark.parametrize("body", WRONG)
def test_mistakes_are_told_with_their_path(body: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"[[classes]]\n{body}\n")
    with pytest.raises(UserError) as caught:
        load_table(path)
    told = str(caught.value).split("\n")
    assert any(line.startswith(f"{path}: classes") and line.endswith(WRONG[body]) for line in told)


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ("id = 1\nname = 'b'\ncolor = [4, 5, 6]", "classes[1].id: 1 is that of classes[0] already"),
        ("id = 2\nname = 'a'\ncolor = [4, 5, 6]", 'classes[1].name: "a" is that of classes[0] already'),
        ("id = 2\nname = 'b'\ncolor = [1, 2, 3]", "classes[1].color: [1, 2, 3] is that of classes[0] already"),
        ("id = 2\nname = 'b'\ncolor = [1, 2, 3]\nignored = true", "classes[1].color: [1, 2, 3] is that of classes[0]"),
    ],
)
def test_doubles_are_refused(second: str, line: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"[[classes]]\nid = 1\nname = 'a'\ncolor = [1, 2, 3]\n[[classes]]\n{second}\n")
    with pytest.raises(UserError) as caught:
        load_table(path)
    assert f"{path}: {line}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_black_is_the_colour_of_an_ignored_class_without_one(tmp_path: Path) -> None:
    body = "[[classes]]\nid = 0\nname = 'a'\ncolor = [0, 0, 0]\n[[classes]]\nid = 255\nname = 'void'\nignored = true\n"
    with pytest.raises(UserError, match=r"classes\[1\].color: \[0, 0, 0\] is that of classes\[0\] already"):
        load_table(write(tmp_path, body))
    two = "[[classes]]\nid = 254\nname = 'other'\nignored = true\n"
    assert len(load_table(write(tmp_path, GOOD + two)).entries) == 4  # ignored classes may share it


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    body = "id = 1\nname = 'a'\ncolor = [1, 2, 999]\n[[classes]]\nid = 1\nname = 'a'\nscore = true\ncolor = [1, 2, 3]\n"
    with pytest.raises(UserError) as caught:
        load_table(write(tmp_path, f"[[classes]]\n{body}"))
    lines = str(caught.value).split("\n")
    assert len(lines) == 4
    for part in ("color[2]: input", "[1].score: unknown key", "[1].id: 1 is that", '[1].name: "a" is that'):
        assert sum(part in line for line in lines) == 1


def test_too_many_classes(tmp_path: Path) -> None:
    blocks = [f"[[classes]]\nid = {k}\nname = 'c{k}'\ncolor = [{k}, 0, 0]\n" for k in range(255)]
    assert len(load_table(write(tmp_path, "".join(blocks[:254]))).names) == 254
    with pytest.raises(UserError, match="255 classes to train; at most 254 fit in a mask"):
        load_table(write(tmp_path, "".join(blocks)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"classes: required, but not given; expected \[\[classes\]\] with id"),
        ("[[klasses]]\nid = 1\n", 'klasses: unknown key; did you mean "classes"'),
        ("classes = []\n", "classes: tuple should have at least 1 item"),
        ("classes = 3\n", "classes: input should be a valid tuple, got 3"),
        ("[[classes\n", "not a readable TOML file"),
    ],
)
def test_files_that_are_no_table(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        load_table(write(tmp_path, text))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='classes: no table and no file "camvd"; did you mean "camvid"'):
        load_table("camvd")
    with pytest.raises(UserError, match=r"classes: no file .*absent\.toml"):
        load_table(tmp_path / "absent.toml")
