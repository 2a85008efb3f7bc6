"""Folder trees in the shapes in which public data sets are shipped: read rightly, or refused in one true line."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from octavo.data.pairs import read_pairs
from octavo.data.readers import read
from octavo.data.torchvision_data import holds_masks
from octavo.errors import UserError

DOT = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
BOX = "<annotation><object><bndbox/></object></annotation>"
COCO = json.dumps({"images": [{"file_name": "1.jpg"}], "annotations": [{"bbox": [1, 2, 3, 4]}], "categories": []})
YOLO = "0 0.5 0.5 0.1 0.2\n"
YAML = "train: images/train\nval: images/val\nnc: 1\nnames: ['x']\n"


@dataclass(frozen=True)
class Tree:
    """Images by names with alternatives in braces, text files, and what is right: classes and parts, or a refusal."""

    images: str
    right: str
    texts: dict[str, str] = field(default_factory=dict)
    pairs: str = "no known layout"
    masks: bool = False


def table(head: str, *rows: str) -> str:
    """Return a CSV of rows with alternatives in braces, dealt together: `{a,b}.jpg,{x,y}` is two rows."""
    lines = [head]
    for row in rows:
        parts = [part.split(",") for part in re.findall(r"{(.*?)}", row)]
        for values in zip(*parts, strict=True):
            given = iter(values)
            lines.append(re.sub(r"{.*?}", lambda _, given=given: next(given), row))
    return "\n".join(lines) + "\n"


SIX = "{a,b,c,d,e,f}"
XY = "{x,y,x,y,x,y}"
MASKS = "looks like images and masks"
ONE = "name the folder of the classes, D/"
SAME = "all hold the same folders"
TREES = {
    "cats vs dogs": Tree("train/{cat,dog}.{0,1,2}.jpg test1/{1,2}.jpg", 'an image lies at "test1/1.jpg"'),
    "PetImages": Tree("PetImages/{Cat,Dog}/{0,1}.jpg", ONE, {"readme.txt": "x", "MSR-LA.docx": "x"}),
    "Intel": Tree("seg_train/seg_train/{sea,wood}/{0,1}.jpg seg_test/seg_test/{sea,wood}/{2,3}.jpg "
                             "seg_pred/seg_pred/1.jpg", "split-folders sea,wood train 4 test 4"),
    "trainset": Tree("trainset/{a,b}/{0,1}.jpg testset/{a,b}/{2,3}.jpg", "split-folders a,b train 4 test 4"),
    "training_set": Tree("training_set/training_set/{a,b}/{0,1}.jpg test_set/test_set/{a,b}/{2,3}.jpg",
                         "split-folders a,b train 4 test 4"),
    "my-val": Tree("my-train/{a,b}/{0,1}.jpg my-val/{a,b}/{2,3}.jpg", "split-folders a,b train 4 val 4"),
    "flat split folders": Tree("train_images/{1,2}.jpg test_images/{3,4}.jpg", "no known layout"),
    "cats_train": Tree("{cat,dog}_{train,test}/{1,2}.jpg", '"cat_test", "cat_train" look like splits'),
    "split in class": Tree("{cat,dog}/{train,val}/{1,2}.jpg", "expected the splits above the classes"),
    "files named for splits": Tree("{train,test}_{1,2}.jpg", "look like splits"),
    "vehicles": Tree("{bus,train,car,test_tube,train_station}/{1,2}.jpg",
                     "folders bus,car,test_tube,train,train_station train 10"),
    "HAM10000": Tree(f"HAM_images_part_1/I_{SIX}.jpg HAM_images_part_2/I_{{g,h}}.jpg", "csv mel,nv train 8",
                     {"HAM_metadata.csv": table("lesion_id,image_id,dx,dx_type,age,sex",
                      "{1,2,3,4,5,6,7,8},I_{a,b,c,d,e,f,g,h},{nv,mel,nv,mel,nv,mel,mel,nv},histo,5{0,5,0,5,0,0,0,0}.0,"
                      "{m,f,f,m,f,m,f,f}")}),
    "HAM10000 flat": Tree("ISIC_{1,2,3,4,5,6}.jpg", "csv mel,nv train 6",
                          {"meta.csv": table("image_id,dx", "ISIC_{1,2,3,4,5,6},{nv,mel,nv,mel,nv,mel}")}),
    "parts alone": Tree("images_{001,002}/images/{1,2}.png", "look like parts of one set"),
    "NIH": Tree("images_001/images/{a,b,c}.png images_002/images/{d,e,f}.png",
                "not which column is the class (Finding Labels, Follow-up #)",
                {"Data_Entry.csv": table("Image Index,Finding Labels,Follow-up #,Patient Age",
                                         f"{SIX}.png,{XY},{{1,0,0,1,1,1}},{{1,2,3,4,5,6}}")}),
    "CUB-200": Tree("images/{001.A,002.B}/{p,q,r}.jpg", ONE + "images",
                    {"images.txt": table("1 001.A/p.jpg", "{2,3} 001.A/{q,r}.jpg", "{4,5,6} 002.B/{p,q,r}.jpg"),
                     "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n", "classes.txt": "1 001.A\n2 002.B\n"}),
    "Oxford pets": Tree("images/{Maine,pug}_{1,2}.jpg annotations/trimaps/{Maine,pug}_{1,2}.png", MASKS,
                        {"annotations/list.txt": "#Image CLASS-ID\nMaine_1 1\nMaine_2 1\npug_1 2\npug_2 2\n"},
                        "images-masks 4", masks=True),
    "Flowers102": Tree("jpg/image_{00001,00002}.jpg", "imagelabels.mat: arrays", {"imagelabels.mat": "x"},
                       "imagelabels.mat: arrays"),
    "Stanford dogs": Tree("images/Images/{n1-Chin,n2-Pug}/{a,b}.jpg", ONE + "images/Images", {"annotation/n1/a": BOX}),
    "chest X-ray twice": Tree("chest/{train,test}/{N,P}/1.jpg {train,test}/{N,P}/1.jpg", "more than one layout fits"),
    "PlantVillage": Tree("{color,grayscale,segmented}/{Apple,Corn}/{1,2}.jpg", SAME),
    "PACS": Tree("{photo,sketch,cartoon}/{dog,horse}/{1,2}.jpg", SAME),
    "Office-31": Tree("{amazon,dslr}/images/{bike,mug}/{1,2}.jpg", SAME),
    "IDC": Tree("{8863,8864}/{0,1}/x{1,2}.png", SAME),
    "EuroSAT": Tree("2750/{Forest,River}/{1,2}.jpg", ONE + "2750"),
    "Food101": Tree("images/{pie,waffle}/{1,2}.jpg", "only one class",
                    {"meta/train.txt": "pie/1\nwaffle/1\n", "meta/classes.txt": "pie\nwaffle\n"}),
    "CIFAR": Tree("{train,test}/{cat,dog}/{1,2}.png", "split-folders cat,dog train 4 test 4", {"labels.txt": "cat\n"}),
    "Caltech101": Tree("{BACKGROUND_Google,anchor}/image_{1,2}.jpg", "folders BACKGROUND_Google,anchor train 4"),
    "Imagenette": Tree("train/{n1,n2}/{a,b}.JPEG val/{n1,n2}/{c,d}.JPEG", "split-folders n1,n2 train 4 val 4",
                       {"noisy.csv": table("path,noisy_labels_0,noisy_labels_50,is_valid",
                        "train/{n1,n1,n2,n2}/{a,b,a,b}.JPEG,{n1,n1,n2,n2},{n1,n2,n1,n2},False")}),
    "Imagenette, noisy alone": Tree("train/{n1,n2}/{a,b}.JPEG val/{n1,n2}/{c,d}.JPEG",
                                    "or --layout split-folders to go by the folders",
                                    {"noisy.csv": table("path,noisy_labels_50",
                                     "train/{n1,n1,n2,n2}/{a,b,a,b}.JPEG,{n1,n2,n1,n2}")}),
    "Tiny ImageNet": Tree("train/{n1,n2}/images/{n1,n2}_{1,2}.JPEG {val,test}/images/{v,w,x,y}.JPEG",
                          "D/val/val_annotations.txt: names 4 images here",
                          {"val/val_annotations.txt": "v.JPEG\tn1\t0\t32\nw.JPEG\tn2\t0\t32\nx.JPEG\tn1\t0\t32\n"
                           "y.JPEG\tn2\t0\t32\n", "words.txt": "n1\tgoldfish\n"}),
    "GTSRB": Tree("Train/{0,1,2}/{a,b}.png Test/{1,2,3}.png Meta/{0,1,2}.png", "more than one layout fits",
                  {"Train.csv": table("Width,ClassId,Path", "2{7,7,7,7,7,7},{0,0,1,1,2,2},"
                   "Train/{0,0,1,1,2,2}/{a,b,a,b,a,b}.png"), "Test.csv": table("Width,ClassId,Path",
                   "3{0,0,0},{0,1,2},Test/{1,2,3}.png")}),
    "GTSRB, official": Tree("{00000,00001}/{1,2}_{1,2}.ppm", "folders 00000,00001 train 8",
                            {"00000/GT-00000.csv": "Filename;ClassId\n1_1.ppm;0\n1_2.ppm;0\n2_1.ppm;0\n2_2.ppm;0\n"}),
    "dog breeds": Tree("train/{a,b,c,d,e,f}.jpg test/{g,h,i,j,k,l,m}.jpg", "csv x,y train 6",
                       {"labels.csv": table("id,breed", f"{SIX},{XY}"),
                        "sample_submission.csv": table("id,x,y", "{g,h,i,j,k,l,m},0.5,0.5")}),
    "Cassava": Tree("train_images/{a,b,c,d,e,f}.jpg test_images/9.jpg", "csv x,y train 6",
                    {"train.csv": table("image_id,label", f"{SIX}.jpg,{XY}"),
                     "sample_submission.csv": "image_id,label\n9.jpg,4\n"}),
    "ISIC 2018": Tree("ISIC_Training_Input/{a,b,c,d,e,f}.jpg", "csv MEL,NV train 6",
                      {"GroundTruth.csv": table("image,MEL,NV", f"{SIX},{{1,0,1,0,1,0}}.0,{{0,1,0,1,0,1}}.0")}),
    "several labels an image": Tree("in/{a,b,c,d,e,f}.jpg", "some have none or several",
                                    {"t.csv": table("image,MEL,NV", f"{SIX},{{1,0,1,0,1,0}},{{1,1,0,1,0,1}}")}),
    "ISIC 2020": Tree("train/ISIC_{1,2,3,4,5,6}.jpg", "not which column is the class (diagnosis, target)",
                      {"train.csv": table("image_name,sex,diagnosis,target",
                       "ISIC_{1,2,3,4,5,6},{m,f,m,f,f,f},{nev,mel,unk,nev,mel,unk},{0,1,0,0,1,0}")}),
    "100 sports": Tree("{train,valid,test}/{bmx,golf}/{1,2}.jpg", "split-folders bmx,golf train 4 val 4 test 4",
                       {"sports.csv": table("class id,filepaths,labels,data set", "{0,1},train/{bmx,golf}/1.jpg,"
                        "{bmx,golf},train", "{0,1},valid/{bmx,golf}/1.jpg,{bmx,golf},valid")}),
    "a hub's metadata": Tree("train/{a,b,c,d,e,f}.png", "csv 0,1 train 6",
                             {"train/metadata.csv": table("file_name,label", f"{SIX}.png,{{0,1,0,1,0,1}}")}),
    "JSON lines": Tree("{a,b,c,d,e,f}.png", "csv x,y train 6",
                       {"m.jsonl": table('{"file_name": "a.png", "text": "x"}').replace("text", "label") + "\n".join(
                           json.dumps({"file_name": f"{f}.png", "label": "yxyxy"[i]}) for i, f in enumerate("bcdef"))}),
    "JSON": Tree("{a,b,c,d,e,f}.png", "csv x,y train 6",
                 {"m.json": json.dumps({f"{f}.png": "xyxyxy"[i] for i, f in enumerate("abcdef")})}),
    "train.csv and val.csv": Tree("img/{a,b,c,d,e,f,g,h,i,j}.png", "more than one table of labels: train.csv, val.csv",
                                  {"train.csv": table("path,target", f"img/{SIX}.png,{XY}"),
                                   "val.csv": table("path,target", "img/{g,h,i,j}.png,{x,y,x,y}")}),
    "backslashes": Tree("a/{a,b,c,d,e,f}.png", "csv x,y train 6",
                        {"labels.csv": table("image;label", f"a\\{SIX}.png;{XY}")}),
    "other disk": Tree("imgs/{a,b,c,d,e,f}.png", "csv x,y train 6",
                       {"labels.csv": table("image_path,label", f"C:\\data\\imgs\\{SIX}.png,{XY}")}),
    "Caffe's list": Tree("V_{1,2,3,4,5,6}.JPEG", "csv 65,66 train 6",
                         {"val.txt": table("V_1.JPEG 65", "V_{2,3,4,5,6}.JPEG {66,65,66,65,66}")}),
    "licences and colours": Tree("{a,b}/{a,b}{1,2}.jpg", "folders a,b train 8",
                                 {"licenses.csv": table("file,license", "{a,a,b,b}/{a1,a2,b1,b2}.jpg,{CC,BY,CC,BY}"),
                                  "classes.csv": "name,r,g,b\na,1,2,3\nb,2,3,4\n"}),
    "facts of images": Tree("{p,q}/{p,q}{1,2}.jpg", "not which column is the class (age, sex)",
                            {"meta.csv": table("image,age,sex", "{p1,p2,q1,q2}.jpg,{40,50,40,50},{m,f,f,m}")}),
    "Carvana": Tree("train/{a,b}_{1,2}.jpg train_masks/{a,b}_{1,2}_mask.gif test/c.jpg", "more than one train",
                    {"train_masks.csv": table("img,rle_mask", "{a,a,b,b}_{1,2,1,2}.jpg,8 40 81")}, "camvid 4", True),
    "Kvasir": Tree("images/{1,2}.jpg masks/{1,2}.jpg", MASKS, {}, "images-masks 2", True),
    "COCO": Tree("train2017/{1,2}.jpg val2017/{3,4}.jpg", "format of COCO", {"annotations/i.json": COCO}, "COCO"),
    "COCO, Roboflow": Tree("{train,valid}/a_{1,2}.rf.jpg", "format of COCO", {"train/_a.coco.json": COCO}, "COCO"),
    "COCO, numbered files": Tree("clip{1,2}_{1,2}.jpg", "format of COCO", {"annotations.json": COCO}, "COCO"),
    "YOLO": Tree("images/{train,val}/{1,2}.jpg", "YOLO", {"labels/train/1.txt": YOLO, "data.yaml": YAML}, "YOLO"),
    "YOLO, Roboflow": Tree("{train,valid}/images/{1,2}.jpg", "YOLO", {"train/labels/1.txt": YOLO}, "YOLO"),
    "YOLO, flat": Tree("{1,2}.jpg", "YOLO", {"1.txt": YOLO, "2.txt": YOLO, "classes.txt": "x\n"}, "YOLO"),
    "Labelme": Tree("clip{1,2}_{1,2}.jpg", "format of Labelme",
                    {"clip1_1.json": json.dumps({"shapes": [{"points": []}], "imagePath": "1.jpg"})}, "Labelme"),
    "VOC's boxes": Tree("JPEGImages/{1,2}.jpg", "PASCAL VOC's boxes", {"Annotations/1.xml": BOX}, "PASCAL VOC's"),
    "CVAT": Tree("images/{1,2}.jpg", "CVAT", {"annotations.xml": "<annotations><image id='0'/></annotations>"}, "CVAT"),
    "CamVid": Tree("{train,val}/{1,2}.png {train,val}_labels/{1,2}_L.png", MASKS, {"class_dict.csv": "name,r,g,b\n"},
                   "camvid 4", True),
    "ADE20K": Tree("images/{training,validation}/{1,2}.jpg annotations/{training,validation}/{1,2}.png", MASKS,
                   {"sceneCategories.txt": "1 airport\n2 beach\n"}, "images-masks 4", True),
    "DeepGlobe": Tree("train/{1,2}_{sat,mask}.png valid/{3,4}_sat.png", MASKS,
                      {"metadata.csv": table("image_id,split,sat_image_path,mask_path",
                       "{1,2},train,train/{1,2}_sat.png,train/{1,2}_mask.png")}, "images in val have no mask", True),
    "LoveDA": Tree("{Train,Val}/{Rural,Urban}/{images,masks}_png/{1,2}.png", "looks like images and their masks"),
    "Inria": Tree("train/{images,gt}/{1,2}.tif test/images/{3,4}.tif", MASKS, {}, "images-masks 2", True),
    "COVID": Tree("{COVID,Normal}/{images,masks}/{1,2}.png", "looks like images and their masks"),
    "BUSI": Tree("{benign,malignant}/b{1,2}{,_mask}.png", MASKS, {}, "course 4", True),
    "img and mask": Tree("{img,mask}_{001,002}.png", "put the images into images/ and the masks into"),
    "table of masks": Tree("x/{a,b,c,d}.jpg y/{a,b,c,d}.png", MASKS,
                           {"p.tsv": table("img\tannotation", "x/{a,b,c,d}.jpg\ty/{a,b,c,d}.png")}, "csv 4", True),
    "archives of photos": Tree("photos/{cat,dog}/{1,2}.jpg", ONE + "photos"),
    "cats in cats": Tree("cats/cats/1.jpg dogs/dogs/{1,2}.jpg", "folders cats,dogs train 3"),
    "sites in sites": Tree("one/one/{cat,dog}/{1,2}.jpg two/two/{cat,dog}/{1,2}.jpg", "nothing but a folder"),
    "images_png": Tree("{images,masks}_png/{1,2}.png", "look like images and their masks"),
    "masks of classes": Tree("{cat,cat_masks,dog}/{1,2}.png", '"cat", "cat_masks" look like images and their masks'),
    "masks before numbers": Tree("{x_img,x_mask}_{1,2}.png", '"x_img", "x_mask" before the files'),
    "one zip in a zip": Tree("pets/pets/{cat,dog}/{1,2}.jpg bird/{1,2}.jpg", "holds nothing but a folder of its own"),
    "face masks": Tree("with_mask/{1,2}-with-mask.jpg without_mask/1.jpg", "folders with_mask,without_mask train 3"),
    "arrays": Tree("", "x_train.npy: NumPy arrays, not read", {"x_train.npy": "x"}, "NumPy arrays"),
    "MNIST": Tree("", "torchvision:MNIST", {"train-images-idx3-ubyte.gz": "x"}, "MNIST"),
    "TFRecords": Tree("", "TFRecords, not read", {"train.tfrecord-00001": "x"}, "TFRecords"),
    "an archive": Tree("", "an archive, not read; unpack it", {"train.zip": "x"}, "an archive"),
}  # fmt: skip


def expanded(pattern: str) -> list[str]:
    parts = re.split(r"{(.*?)}", pattern)
    return [
        "".join(pieces) for pieces in itertools.product(*(p.split(",") if i % 2 else [p] for i, p in enumerate(parts)))
    ]


def build(root: Path, tree: Tree) -> Path:
    root.mkdir()
    for name in (name for pattern in tree.images.split() for name in expanded(pattern)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(DOT)
    for name, text in tree.texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def classes_of(root: Path) -> str:
    try:
        samples = read(root)
    except UserError as error:
        return str(error).replace(str(root), "D")
    return f"{samples.layout} {','.join(samples.classes)} " + " ".join(
        f"{s} {len(i)}" for s, i in samples.splits.items()
    )


def pairs_of(root: Path) -> str:
    try:
        pairs = read_pairs(root)
    except UserError as error:
        return str(error).replace(str(root), "D")
    return f"{pairs.layout} {len(pairs.files)}"


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_read_rightly_or_refused(name: str, tmp_path: Path) -> None:
    tree = TREES[name]
    root = build(tmp_path / "data", tree)
    found, masks = classes_of(root), pairs_of(root)
    assert "\n" not in found + masks
    if re.match(r"(csv|folders|split-folders|prefix) ", tree.right) or re.match(r"(csv|folders|split-folders) ", found):
        assert found == tree.right
    assert tree.right in found
    assert tree.pairs in masks or (tree.pairs == "no known layout" and masks.startswith("D"))
    assert holds_masks(root) == tree.masks
