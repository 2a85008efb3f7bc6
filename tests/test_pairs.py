"""Images and masks: which file is whose mask, in every layout, and what is refused with which words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octavo.data.matching import IMAGE_TAILS, MASK_TAILS
from octavo.data.pair_readers import IMAGE_FOLDERS, MASK_FOLDERS
from octavo.data.pairs import PAIR_READERS, Pairs, read_pairs
from octavo.errors import UserError

SHARED = Path(__file__).parents[2] / "shared" / "data"


def make(root: Path, files: Iterable[str]) -> Path:
    """Write real little images: JPEG or PNG by their ending, each of another colour."""
    for number, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith((".txt", ".csv", ".json", ".DS_Store", ".db")):
            (root / file).write_text("")
        else:
            Image.new("L" if file.endswith(".png") else "RGB", (5, 4), number % 250).save(root / file)
    return root


def listing(pairs: Pairs) -> dict[str, list[tuple[str, str]]]:
    return {split: [(pairs.files[i], pairs.masks[i]) for i in index] for split, index in pairs.splits.items()}


def refusal(root: Path, layout: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read_pairs(root, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def city(kind: str) -> list[str]:
    return [
        file
        for split in ("train", "val")
        for i in range(2)
        for file in (
            f"leftImg8bit/{split}/ulm/ulm_{i}_leftImg8bit.png",
            f"gtFine/{split}/ulm/ulm_{i}_gtFine_{kind}.png",
        )
    ]


VOC_FILES = [
    f"{half}/2007_{i}.{end}" for i in range(5) for half, end in (("JPEGImages", "jpg"), ("SegmentationClass", "png"))
]
VOC_LISTS = {"train": "2007_0\n2007_1\n", "val": "2007_2\n", "trainval": "2007_0\n2007_1\n2007_2\n"}


def voc(root: Path, lists: dict[str, str] | None = None) -> Path:
    make(root, [*VOC_FILES, "JPEGImages/2008_unlisted.jpg", "SegmentationObject/2007_0.png"])
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    for name, text in (VOC_LISTS if lists is None else lists).items():
        (folder / f"{name}.txt").write_text(text)
    return root


def build(layout: str, root: Path) -> Path:
    if layout == "voc":
        return voc(root)
    if layout == "csv":
        make(root, ["a.jpg", "b.jpg", "m/a.png", "m/b.png"])
        (root / "pairs.csv").write_text("image,mask\nb.jpg,m/b.png\na.jpg,m/a.png\n")
        return root
    return make(root, EXAMPLES[layout])


EXAMPLES: dict[str, list[str]] = {
    "course": [
        f"{s}/{i:04}_{tail}" for s in ("train", "validation") for i in (0, 1) for tail in ("sat.jpg", "mask.png")
    ],
    "images-masks": [f"{half}/{i}.{end}" for i in range(3) for half, end in (("images", "jpg"), ("masks", "png"))],
    "camvid": [f"{half}/{i}.png" for half in ("train", "trainannot", "val", "valannot") for i in range(2)],
    "cityscapes": city("labelIds"),
    "cityscapes-trainids": city("labelTrainIds"),
    "cityscapes-color": city("color"),
}


@pytest.mark.parametrize("layout", PAIR_READERS)
def test_contract_of_every_layout(layout: str, tmp_path: Path) -> None:
    root = build(layout, tmp_path / "data")
    assert [n for n, reader in PAIR_READERS.items() if reader.matches(root) and layout not in reader.yields_to] == [
        layout
    ]
    assert PAIR_READERS[layout].form
    pairs = read_pairs(root)
    assert (pairs.layout, pairs.root, pairs.problems) == (layout, str(root), ())
    assert len(pairs.files) == len(pairs.masks) == len(set(pairs.files)) == len(set(pairs.masks)) > 1
    assert all(pairs.path(i).is_file() and pairs.mask_path(i).is_file() for i in range(len(pairs.files)))
    assert [pairs.mask_files.path(i) for i in range(len(pairs.files))] == [
        pairs.mask_path(i) for i in range(len(pairs.files))
    ]
    joined = np.concatenate(list(pairs.splits.values()))
    assert sorted(joined.tolist()) == list(range(len(pairs.files)))
    assert all(index.dtype == np.int64 and (np.diff(index) > 0).all() for index in pairs.splits.values())
    assert pairs.own_split == ("val" in pairs.splits)
    assert read_pairs(root, layout).files == pairs.files
    assert not [n for n, reader in PAIR_READERS.items() if reader.matches(make(tmp_path / "none", ["notes.txt"]))]
    (tmp_path / "file.txt").write_text("nothing")
    assert not [n for n, reader in PAIR_READERS.items() if reader.matches(tmp_path / "file.txt")]


# ── Both in one folder ──────────────────────────────────────────────────────────────────────────────────────────────


def test_course_layout_keeps_its_split(tmp_path: Path) -> None:
    pairs = read_pairs(make(tmp_path, EXAMPLES["course"]))
    assert listing(pairs) == {
        "train": [(f"train/000{i}_sat.jpg", f"train/000{i}_mask.png") for i in (0, 1)],
        "val": [(f"validation/000{i}_sat.jpg", f"validation/000{i}_mask.png") for i in (0, 1)],
    }


def test_flat_pairs_are_in_natural_order_and_have_no_split(tmp_path: Path) -> None:
    pairs = read_pairs(make(tmp_path, [f"{i}_{tail}" for i in (10, 9, 100, 1) for tail in ("sat.jpg", "mask.png")]))
    assert pairs.files == ("1_sat.jpg", "9_sat.jpg", "10_sat.jpg", "100_sat.jpg")
    assert pairs.masks == ("1_mask.png", "9_mask.png", "10_mask.png", "100_mask.png")
    assert not pairs.own_split
    assert list(pairs.splits) == ["train"]


@pytest.mark.parametrize("mask", MASK_TAILS)
@pytest.mark.parametrize("image", ["", "_sat", "-IMG"])
def test_tail_words(image: str, mask: str, tmp_path: Path) -> None:
    make(tmp_path, [f"a{image}.jpg", f"a_{mask}.png", f"b.2{image}.jpg", f"b.2-{mask.upper()}.png"])
    assert listing(read_pairs(tmp_path, "course"))["train"] == [
        (f"a{image}.jpg", f"a_{mask}.png"),
        (f"b.2{image}.jpg", f"b.2-{mask.upper()}.png"),
    ]


@pytest.mark.parametrize("tail", IMAGE_TAILS)
def test_tail_words_of_images(tail: str, tmp_path: Path) -> None:
    make(tmp_path, [f"a_{tail}.jpg", "a_mask.png", f"b_{tail}.jpg", f"b_{tail}_mask.png"])  # either way of naming masks
    assert [m for _, m in listing(read_pairs(tmp_path))["train"]] == ["a_mask.png", f"b_{tail}_mask.png"]


def test_folders_below_are_part_of_the_name(tmp_path: Path) -> None:
    make(tmp_path, [f"{case}/1{tail}" for case in ("p1", "p2") for tail in (".tif", "_mask.tif")])
    assert listing(read_pairs(tmp_path))["train"] == [(f"{c}/1.tif", f"{c}/1_mask.tif") for c in ("p1", "p2")]


ODD = ["a b", "ü", "x,y", 'say "x"', "100%", "a.b.c", "Ümlaut é", "漢字", "it's"]


@pytest.mark.parametrize(
    "forms", ["{}_sat.jpg {}_mask.png", "images/{}.jpg masks/{}.png", "train/{}.jpg trainannot/{}.png"]
)
def test_odd_names(forms: str, tmp_path: Path) -> None:
    make(tmp_path, [form.format(name) for name in ODD for form in forms.split()])
    found = listing(read_pairs(tmp_path))["train"]
    assert set(found) == {tuple(form.format(name) for form in forms.split()) for name in ODD}


def test_one_name_in_two_unicode_forms(tmp_path: Path) -> None:
    image, mask = (
        f"{unicodedata.normalize(form, 'é')}_{tail}" for form, tail in (("NFC", "sat.jpg"), ("NFD", "mask.png"))
    )
    assert listing(read_pairs(make(tmp_path, [image, mask])))["train"] == [(image, mask)]


def test_case_does_not_count(tmp_path: Path) -> None:
    make(tmp_path, ["images/A.jpg", "masks/a.png", "images/b.1.jpg", "masks/B.1_Mask.png"])
    assert listing(read_pairs(tmp_path))["train"] == [
        ("images/A.jpg", "masks/a.png"), ("images/b.1.jpg", "masks/B.1_Mask.png")
    ]  # fmt: skip


def test_case_counts_where_it_must(tmp_path: Path) -> None:
    make(tmp_path, ["images/c.jpg", "images/C.jpg", "masks/c.png", "masks/C.png"])
    if len(list((tmp_path / "images").iterdir())) == 1:
        pytest.skip("this file system knows no case")
    assert set(listing(read_pairs(tmp_path))["train"]) == {
        ("images/C.jpg", "masks/C.png"), ("images/c.jpg", "masks/c.png")
    }  # fmt: skip


def test_litter_is_passed_over(tmp_path: Path) -> None:
    root = make(tmp_path, [*EXAMPLES["images-masks"], "images/.hidden.jpg", "masks/._0.png", "images/Thumbs.db",
                           ".DS_Store", "__MACOSX/images/9.png", "masks/notes.txt"])  # fmt: skip
    pairs = read_pairs(root)
    assert (len(pairs.files), pairs.problems) == (3, ())


# ── images/ and masks/ ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("images", IMAGE_FOLDERS)
def test_names_of_image_folders(images: str, tmp_path: Path) -> None:
    make(tmp_path, [f"{images}/1.jpg", "Ground_Truth/1.png"])
    assert listing(read_pairs(tmp_path))["train"] == [(f"{images}/1.jpg", "Ground_Truth/1.png")]


@pytest.mark.parametrize("masks", MASK_FOLDERS)
def test_names_of_mask_folders(masks: str, tmp_path: Path) -> None:
    make(tmp_path, ["Images/1.jpg", f"{masks}/1.png"])
    assert listing(read_pairs(tmp_path))["train"] == [("Images/1.jpg", f"{masks}/1.png")]


@pytest.mark.parametrize("form", ["{split}/{half}/{name}", "{half}/{split}/{name}"])
def test_splits_above_and_below(form: str, tmp_path: Path) -> None:
    names = {"training": "ab", "validation": "c", "test": "d"}
    files = [
        (
            form.format(split=split, half="images", name=f"{n}.jpg"),
            form.format(split=split, half="labels", name=f"{n}.png"),
        )
        for split, own in names.items()
        for n in own
    ]
    pairs = read_pairs(make(tmp_path, [file for pair in files for file in pair]))
    assert listing(pairs) == {"train": files[:2], "val": files[2:3], "test": files[3:]}
    assert pairs.own_split


def test_splits_of_images_share_one_folder_of_masks(tmp_path: Path) -> None:
    make(tmp_path, ["images/train/1.jpg", "images/val/2.jpg", "masks/1.png", "masks/2.png"])
    pairs = read_pairs(tmp_path)
    assert listing(pairs) == {
        "train": [("images/train/1.jpg", "masks/1.png")],
        "val": [("images/val/2.jpg", "masks/2.png")],
    }
    assert not pairs.problems
    make(tmp_path, ["images/val/1.jpg"])
    assert "mask masks/1.png may belong to images/train/1.jpg, images/val/1.jpg" in refusal(tmp_path)


def test_masks_one_folder_further_down(tmp_path: Path) -> None:
    make(tmp_path, ["images/cat_1.jpg", "annotations/trimaps/cat_1.png", "annotations/list.txt"])
    assert listing(read_pairs(tmp_path))["train"] == [("images/cat_1.jpg", "annotations/trimaps/cat_1.png")]


def test_folders_without_images_are_no_masks(tmp_path: Path) -> None:
    make(tmp_path, ["images/1.jpg", "masks/1.png", "labels/1.txt"])
    assert listing(read_pairs(tmp_path))["train"] == [("images/1.jpg", "masks/1.png")]


def test_two_folders_of_masks_are_refused(tmp_path: Path) -> None:
    make(tmp_path, ["images/1.jpg", "masks/1.png", "labels/1.png"])
    assert 'more than one folder of masks: "labels", "masks"; keep one' in refusal(tmp_path)


def test_images_and_masks_here_and_below_are_refused(tmp_path: Path) -> None:
    make(tmp_path, ["images/1.jpg", "masks/1.png", "train/images/2.jpg", "train/masks/2.png"])
    assert "lie here and in train/ too" in refusal(tmp_path)


def test_a_split_without_its_masks(tmp_path: Path) -> None:
    make(tmp_path, ["train/images/1.jpg", "train/masks/1.png", "test/images/2.jpg"])
    pairs = read_pairs(tmp_path)
    assert list(pairs.splits) == ["train"]
    assert "test: no folders of images and masks; left out" in pairs.problems[0].text
    (tmp_path / "test").rename(tmp_path / "val")
    assert "val: no folder of masks here" in refusal(tmp_path)


# ── CamVid ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mask", ["{}annot", "{}_labels", "{}-masks", "{}_gt", "{} annotations"])
def test_folders_side_by_side(mask: str, tmp_path: Path) -> None:
    make(tmp_path, [f for s in ("train", "val") for f in (f"{s}/1.png", f"{mask.format(s)}/1_L.png")])
    make(tmp_path, ["class_dict.csv"])
    pairs = read_pairs(tmp_path)
    assert listing(pairs) == {s: [(f"{s}/1.png", f"{mask.format(s)}/1_L.png")] for s in ("train", "val")}
    assert pairs.layout == "camvid"


def test_folders_side_by_side_with_both_words(tmp_path: Path) -> None:
    make(tmp_path, ["train_images/1.jpg", "train_masks/1.png", "test_images/2.jpg"])
    pairs = read_pairs(tmp_path)
    assert listing(pairs) == {"train": [("train_images/1.jpg", "train_masks/1.png")]}
    assert pairs.lone_images == ("test_images/2.jpg",)
    assert "1 of 1 images in test have no mask" in pairs.problems[0].text
    assert not pairs.problems[0].fatal
    make(tmp_path, ["train_labels/1.png"])
    assert 'more than one folder of train masks: "train_labels", "train_masks"' in refusal(tmp_path)


def test_val_without_masks_is_refused(tmp_path: Path) -> None:
    make(tmp_path, [*EXAMPLES["camvid"][:4], "val/7.png"])
    assert "1 of 1 images in val have no mask: val/7.png; add the masks" in refusal(tmp_path)


# ── PASCAL VOC ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("above", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_takes_what_its_lists_name(above: str, tmp_path: Path) -> None:
    kit = voc(tmp_path / "data" / above)
    pairs = read_pairs(tmp_path / "data")
    assert (pairs.layout, pairs.folder) == ("voc", str(kit))
    assert listing(pairs) == {
        "train": [(f"JPEGImages/2007_{i}.jpg", f"SegmentationClass/2007_{i}.png") for i in (0, 1)],
        "val": [("JPEGImages/2007_2.jpg", "SegmentationClass/2007_2.png")],
    }


def test_voc_without_lists_is_images_beside_masks(tmp_path: Path) -> None:
    pairs = read_pairs(make(tmp_path, VOC_FILES))
    assert (pairs.layout, len(pairs.files), pairs.own_split) == ("images-masks", 5, False)


def test_voc_lists_are_held_to_their_word(tmp_path: Path) -> None:
    assert listing(read_pairs(voc(tmp_path / "rest", {"trainval": "2007_0\n2007_3\n", "val": "2007_3\n"}))) == {
        "train": [("JPEGImages/2007_0.jpg", "SegmentationClass/2007_0.png")],
        "val": [("JPEGImages/2007_3.jpg", "SegmentationClass/2007_3.png")],
    }
    assert "1 names are in train.txt too (first: 2007_0)" in refusal(
        voc(tmp_path / "twice", {"train": "2007_0\n", "val": "2007_0\n2007_1\n"})
    )
    assert "1 of 2 listed images are not in JPEGImages: gone" in refusal(
        voc(tmp_path / "gone", {"train": "gone\n2007_1\n"})
    )
    assert "neither train.txt nor trainval.txt" in refusal(voc(tmp_path / "none", {"val": "2007_1\n"}))
    assert "1 of 1 images in train have no mask: JPEGImages/2008_unlisted.jpg" in refusal(
        voc(tmp_path / "bare", {"train": "2008_unlisted\n"})
    )
    voc(tmp_path / "years" / "VOC2011")
    voc(tmp_path / "years" / "VOC2012")
    assert "more than one year: VOC2011, VOC2012" in refusal(tmp_path / "years")


# ── Cityscapes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cityscapes_takes_one_kind_of_mask(tmp_path: Path) -> None:
    make(
        tmp_path,
        [*city("labelIds"), *city("color"), *city("instanceIds"), "leftImg8bit/train_extra/ulm/x_leftImg8bit.png"],
    )
    pairs = read_pairs(tmp_path)
    assert (pairs.layout, pairs.problems) == ("cityscapes", ())
    assert listing(pairs)["val"] == [
        (f"leftImg8bit/val/ulm/ulm_{i}_leftImg8bit.png", f"gtFine/val/ulm/ulm_{i}_gtFine_labelIds.png") for i in (0, 1)
    ]
    assert read_pairs(tmp_path, "cityscapes-color").masks[0] == "gtFine/train/ulm/ulm_0_gtFine_color.png"
    make(tmp_path, city("labelTrainIds"))
    text = refusal(tmp_path)
    assert 'layout "cityscapes" ' in text
    assert 'layout "cityscapes-trainids" ' in text
    assert "color" not in text
    assert read_pairs(tmp_path, "cityscapes-trainids").masks[0] == "gtFine/train/ulm/ulm_0_gtFine_labelTrainIds.png"


# ── CSV ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write(root: Path, text: str) -> Path:
    make(root, ["a b.jpg", "x,y.jpg", "m/ü.png", "m/2.png"])
    (root / "list.csv").write_text(text, encoding="utf-8")
    return root / "list.csv"


def test_csv(tmp_path: Path) -> None:
    file = write(tmp_path, 'Mask,note,filename,split\nm/ü.png,,a b.jpg,validation\nm/2.png,x,"./x,y.jpg",Train\n')
    for data in (file, tmp_path):
        pairs = read_pairs(data)
        assert listing(pairs) == {"train": [("x,y.jpg", "m/2.png")], "val": [("a b.jpg", "m/ü.png")]}
        assert (pairs.layout, pairs.folder) == ("csv", str(tmp_path))


CSV_FAULTS = [
    ("image,mask\na b.jpg\n", "line 2: 1 fields, expected 2"),
    ("image,mask\na b.jpg,\n", "line 2: no mask; expected image,mask"),
    ("image,mask\na b.jpg,m/3.png\n", 'line 2: no mask "m/3.png"'),
    ("image,mask\nc.jpg,m/2.png\n", 'line 2: no image "c.jpg"'),
    ("image,mask\na b.jpg,m/2.png\na b.jpg,m/ü.png\n", 'line 3: image "a b.jpg" is already in line 2'),
    ("image,mask,split\na b.jpg,m/2.png,dev\n", 'line 2: unknown split "dev"'),
    ("image,mask\nm/2.png,m/2.png\n", '"m/2.png" is listed as its own mask'),
    ("image,mask,split\na b.jpg,m/2.png,val\n", "no training images with masks"),
    ("image,mask\n", "no training images with masks"),
    ("image,label\na b.jpg,cat\n", "not a UTF-8 CSV file whose first line is image,mask or image,mask,split"),
]


@pytest.mark.parametrize("text, said", CSV_FAULTS)
def test_csv_faults(text: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(write(tmp_path, text))


# ── What has no partner, or too many ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "forms", ["train/{}_sat.jpg train/{}_mask.png", "images/{}.jpg masks/{}.png", "train/{}.jpg trainannot/{}.png"]
)
def test_images_without_mask(forms: str, tmp_path: Path) -> None:
    image, mask = forms.split()
    make(tmp_path, [form.format(i) for i in range(9) for form in (image, mask)])
    for i in (2, 4):
        (tmp_path / mask.format(i)).unlink()
    split = "" if image.startswith("images") else "in train "
    assert f"2 of 9 images {split}have no mask: {image.format(2)}, {image.format(4)}; add the masks" in refusal(
        tmp_path
    )
    pairs = read_pairs(tmp_path, strict=False)
    assert pairs.lone_images == (image.format(2), image.format(4))
    assert (len(pairs.files), [p.fatal for p in pairs.problems]) == (7, [True])
    (tmp_path / image.format(0)).unlink()
    (tmp_path / image.format(2)).unlink()
    (tmp_path / image.format(4)).unlink()
    pairs = read_pairs(tmp_path)
    assert (pairs.lone_masks, pairs.lone_images, len(pairs.files)) == ((mask.format(0),), (), 6)
    assert f"1 of 7 masks have no image: {mask.format(0)}; left out" in pairs.problems[0].text


def test_the_mask_that_may_be_meant_is_named(tmp_path: Path) -> None:
    make(tmp_path, ["images/1.jpg", "masks/1.png", "images/harbour.jpg", "masks/harbor.png"])
    assert 'have no mask: images/harbour.jpg (is it "masks/harbor.png"?); add' in refusal(tmp_path)


def test_many_names_are_cut_in_the_message_but_not_in_the_list(tmp_path: Path) -> None:
    make(tmp_path, ["images/x.jpg", "masks/x.png", *(f"images/{i}.jpg" for i in range(8))])
    assert "images/4.jpg, …;" in refusal(tmp_path)
    assert len(read_pairs(tmp_path, strict=False).lone_images) == 8


def test_two_masks_for_one_image(tmp_path: Path) -> None:
    make(tmp_path, ["a.jpg", "a_mask.png", "a_seg.png", "b.jpg", "b_mask.png"])
    assert "image a.jpg has 2 masks: a_mask.png, a_seg.png; keep one" in refusal(tmp_path)
    assert read_pairs(tmp_path, strict=False).files == ("b.jpg",)


def test_two_images_for_one_mask(tmp_path: Path) -> None:
    make(tmp_path, ["images/a.jpg", "images/a.png", "masks/a.png"])
    assert "mask masks/a.png may belong to images/a.jpg, images/a.png; rename or remove" in refusal(tmp_path)


def test_images_beside_the_splits_are_told(tmp_path: Path) -> None:
    make(tmp_path, [*EXAMPLES["course"], "preview.png", "old/1.png"])
    assert [p.text.split(": ", 1)[1] for p in read_pairs(tmp_path).problems] == [
        "not a train, val or test folder; its images are left out",
        "1 image beside the split folders left out (first: preview.png)",
    ]


def test_what_fits_nothing(tmp_path: Path) -> None:
    assert "no such folder or file; expected a folder of images and masks or a CSV file" in refusal(tmp_path / "none")
    assert "no images found (not read: 1 .txt); expected one of: NNNN_sat.jpg with NNNN_mask.png" in refusal(
        make(tmp_path / "e", ["a.txt"])
    )
    assert 'an image lies at "cat/1.jpg", but in no known layout' in refusal(make(tmp_path / "c", ["cat/1.jpg"]))
    assert 'layout: unknown "camvit"; did you mean "camvid"?' in refusal(tmp_path / "c", "camvit")
    assert 'nothing here fits layout "camvid"; expected train/ beside' in refusal(tmp_path / "c", "camvid")
    assert "no train folder beside val" in refusal(make(tmp_path / "v", ["val/1.jpg", "val/1_mask.png"]))
    assert "more than one train folder" in refusal(
        make(tmp_path / "t", [f"{s}/1{t}" for s in ("train", "train_b") for t in (".jpg", "_mask.png")])
    )


def test_two_layouts_at_once(tmp_path: Path) -> None:
    build("csv", tmp_path)
    make(tmp_path, EXAMPLES["images-masks"])
    text = refusal(tmp_path)
    assert "more than one layout fits" in text
    assert 'layout "csv"' in text
    assert len(read_pairs(tmp_path, "images-masks").files) == 3


# ── Splits of our own ───────────────────────────────────────────────────────────────────────────────────────────────


def test_val_and_holdout_depend_on_seed_and_names_alone(tmp_path: Path) -> None:
    pairs = read_pairs(make(tmp_path / "a", [f"{i}_{t}" for i in range(20) for t in ("sat.jpg", "mask.png")]))
    split = pairs.with_val(0.25, 3)
    assert {s: len(i) for s, i in split.splits.items()} == {"train": 15, "val": 5}
    assert sorted(np.concatenate(list(split.splits.values())).tolist()) == list(range(20))
    assert (split.files, split.masks, split.own_split) == (pairs.files, pairs.masks, False)
    chosen = {pairs.files[i] for i in split.splits["val"]}
    fewer = read_pairs(make(tmp_path / "b", [f"{i}_{t}" for i in range(19) for t in ("sat.jpg", "mask.png")])).with_val(
        0.25, 3
    )
    assert len(chosen & {fewer.files[i] for i in fewer.splits["val"]}) >= 4
    assert chosen != {pairs.files[i] for i in pairs.with_val(0.25, 4).splits["val"]}
    fit, held = split.holdout(0.1, 3)
    assert (len(fit), len(held), fit.dtype, held.dtype) == (13, 2, np.int64, np.int64)
    assert sorted([*fit, *held]) == split.splits["train"].tolist()
    assert len(split.holdout(0.0, 3)[1]) == 0
    assert split.holdout(0.1, 3)[1].tolist() == held.tolist()


def test_one_pair_cannot_be_split(tmp_path: Path) -> None:
    pairs = read_pairs(make(tmp_path, ["1_sat.jpg", "1_mask.png"]))
    with pytest.raises(UserError, match="1 training images, so none can be split off"):
        pairs.with_val(0.2, 0)


# ── Real data ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not (SHARED / "deepglobe13").is_dir(), reason="needs shared/data/deepglobe13")
def test_deepglobe() -> None:
    pairs = read_pairs(SHARED / "deepglobe13")
    assert (pairs.layout, pairs.problems) == ("course", ())
    assert {s: len(i) for s, i in pairs.splits.items()} == {"train": 250, "val": 75}
    assert all(i.replace("_sat.jpg", "_mask.png") == m for i, m in zip(pairs.files, pairs.masks, strict=True))
    alone = read_pairs(SHARED / "deepglobe13" / "validation")
    assert (len(alone.files), alone.own_split) == (75, False)


@pytest.mark.skipif(not (SHARED / "camvid").is_dir(), reason="needs shared/data/camvid")
def test_camvid() -> None:
    pairs = read_pairs(SHARED / "camvid")
    assert (pairs.layout, pairs.problems) == ("camvid", ())
    assert {s: len(i) for s, i in pairs.splits.items()} == {"train": 367, "val": 101}
    assert all(Path(i).stem == Path(m).stem and m.split("/")[0] == i.split("/")[0] + "annot"
               for i, m in zip(pairs.files, pairs.masks, strict=True))  # fmt: skip
