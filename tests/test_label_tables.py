"""Tables beside images: how they are written, how names are found, which columns are read, and `--columns`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from octavo.data.image_names import ImageNames, prefix_of
from octavo.data.pairs import read_pairs
from octavo.data.readers import read
from octavo.data.tables import delimiter_of, read_table
from octavo.data.torchvision_data import holds_masks
from octavo.errors import UserError
from octavo.options import Options
from octavo.tasks.classification.check import check
from octavo.tasks.classification.score import score

DOT = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


def make(root: Path, files: Iterable[str]) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(DOT)
    return root


def put(root: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text.encode(encoding))
    return root / name


def labels(root: Path, layout: str | None = None, columns: str | None = None) -> dict[str, str]:
    samples = read(root, layout, columns)
    return {file: samples.classes[i] for file, i in zip(samples.files, samples.labels, strict=True)}


def refusal(root: Path, layout: str | None = None, columns: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read(root, layout, columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FOUR = ["part_1/a.png", "part_1/b.png", "part_2/c.png", "part_2/d.png"]
WANTED = dict(zip(FOUR, "xyxy", strict=True))


@pytest.mark.parametrize(
    "name, text",
    [
        ("t.csv", "{h0},{h1}\n{a},x\n{b},y\n{c},x\n{d},y\n"),
        ("t.csv", "{h0};{h1}\n{a};x\n{b};y\n{c};x\n{d};y\n"),
        ("t.tsv", "{h0}\t{h1}\r\n{a}\tx\r\n{b}\ty\r\n{c}\tx\r\n{d}\ty\r\n"),
        ("t.txt", "{h0}|{h1}\n{a}|x\n{b}|y\n{c}|x\n{d}|y\n"),
        ("t.txt", "{a} x\n{b} y\n{c} x\n{d} y\n"),
        ("t.csv", '"{h1}","{h0}"\n"x","{a}"\n"y","{b}"\n"x","{c}"\n"y","{d}"\n'),
        ("t.jsonl", '{{"{h0}":"{a}","{h1}":"x"}}\n{{"{h1}":"y","{h0}":"{b}"}}\n{{"{h0}":"{c}","{h1}":"x"}}\n'
                    '{{"{h0}":"{d}","{h1}":"y"}}\n'),
        ("t.json", '[{{"{h0}":"{a}","{h1}":"x"}},{{"{h0}":"{b}","{h1}":"y"}},{{"{h0}":"{c}","{h1}":"x"}},'
                   '{{"{h0}":"{d}","{h1}":"y"}}]'),
        ("t.json", '{{"{a}":"x","{b}":"y","{c}":"x","{d}":"y"}}'),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "cells",
    [" ".join(FOUR), "a.png b.png c.png d.png", "a b c d", " ".join(f"/far/{file}" for file in FOUR)],
)
@pytest.mark.parametrize("header", [("image", "label"), ("file_name", "target"), ("id", "breed")])
def test_every_way_of_writing_a_table(
    name: str, text: str, cells: str, header: tuple[str, str], tmp_path: Path
) -> None:
    make(tmp_path, FOUR)
    a, b, c, d = cells.split()
    put(tmp_path, name, text.format(h0=header[0], h1=header[1], a=a, b=b, c=c, d=d))
    assert labels(tmp_path) == WANTED
    assert labels(tmp_path / name) == WANTED


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_encodings(encoding: str, tmp_path: Path) -> None:
    make(tmp_path, ["é.png", "b.png"])
    put(tmp_path, "t.csv", "image,label\né.png,ü\nb.png,x\n", encoding)
    assert labels(tmp_path) == {"é.png": "ü", "b.png": "x"}


def test_a_table_in_another_encoding_is_refused_by_its_line(tmp_path: Path) -> None:
    make(tmp_path, FOUR)
    put(tmp_path, "t.csv", "file_name,kind\na.png,x\nb.png,é\nc.png,x\nd.png,x\n", "latin-1")
    said = refusal(tmp_path / "t.csv", None, "image=file_name,label=kind")
    assert "line 3: not a line of UTF-8 CSV; save the file as UTF-8" in said


def test_backslashes_and_drives(tmp_path: Path) -> None:
    make(tmp_path, FOUR)
    put(tmp_path, "t.csv", "path,label\npart_1\\a.png,x\n.\\part_1\\b.png,y\nC:\\d\\part_2\\c.png,x\nc:d.png,y\n")
    assert "line 5: no image" in refusal(tmp_path)
    put(tmp_path, "t.csv", "path,label\npart_1\\a.png,x\n.\\part_1\\b.png,y\npart_2\\c.png,x\npart_2\\d.png,y\n")
    assert labels(tmp_path) == WANTED


def test_names_are_never_taken_for_images_elsewhere(tmp_path: Path) -> None:
    make(tmp_path, ["s1/a.png", "s2/b.png", "s3/a.png"])
    names = ImageNames(tmp_path)
    assert names.find("s1/a.png") == ("s1/a.png",)
    assert names.find("a") == names.find("a.png") == ("s1/a.png", "s3/a.png")
    assert names.find("s2/a.png") == ()
    assert names.find("x/s3/a") == ("s3/a.png",)
    assert names.find("a.jpg") == names.find("") == names.find("..") == names.find("a\0") == ()
    assert (prefix_of("x/s3/a", "s3/a.png"), prefix_of("a", "s3/a.png")) == ("x", "")
    assert (names.near("S2\\B.JPG"), names.near("b.dcm"), names.near("s1/b.png")) == (("s2/b.png",),) * 2 + ((),)
    put(tmp_path, "t.csv", "image,label\na.png,x\nb.png,y\n")
    assert 'line 2: image "a.png" may be s1/a.png or s3/a.png; give its path' in refusal(tmp_path / "t.csv")


@pytest.mark.parametrize("ending", ["PNG", "dcm", "jpg"])
def test_other_endings_are_never_ignored(ending: str, tmp_path: Path) -> None:
    make(tmp_path, FOUR)
    put(
        tmp_path,
        "t.csv",
        "id,dx\n" + "".join(f"{name}.{ending},{label}\n" for name, label in zip("abcd", "xyxy", strict=True)),
    )
    assert f'line 2: no image "a.{ending}" in {tmp_path} (is it "part_1/a.png"?); 4 of 4 are missing' in refusal(
        tmp_path
    )


def test_paths_from_two_other_places_are_refused(tmp_path: Path) -> None:
    make(tmp_path, ["a.png", "b.png"])
    put(tmp_path, "t.csv", "image,label\none/a.png,x\ntwo/b.png,y\n")
    assert 'line 3: paths begin with "one" and with "two", which aren\'t here' in refusal(tmp_path)


def test_what_was_read_and_what_was_left_out_is_said(tmp_path: Path) -> None:
    make(tmp_path, [*FOUR, "part_3/e.png"])
    file = put(tmp_path, "t.csv", "id,dx,age\na,x,5\nb,y,5\nc,x,5\nd,y,5\n")
    assert [p.text for p in read(tmp_path).problems] == [
        f"{file}: read with the columns image=id,label=dx (--columns names others)",
        f"{file}: 1 of 5 images here aren't in it and are left out (first: part_3/e.png)",
    ]


def test_columns_that_are_named(tmp_path: Path) -> None:
    make(tmp_path, FOUR)
    text = "Key,Sex,Site,part\na,m,arm,train\nb,f,arm,train\nc,m,leg,val\nd,f,leg,val\n"
    file = put(tmp_path, "t.csv", text)
    said = refusal(tmp_path)
    assert (
        "which column is the class (Sex, Site); its header is Key,Sex,Site,part; give --columns image=Key,label=COLUMN"
        in said
    )
    for root in (tmp_path, file):
        samples = read(root, None, "image=Key,label=site")
        assert (samples.classes, samples.layout, samples.own_split) == (("arm", "leg"), "csv", False)
    assert read(tmp_path, None, "image=Key,label=Sex,split=part").own_split
    assert labels(tmp_path, None, "image=Key,label=Sex") == dict(zip(FOUR, "mfmf", strict=True))
    assert 'no column "Sexx" in' in refusal(file, None, "image=Key,label=Sexx")
    assert 'did you mean "Sex"?' in refusal(tmp_path, None, "image=Key,label=Sexx")
    assert "expected image=COLUMN,label=COLUMN" in refusal(tmp_path, None, "label=Sex")
    assert "leave --layout folders out" in refusal(tmp_path, "folders", "image=Key,label=Sex")
    assert read(tmp_path, "folders").classes == ("part_1", "part_2")


def test_one_hot_columns_that_are_named(tmp_path: Path) -> None:
    make(tmp_path, FOUR)
    put(tmp_path, "t.csv", "id,A,B,old\na,1,0,1\nb,0,1,1\nc,1.0,0,0\nd,0,1,1\n")
    assert labels(tmp_path, None, "image=id,label=A+B") == dict(zip(FOUR, "ABAB", strict=True))
    put(tmp_path, "t.csv", "id,A,B,old\na,1,0,1\nb,1,1,1\nc,1.0,0,0\nd,0,1,1\n")
    assert "line 3: 2 classes are marked; expected one" in refusal(tmp_path, None, "image=id,label=A+B")


def test_a_table_above_the_images_is_asked_about(tmp_path: Path) -> None:
    make(tmp_path, [f"imgs/{file}" for file in FOUR])
    file = put(tmp_path, "meta.csv", "image_id,dx\na,x\nb,y\nc,x\nd,y\n")
    assert f"{file}: names 4 images here" in (said := refusal(tmp_path / "imgs"))
    assert said.endswith(f"the table needs --data {file}")
    assert labels(file) == {f"imgs/{name}": label for name, label in WANTED.items()}
    assert labels(tmp_path) == labels(file)


def test_predictions_above_a_folder_of_classes_do_not_matter(tmp_path: Path) -> None:
    make(tmp_path, [f"data/{name}/{i}.png" for name in "xy" for i in range(3)])
    put(
        tmp_path,
        "out.csv",
        "image_id,label\n" + "".join(f"{n}/{i}.png,{'xy'[i % 2]}\n" for n in "xy" for i in range(3)),
    )
    assert read(tmp_path / "data").layout == "folders"


def test_a_table_of_masks_by_content(tmp_path: Path) -> None:
    make(tmp_path, [f"{half}/{i}.png" for half in ("x", "y") for i in "abcd"])
    put(tmp_path, "t.csv", "img;gt\nx\\a.png;y\\a.png\nx\\b.png;y\\b.png\nx\\c.png;y\\c.png\nx\\d.png;y\\d.png\n")
    pairs = read_pairs(tmp_path)
    assert (pairs.files, pairs.masks) == (tuple(f"x/{i}.png" for i in "abcd"), tuple(f"y/{i}.png" for i in "abcd"))
    assert "read with the columns image=img,mask=gt" in pairs.problems[0].text
    assert holds_masks(tmp_path)
    put(tmp_path, "t.csv", "one,two\nx/a.png,y/a.png\nx/b.png,y/b.png\nx/c.png,y/c.png\nx/d.png,y/d.png\n")
    with pytest.raises(UserError, match="not which column is the image and which the mask"):
        read_pairs(tmp_path)
    assert read_pairs(tmp_path, None, "image=two,mask=one").masks[0] == "x/a.png"
    assert holds_masks(tmp_path, None, "image=two,mask=one")
    assert not holds_masks(tmp_path, None, "image=two,label=one")
    put(tmp_path, "t.csv", "image,label\nx/a.png,y/a.png\nx/b.png,y/b.png\n")
    assert "its labels are files, such as y/a.png" in refusal(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "name, text",
    [
        ("t.csv", "sep=;\nimage;label\na.png;x\nb.png;y\nc.png;x\nd.png;y\n"),
        ("t.csv", "SEP=,\r\nimage,label\r\na.png,x\r\nb.png,y\r\nc.png,x\r\nd.png,y\r\n"),
        ("t.csv", "# made by hand\n# on Monday, in haste, at home\nimage,label\na.png,x\nb.png,y\nc.png,x\nd.png,y\n"),
        ("t.csv", "Ground truth of 2018\n\nimage,label\na.png,x\nb.png,y\nc.png,x\nd.png,y\n"),
        ("t.tsv", "image;label\na.png;x\nb.png;y\nc.png;x\nd.png;y\n"),
        ("t.tsv", "image,label\na.png,x\nb.png,y\nc.png,x\nd.png,y\n"),
        ("t.csv", "image,mel,nv\na,TRUE,FALSE\nb,FALSE,TRUE\nc,TRUE,FALSE\nd,FALSE,TRUE\n"),
        ("t.csv", "image,mel,nv,bkl\na,1,,\nb,,1,\nc,1,,\nd,,1,\n"),
        ("t.csv", "image,mel,nv\na,x,\nb,,X\nc,x,\nd,,x\n"),
        ("t.csv", "image,mel,nv\na,yes,no\nb,No,Yes\nc,yes,no\nd,no,yes\n"),
        ("t.csv", "image,mel,nv\na,1,-1\nb,-1,1\nc,1,-1\nd,-1,1\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be"])
def test_lines_above_the_header_and_marks_of_classes(name: str, text: str, encoding: str, tmp_path: Path) -> None:
    put(make(tmp_path, FOUR), name, text, encoding)
    found = labels(tmp_path, "csv")
    assert [found[file] for file in FOUR] in (["x", "y", "x", "y"], ["mel", "nv", "mel", "nv"])


@pytest.mark.parametrize(
    "files, text, why",
    [
        (
            "abcd",
            "image,mel,nv\na,.9,.1\nb,.2,.8\nc,.5,.5\nd,1,0\n",
            "one class of an image: they hold shares (mel, nv)",
        ),
        ("abcd", "image,mel,nv\na,100,0\nb,0,100\nc,0,100\nd,100,0\n", "give --columns image=image,label=mel to"),
        (("001", "002", "010", "011"), "id,label\n1,x\n2,y\n10,x\n11,y\n", "give --columns image=id,label=label"),
        ("abcd", "image,mel,nv\na,1,1\nb,0,0\nc,1,0\nd,0,1\n", "some have none or several (mel, nv)"),
    ],
)
def test_tables_that_are_asked_about_beside_folders(files: Sequence[str], text: str, why: str, tmp_path: Path) -> None:
    make(tmp_path, [f"{('berlin', 'paris')[i // 2]}/{file}.png" for i, file in enumerate(files)])
    put(tmp_path, "t.csv", text)
    assert why in refusal(tmp_path)
    assert set(labels(tmp_path, "folders").values()) == {"berlin", "paris"}


def test_odd_marks_zero_bytes_and_numbers_without_their_zeros_are_told_by_line(tmp_path: Path) -> None:
    put(make(tmp_path, FOUR), "t.csv", "image,mel,nv\na,1,0\nb,0,maybe\nc,1,0\nd,0,1\n")
    told = refusal(tmp_path, None, "image=image,label=mel+nv")
    assert 't.csv, line 3: "maybe" marks no class; expected 1 or 0' in told
    put(tmp_path, "t.csv", "# by hand\n\nimage,label\npart_1/a.png,x\npart_1/b.png,y\0\npart_2/c.png,x,\n")
    assert "t.csv, line 5: holds a zero byte" in refusal(tmp_path, "csv")
    put(make(tmp_path / "n", ["r/001.png", "s/002.png"]), "t.csv", "id,label\n1,x\n2,y\n")
    assert 'no image "1"' in refusal(tmp_path / "n", None, "image=id,label=label")
    assert '(is it "r/001.png"?)' in refusal(tmp_path / "n", None, "image=id,label=label")


def test_no_table(tmp_path: Path) -> None:
    for name, content in {"a.csv": b"", "b.csv": b"\0\1", "c.json": b"[" * 100_000, "d.json": b'{"a": [1]}',
                          "e.jsonl": b"{", "f.md": b"a,b\n", "g.csv": b" \n"}.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert read_table(tmp_path / name) is None
    assert [delimiter_of(line) for line in ("a,b;c,d", "a;b", '"a,b,c";d', "a\tb", "a")] == [",", ";", ";", "\t", ","]


def test_verbs_take_columns(tmp_path: Path) -> None:
    make(tmp_path, FOUR)
    put(tmp_path, "t.csv", "Key,Sex,Site\na,m,arm\nb,f,arm\nc,m,leg\nd,f,leg\n")
    columns = "image=Key,label=Site"
    assert check(tmp_path, columns=columns, leaks=False).classes == ("arm", "leg")
    made = put(tmp_path / "out", "p.csv", "image_id,label\npart_1/a.png,arm\npart_1/b.png,arm\n"
               "part_2/c.png,leg\npart_2/d.png,arm\n")  # fmt: skip
    found = score(made, tmp_path, columns=columns, replicates=10)
    assert found.accuracy.value == 0.75
    kept = Options(columns=columns).kept()
    assert Options().over(kept).columns == columns


@pytest.mark.parametrize(
    "name", ["labels.xlsx", "Book1.XLS", "x.ods", "train.parquet", "t.feather", "labels.csv.gz", "data.tsv.gz",
             "labels.json.zip", "imagelabels.mat", "y_train.npy", "annotations.pkl", "labels.zip", "meta.db"],
)  # fmt: skip
def test_tables_that_are_not_read_are_asked_about(name: str, tmp_path: Path) -> None:
    put(make(tmp_path, ["cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png"]), name, "?")
    told = refusal(tmp_path)
    assert told.startswith(f"{tmp_path / name}: ") and "not read, and may be a table of labels; " in told
    assert told.endswith("move it elsewhere, or give --layout folders to go without it")
    assert set(labels(tmp_path, "folders").values()) == {"cat", "dog"}
    assert f"1 {Path(name).suffix.lower()}" in check(tmp_path, leaks=False, layout="folders").unread
    with pytest.raises(UserError, match="may be a table of labels"):
        check(tmp_path, leaks=False)


def test_tables_that_are_not_read_are_asked_about_in_every_layout(tmp_path: Path) -> None:
    put(make(tmp_path / "split", [f"{s}/{c}/{s}{c}{i}.png" for s in ("train", "val") for c in "xy" for i in "12"]),
        "val/answers.xlsx", "?")  # fmt: skip
    assert "val/answers.xlsx: a spreadsheet, not read" in refusal(tmp_path / "split")
    put(make(tmp_path / "flat", ["cat_1.png", "cat_2.png", "dog_1.png", "dog_2.png"]), "labels.xlsx", "?")
    assert "--layout prefix to go without it" in refusal(tmp_path / "flat")
    put(make(tmp_path / "csv", FOUR), "t.csv", "image,label\n" + "".join(f"{f},{c}\n" for f, c in WANTED.items()))
    for name in ("a.xlsx", "b.parquet"):
        put(tmp_path / "csv", name, "?")
    told = refusal(tmp_path / "csv")
    assert "a.xlsx (and 1 more such file): a spreadsheet" in told and "--layout csv to go without it" in told
    assert labels(tmp_path / "csv", "csv") == labels(tmp_path / "csv", None, "image=image,label=label") == WANTED


def test_tables_that_are_not_read_are_asked_about_beside_masks(tmp_path: Path) -> None:
    put(make(tmp_path, [f"{kind}/{i}.png" for kind in ("images", "masks") for i in range(3)]), "pairs.xlsx", "?")
    with pytest.raises(UserError, match=r"pairs\.xlsx: a spreadsheet, not read, .* of images and masks") as error:
        read_pairs(tmp_path)
    layout = str(error.value).rpartition("--layout ")[2].split()[0]
    assert len(read_pairs(tmp_path, layout).files) == 3


@pytest.mark.parametrize(
    "text, asked",
    [
        ("a.png: x\nb.png: y\n", True),
        ("images:\n  - {file: dog/c.png, label: x}\n", True),
        ("a: x\nb: y\nc: x\n", True),
        ("names: [cat, dog]\ntrain: train\n", False),
        ("", False),
    ],
)
def test_yaml_is_asked_about_where_it_names_images(text: str, asked: bool, tmp_path: Path) -> None:
    put(make(tmp_path, ["cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png"]), "data.yaml", text)
    if asked:
        assert "data.yaml: a YAML file" in refusal(tmp_path)
    else:
        assert set(labels(tmp_path).values()) == {"cat", "dog"}


@pytest.mark.parametrize("name", ["labels.xlsx", "labels.csv.gz", "~$open.xlsx", ".labels.xlsx", "photos.zip", "r.pdf"])
def test_originals_of_a_csv_and_files_without_labels_are_not_asked_about(name: str, tmp_path: Path) -> None:
    put(make(tmp_path, FOUR), "labels.csv", "image,label\n" + "".join(f"{f},{c}\n" for f, c in WANTED.items()))
    put(tmp_path, name, "?")
    assert labels(tmp_path) == WANTED
