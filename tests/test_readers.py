"""Layouts: what is found, in which order, under which ids, and what is refused with which words."""

from __future__ import annotations

import io
import os
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octavo.data import walk
from octavo.data.readers import READERS, Samples, list_images, read
from octavo.errors import UserError

DOT = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
SHARED = Path(__file__).parents[2] / "shared" / "data"


def make(root: Path, files: Iterable[str]) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(DOT)
    return root


def listing(samples: Samples) -> dict[str, list[tuple[str, str]]]:
    return {split: [(samples.files[i], samples.classes[samples.labels[i]]) for i in index]
            for split, index in samples.splits.items()}  # fmt: skip


def refusal(root: Path, layout: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read(root, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CLASSES = ("cat", "dog")
SPLIT = [f"{split}/{name}/{i}.png" for split in ("train", "val") for name in CLASSES for i in range(2)]

EXAMPLES: dict[str, list[str]] = {
    "split-folders": SPLIT,
    "folders": [f"{name}/{i}.jpg" for name in CLASSES for i in range(3)],
    "prefix": [
        f"{split}_50/{c}_{i}.png" for split, n in (("train", 3), ("val", 1)) for c in range(12) for i in range(n)
    ],
    "csv": ["a.png", "b.png", "labels.csv"],
}


@pytest.mark.parametrize("layout", READERS)
def test_contract_of_every_layout(layout: str, tmp_path: Path) -> None:
    root = make(tmp_path / "data", EXAMPLES[layout])
    if layout == "csv":
        (root / "labels.csv").write_text("image,label\nb.png,dog\na.png,cat\n")
    samples = read(root)
    assert samples.layout == layout
    assert samples.root == str(root)
    assert [n for n, reader in READERS.items() if reader.matches(root)] == [layout]
    assert READERS[layout].form
    expected = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and p.suffix != ".csv")
    assert sorted(samples.files) == expected
    assert samples.labels.dtype == np.int64
    assert samples.labels.shape == (len(samples.files),)
    assert all(samples.path(i).is_file() for i in range(len(samples.files)))
    together = np.concatenate(list(samples.splits.values()))
    assert sorted(together.tolist()) == list(range(len(samples.files)))
    assert all((np.diff(index) > 0).all() and index.dtype == np.int64 for index in samples.splits.values())
    assert samples.own_split == ("val" in samples.splits)
    assert not samples.problems
    named = read(root, layout)
    assert (named.files, named.classes) == (samples.files, samples.classes)
    assert not [n for n, reader in READERS.items() if reader.matches(make(tmp_path / "none", ["notes.txt"]))]


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "train_50", "train2017"])
@pytest.mark.parametrize("val", ["val", "valid", "Validation", "VAL_50"])
def test_names_of_split_folders(train: str, val: str, tmp_path: Path) -> None:
    samples = read(make(tmp_path, [f"{s}/{c}/x.png" for s in (train, val, "test") for c in CLASSES]))
    assert {s: len(i) for s, i in samples.splits.items()} == {"train": 2, "val": 2, "test": 2}
    assert listing(samples)["val"] == [(f"{val}/cat/x.png", "cat"), (f"{val}/dog/x.png", "dog")]
    assert list(samples.splits) == ["train", "val", "test"]


def test_class_folders_may_be_nested_and_of_any_known_ending(tmp_path: Path) -> None:
    endings = ("jpg", "JPEG", "png", "webp", "BMP", "tif", "Tiff", "gif")
    files = [f"cat/deep/er/{i}.{ending}" for i, ending in enumerate(endings)]
    samples = read(make(tmp_path, [*files, "dog/1.png", "dog/notes.txt", "dog/2.svg"]))
    assert samples.layout == "folders"
    assert set(samples.files) == {*files, "dog/1.png"}
    assert samples.own_split is False
    assert set(samples.splits) == {"train"}


def test_reference_names(tmp_path: Path) -> None:
    samples = read(make(tmp_path, EXAMPLES["prefix"]))
    assert samples.classes == tuple(map(str, range(12)))
    assert all(
        samples.classes[label] == Path(f).stem.split("_")[0]
        for f, label in zip(samples.files, samples.labels, strict=True)
    )
    assert samples.files[:4] == ("train_50/0_0.png", "train_50/0_1.png", "train_50/0_2.png", "train_50/1_0.png")
    assert {s: len(i) for s, i in samples.splits.items()} == {"train": 36, "val": 12}


def test_flat_files_in_one_folder(tmp_path: Path) -> None:
    samples = read(make(tmp_path, ["big_cat_1.png", "big_cat_2.png", "dog_1.png", "dog_10.PNG", "dog_2.png"]))
    assert samples.layout == "prefix"
    assert samples.classes == ("big_cat", "dog")
    assert samples.files == ("big_cat_1.png", "big_cat_2.png", "dog_1.png", "dog_2.png", "dog_10.PNG")
    assert samples.own_split is False


def test_natural_order_of_classes(tmp_path: Path) -> None:
    names = ["10", "9", "100", "2", "01", "1"]
    assert read(make(tmp_path, [f"{n}/x.png" for n in names])).classes == ("01", "1", "2", "9", "10", "100")
    words = ["class10", "class2", "Zebra", "apple"]
    assert read(make(tmp_path / "w", [f"{n}/x.png" for n in words])).classes == ("Zebra", "apple", "class2", "class10")


def test_ids_come_from_training_alone(tmp_path: Path) -> None:
    """A class that val lacks shifts nothing; the labels equal those of a look-up by name."""
    samples = read(
        make(tmp_path, [*(f"train/{c}/{i}.png" for c in "abcd" for i in range(2)), "val/a/0.png", "val/d/0.png"])
    )
    assert samples.classes == ("a", "b", "c", "d")
    assert [(samples.files[i], int(samples.labels[i])) for i in samples.splits["val"]] == [
        ("val/a/0.png", 0),
        ("val/d/0.png", 3),
    ]
    (problem,) = samples.problems
    assert not problem.fatal
    assert '"b", "c"' in problem.text
    assert "val" in problem.text


@pytest.mark.parametrize("split", ["val", "test"])
def test_unknown_class_is_refused(split: str, tmp_path: Path) -> None:
    root = make(tmp_path, [*SPLIT, f"{split}/catt/7.png"])
    text = refusal(root)
    for part in (split, '"catt"', f"{split}/catt/7.png", 'did you mean "cat"?', "add it to train, or remove it"):
        assert part in text
    samples = read(root, strict=False)
    assert samples.classes == CLASSES
    assert samples.labels[samples.files.index(f"{split}/catt/7.png")] == -1
    assert [p.fatal for p in samples.problems if '"catt"' in p.text] == [True]


def test_unknown_class_in_reference_names_and_csv(tmp_path: Path) -> None:
    assert '"50"' in refusal(make(tmp_path / "flat", ["train_50/0_1.png", "train_50/1_1.png", "val_50/50_450.png"]))
    root = make(tmp_path / "csv", ["a.png", "b.png", "c.png"])
    (root / "labels.csv").write_text("image,label,split\na.png,x,train\nb.png,y,train\nc.png,z,val\n")
    assert 'val has class "z" (first: c.png)' in refusal(root)


@pytest.mark.parametrize("folder", ["train/empty", "empty"])
def test_empty_class_folder_is_refused(folder: str, tmp_path: Path) -> None:
    root = make(tmp_path, SPLIT if "/" in folder else EXAMPLES["folders"])
    (root / folder).mkdir()
    (root / folder / "readme.txt").touch()
    text = refusal(root)
    assert str(root / folder) in text
    assert "no image in this class folder" in text


def test_empty_class_folder_in_val_is_a_missing_class(tmp_path: Path) -> None:
    root = make(tmp_path, ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png"])
    (root / "val" / "dog").mkdir()
    samples = read(root)
    assert samples.classes == CLASSES
    assert "no image of 1 of 2 classes" in samples.problems[0].text


def test_empty_val_folder_is_not_passed_over(tmp_path: Path) -> None:
    for number, files in enumerate((SPLIT[:4], ["train/cat_1.png", "train/dog_1.png"])):
        root = make(tmp_path / str(number), files)
        (root / "val").mkdir()
        assert "val: no images in this folder" in refusal(root)


def test_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    for number, (files, stray) in enumerate(
        [(SPLIT, "train/x.png"), (SPLIT, "val/x.png"), (EXAMPLES["folders"], "x.png")]
    ):
        text = refusal(make(tmp_path / str(number), [*files, stray]))
        assert "1 image beside the class folders (first: x.png)" in text
        assert "move each into the folder of its class" in text


def test_unlabelled_test_images_are_left_out_with_a_word(tmp_path: Path) -> None:
    samples = read(make(tmp_path, [*SPLIT, "test/1.png", "test/2.png"]))
    assert set(samples.splits) == {"train", "val"}
    assert [p.fatal for p in samples.problems] == [False]
    assert "test: 2 images" in samples.problems[0].text


def test_images_and_folders_beside_the_splits_are_named(tmp_path: Path) -> None:
    samples = read(make(tmp_path, [*SPLIT, "preview.png"]))
    assert len(samples.files) == len(SPLIT)
    assert "preview.png" in samples.problems[0].text


@pytest.mark.parametrize("files, both", [
    ([*SPLIT, "extra/1.png"], ("split-folders", "folders")),
    ([*EXAMPLES["prefix"], "bird/1.png"], ("prefix", "folders")),
    ([*SPLIT, "labels.csv"], ("split-folders", "csv")),
    (["train/cat/1.png", "train/dog/1.png", "val/cat_1.png"], ("split-folders", "prefix")),
])  # fmt: skip
def test_mixed_layouts_are_refused_with_what_to_write(files: list[str], both: tuple[str, ...], tmp_path: Path) -> None:
    root = make(tmp_path, files)
    if (root / "labels.csv").exists():
        (root / "labels.csv").write_text("image,label\ntrain/cat/0.png,cat\ntrain/dog/0.png,dog\n")
    text = refusal(root)
    assert "more than one layout fits" in text
    assert all(f'layout "{name}"' in text for name in both)
    if "labels.csv" in files:
        assert read(root, "split-folders").own_split
        assert not read(root, "csv").own_split


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for number, names in enumerate(
        (("bus", "train", "car"), ("airport", "train_station"), ("train", "val_d_or", "boat"))
    ):
        samples = read(make(tmp_path / str(number), [f"{n}/{n}_{i}.png" for n in names for i in range(2)]), "folders")
        assert set(samples.classes) == set(names)
    assert read(tmp_path / "0").layout == "folders"
    assert read(tmp_path / "1").layout == "folders"


def test_splits_without_a_known_layout_are_not_taken_for_classes(tmp_path: Path) -> None:
    text = refusal(make(tmp_path / "a", ["train/a.png", "val/b.png"]))
    assert 'an image lies at "train/a.png"' in text
    assert "CLASS_INDEX.png" in text
    assert "no train folder beside" in refusal(
        make(tmp_path / "b", [f"{s}/{c}/1.png" for s in ("val", "test") for c in CLASSES])
    )


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    text = refusal(make(tmp_path, [*SPLIT, *(f"validation/{c}/1.png" for c in CLASSES)]))
    assert 'more than one val folder: "val", "validation"' in text


def test_names_without_a_class_are_refused(tmp_path: Path) -> None:
    text = refusal(make(tmp_path, ["train/0_1.png", "train/1_1.png", "train/IMG.png", "val/0_2.png"]))
    assert "1 file names tell no class (first: IMG.png); expected {class}_{index}, as in 17_452.png" in text


def test_one_class_is_refused(tmp_path: Path) -> None:
    assert 'only one class, "images"; a classifier needs two' in refusal(
        make(tmp_path, ["images/1.png", "images/2.png"])
    )


def test_missing_empty_and_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such folder or file" in refusal(tmp_path / "absent")
    assert "no images found" in refusal(make(tmp_path / "empty", ["notes.txt"]))
    assert "not a UTF-8 CSV file" in refusal(make(tmp_path, ["photo.png"]) / "photo.png")
    assert 'unknown "folder"; did you mean "folders"?' in refusal(tmp_path / "empty", "folder")
    assert 'nothing here fits layout "csv"' in refusal(make(tmp_path / "data", SPLIT), "csv")

    def deny(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(walk.os, "scandir", deny)
    assert "can't be read (permission denied)" in refusal(tmp_path / "data")


def test_litter_is_ignored(tmp_path: Path) -> None:
    litter = ["__MACOSX/train/cat/._0.png", ".cache/cat/1.png", "train/.hidden/1.png", "train/cat/.DS_Store",
              "train/cat/Thumbs.db", "train/cat/._0.png", "train/.DS_Store"]  # fmt: skip
    samples = read(make(tmp_path, [*SPLIT, *litter]))
    assert sorted(samples.files) == sorted(SPLIT)
    assert not samples.problems


@pytest.mark.timeout(20)
def test_links_in_circles_end_and_links_elsewhere_are_followed(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", ["1.png", "2.png"])
    root = make(tmp_path / "data", ["cat/1.png", "dog/1.png"])
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat")
    (root / "dog" / "to_cat").symlink_to(root / "bird")
    (root / "bird").symlink_to(outside)
    (root / "bird" / "again").symlink_to(outside)
    samples = read(root)
    assert samples.classes == ("bird", "cat", "dog")
    assert "bird/1.png" in samples.files
    assert list_images([root])


def test_a_link_to_nowhere_is_listed_and_a_pipe_is_not(tmp_path: Path) -> None:
    root = make(tmp_path, EXAMPLES["folders"])
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "cat" / "pipe.png")
    files = read(root).files
    assert "cat/gone.png" in files
    assert "cat/pipe.png" not in files


def test_unicode_names(tmp_path: Path) -> None:
    """Class names agree however é is written; files keep the name they have on disk."""
    nfd, nfc = unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "café")
    files = [f"train/{nfd}/ü 1,'\"=.png", "train/日本/=1.png", f"val/{nfc}/1.png", "val/日本/1.png"]
    samples = read(make(tmp_path, files))
    assert samples.classes == (nfc, "日本")
    assert sorted(samples.files) == sorted(files)
    assert not samples.problems


def test_names_that_are_not_utf8_still_work(tmp_path: Path) -> None:
    root = make(tmp_path, EXAMPLES["folders"])
    Path(os.fsdecode(os.fsencode(root / "cat") + b"/\xff.png")).write_bytes(DOT)
    samples = read(root)
    assert sum(samples.path(i).is_file() for i in range(7)) == 7
    assert len(samples.with_val(0.5, 0).splits["val"]) == 4


# ── CSV ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(root: Path, text: str | bytes, files: Iterable[str] = ("a.png", "b.png", "c d.png", "e,f.png")) -> Path:
    make(root, files)
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root / "labels.csv"


@pytest.mark.parametrize("image", ["image", "image_id", "file", "filename", "path", "Image"])
@pytest.mark.parametrize("label", ["label", "class", " LABEL"])
def test_csv_headers(image: str, label: str, tmp_path: Path) -> None:
    file = table(tmp_path, f"note,{label},{image}\n,dog,b.png\n,cat,a.png\n")
    for named in (file, tmp_path):
        samples = read(named)
        assert listing(samples) == {"train": [("a.png", "cat"), ("b.png", "dog")]}
        assert samples.path(0) == tmp_path / "a.png"
        assert samples.root == str(named)


@pytest.mark.parametrize("start, end", [(b"", b"\n"), (b"\xef\xbb\xbf", b"\r\n"), (b"", b"")])
def test_csv_quoting_bom_and_line_ends(start: bytes, end: bytes, tmp_path: Path) -> None:
    rows = ["image,label", '"e,f.png","a ""quoted"" class"', "c d.png, ünï ", '"a.png","two\nlines"', "./b.png,=1"]
    samples = read(table(tmp_path, start + (end or b"\n").join(r.encode() for r in rows) + end))
    named = {f: samples.classes[i] for f, i in zip(samples.files, samples.labels, strict=True)}
    assert named == {"e,f.png": 'a "quoted" class', "c d.png": "ünï", "a.png": "two\nlines", "b.png": "=1"}


def test_csv_splits(tmp_path: Path) -> None:
    rows = 'image,label,split\na.png,10,Train\nb.png,9,training\nc d.png,9,VALID\n\n"e,f.png",10,test\n'
    samples = read(table(tmp_path, rows))
    assert samples.classes == ("9", "10")
    assert listing(samples) == {"train": [("a.png", "10"), ("b.png", "9")], "val": [("c d.png", "9")],
                                "test": [("e,f.png", "10")]}  # fmt: skip
    assert samples.own_split


@pytest.mark.parametrize("rows, parts", [
    ("a.png,x\nb.png,\n", ("line 3", "no label")),
    ("a.png,x\n,y\n", ("line 3", "no image")),
    ("a.png,x\nb.png\n", ("line 3", "1 fields, expected 2")),
    ("a.png,x\ne,f.png,y\n", ("line 3", "3 fields, expected 2", "needs quotes")),
    ("a.png,x\nb.png,y\n./a.png,y\n", ("line 4", '"a.png" is already in line 2')),
    ("a.png,x\nno.png,y\nb.png,y\nnor.png,x\n", ("line 3", 'no image "no.png"', "2 of 4 are missing")),
    ('a.png,x\n"b.png,y\n', ("line 3", "not a line of UTF-8 CSV")),
    ('a.png,x\n"two\nlines.png",y\n', ("line 3", "no image")),
])  # fmt: skip
def test_csv_mistakes_are_named_by_line(rows: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    text = refusal(table(tmp_path, "image,label\n" + rows))
    assert all(part in text for part in ("labels.csv", *parts)), text


def test_csv_other_mistakes(tmp_path: Path) -> None:
    file = table(tmp_path / "s", "image,label,split\na.png,x,train\nb.png,y,dev\n")
    assert 'line 3: unknown split "dev"; expected train, val or test' in refusal(file)
    assert "no split" in refusal(table(tmp_path / "s", "image,label,split\na.png,x,train\nb.png,y,\n"))
    assert "whose first line is image,label" in refusal(table(tmp_path / "h", "picture,label\nq.png,x\n"))
    assert "no training images" in refusal(table(tmp_path / "0", "image,label\n"))
    latin = table(tmp_path / "l", "image,label\na.png,x\nb.png,é\n".encode("latin-1"))
    assert "UTF-8" in refusal(latin)
    (tmp_path / "s" / "more.csv").write_text("file,class\na.png,x\n")
    assert "more than one table of labels: labels.csv, more.csv" in refusal(tmp_path / "s")


def test_other_csv_files_beside_a_layout_do_not_matter(tmp_path: Path) -> None:
    root = make(tmp_path, SPLIT)
    (root / "history.csv").write_text("epoch,loss\n1,2\n")
    assert read(root).layout == "split-folders"


# ── Splits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def uneven(root: Path) -> Path:
    return make(
        root,
        [f"{name}/{i}.png" for name, n in {"one": 1, "two": 2, "ten": 10, "hundred": 100}.items() for i in range(n)],
    )


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.89])
@pytest.mark.parametrize("way", ["with_val", "holdout"])
def test_division_is_stratified(way: str, share: float, tmp_path: Path) -> None:
    samples = read(uneven(tmp_path))
    if way == "holdout":
        fit, held = samples.holdout(share, 0)
    else:
        split = samples.with_val(share, 0)
        assert split.own_split is False
        fit, held = split.splits["train"], split.splits["val"]
    assert sorted([*fit, *held]) == list(range(113))
    assert (np.diff(fit) > 0).all()
    assert (np.diff(held) > 0).all()
    count = {name: int((samples.labels[held] == i).sum()) for i, name in enumerate(samples.classes)}
    assert count["one"] == 0
    assert count["two"] == 1
    assert abs(count["hundred"] - 100 * share) <= 0.5 + 1e-9
    assert abs(count["ten"] - 10 * share) <= 0.95
    assert set(samples.labels[fit]) == {0, 1, 2, 3}


def test_division_depends_on_seed_and_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(uneven(tmp_path / "a")).with_val(0.3, 5)
    scandir = os.scandir

    class Backwards(list):
        def __enter__(self) -> list:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(walk.os, "scandir", lambda path: Backwards(reversed(list(scandir(path)))))
    again = read(uneven(tmp_path / "elsewhere")).with_val(0.3, 5)
    assert again.files == first.files
    np.testing.assert_array_equal(again.splits["val"], first.splits["val"])
    other = read(tmp_path / "a").with_val(0.3, 6).splits["val"]
    assert set(other) != set(first.splits["val"])


def test_val_and_holdout_are_drawn_independently(tmp_path: Path) -> None:
    samples = read(uneven(tmp_path))
    assert set(samples.holdout(0.3, 1)[1]) != set(samples.with_val(0.3, 1).splits["val"])
    split = samples.with_val(0.3, 1)
    fit, held = split.holdout(0.2, 1)
    assert not set(held) & set(split.splits["val"])
    assert sorted([*fit, *held]) == split.splits["train"].tolist()


def test_holding_nothing_out(tmp_path: Path) -> None:
    samples = read(uneven(tmp_path / "a"))
    fit, held = samples.holdout(0, 0)
    assert len(held) == 0
    np.testing.assert_array_equal(fit, samples.splits["train"])
    single = read(make(tmp_path / "b", ["cat/1.png", "dog/1.png"]))
    for way in (single.with_val, single.holdout):
        with pytest.raises(UserError, match="no class has two training images"):
            way(0.2, 0)


def test_a_test_part_stays_apart_from_a_made_validation_part(tmp_path: Path) -> None:
    samples = read(make(tmp_path, [f"{s}/{c}/{i}.png" for s in ("train", "test") for c in CLASSES for i in range(4)]))
    assert samples.own_split is False
    split = samples.with_val(0.25, 0)
    assert {s: len(i) for s, i in split.splits.items()} == {"train": 6, "test": 8, "val": 2}
    assert all(samples.files[i].startswith("train/") for i in split.splits["val"])


# ── Lists of images ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_list_images(tmp_path: Path) -> None:
    root = make(tmp_path, ["b/10.png", "b/9.jpg", "b/c/1.TIF", "b/notes.txt", "x.dat", "b/.hidden.png"])
    found = list_images([root / "x.dat", root / "b", root / "b" / "9.jpg", str(root / "b")])
    assert found == tuple(root / f for f in ("x.dat", "b/9.jpg", "b/10.png", "b/c/1.TIF"))
    with pytest.raises(UserError, match="no such file or folder"):
        list_images([root / "absent"])
    (root / "void").mkdir()
    with pytest.raises(UserError, match="no images found"):
        list_images([root / "void"])
    with pytest.raises(UserError, match="no images found"):
        list_images([])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_real_segmentation_folder_is_no_classification_layout() -> None:
    with pytest.raises(UserError):
        read(SHARED / "deepglobe13")


def test_large_folders_are_read_in_seconds(tmp_path: Path) -> None:
    names = [f"train_50/{c}_{i}.png" for c in range(50) for i in range(60)]
    make(tmp_path, [*names, *(f"val_50/{c}_450.png" for c in range(50))])
    start = time.perf_counter()
    assert len(read(tmp_path).files) == 3050
    assert time.perf_counter() - start < 10


def test_a_dot_is_an_image() -> None:
    assert Image.open(io.BytesIO(DOT)).size == (1, 1)
