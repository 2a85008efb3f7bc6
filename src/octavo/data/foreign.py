"""Formats of other tools that aren't read: what a file or folder is, and what to do with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from octavo.data.walk import entries_below
from octavo.errors import UserError

_FOLDERS = "name the folder of images instead"
_ARRAYS = "write its images as PNG into class folders, or its labels into a CSV image,label"
_EXPORT = (
    "export masks as PNG (images/ beside masks/) to segment; sort the images into class folders, or list them in a CSV "
    "image,label, to classify"
)
_PACKED = re.compile(r"\.(csv|tsv|txt|json|jsonl|ndjson|xlsx?|parquet)\.(gz|bz2|xz|zst|zip|7z|z)$")
_FILES = {
    (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst"): (
        "an archive",
        "unpack it and name the folder",
    ),
    (".npy", ".npz"): ("NumPy arrays", _ARRAYS),
    (".parquet", ".arrow", ".feather", ".orc", ".avro"): ("a Parquet or Arrow table", _ARRAYS),
    (".tfrecord", ".tfrecords", ".tfrec"): ("TFRecords", _ARRAYS),
    (".h5", ".hdf5", ".mat"): ("arrays in HDF5 or MATLAB's format", _ARRAYS),
    (".pkl", ".pickle", ".pt", ".pth"): ("a Python pickle, which may run code", _ARRAYS),
    (".mdb", ".lmdb"): ("an LMDB database", _ARRAYS),
    (".sqlite", ".sqlite3", ".db"): ("a database", _ARRAYS),
    (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers"): ("a spreadsheet", "save it as CSV"),
    (".yaml", ".yml"): ("a YAML file, as YOLO has them", f"{_FOLDERS}; for boxes, {_EXPORT}"),
}
_BY_SUFFIX = {suffix: text for suffixes, text in _FILES.items() for suffix in suffixes}
_YOLO = re.compile(r"\s*\d+(\s+(0?\.\d+(e-\d+)?|[01](\.0*)?)){4,}\s*(\n|$)")
_HEAD = 1 << 16
_LOOKED_AT = 3000  # files


def foreign_file(file: Path) -> str | None:
    """Return what a file is that was named as the data and isn't read, and what to do; None of an unknown one."""
    text = format_of_other_tools(file)
    if not text and (name := _annotations(file)):
        text = (f"annotations in the format of {name}", _EXPORT)
    return f"{text[0]}, not read; {text[1]}" if text else None


def annotated(root: Path) -> str | None:
    """Return whose annotations lie in or below a folder, and what to do; None where there are none."""
    for name, entry in _looked_at(root):
        if found := _annotations(Path(entry)):
            return f"{name} is an annotation in the format of {found}, which is not read; {_EXPORT}"
    return None


def stored(root: Path) -> str | None:
    """Return the first file in or below a folder that holds images or labels as they aren't read, and what to do."""
    for name, entry in _looked_at(root):
        if text := format_of_other_tools(Path(entry)):
            return f"{name}: {text[0]}, not read; {text[1]}"
    return None


def _looked_at(root: Path) -> Iterator[tuple[str, str]]:
    """Yield a few thousand files, as paths relative to `root` and whole."""
    if not root.is_dir():
        return
    try:
        for name, entry in islice(entries_below(root), _LOOKED_AT):
            yield name, entry.path
    except UserError:  # a folder that can't be read is told elsewhere
        return


def packed_table(file: Path) -> tuple[str, str] | None:
    """Return what a compressed table such as `labels.csv.gz` is, and what to do; None of another file, by its name."""
    return ("a compressed table", "unpack it") if _PACKED.search(file.name.lower()) else None


def format_of_other_tools(file: Path) -> tuple[str, str] | None:
    """Return what a file is that isn't read, and what to do, by its name; None of an unknown one."""
    if packed := packed_table(file):
        return packed
    if ".tfrecord" in file.name.lower():
        return _BY_SUFFIX[".tfrecord"]
    if "-ubyte" in file.name or file.name.startswith("data_batch_"):
        return "arrays as MNIST and CIFAR are shipped", f"{_ARRAYS}; or name torchvision:MNIST, torchvision:CIFAR10, …"
    return _BY_SUFFIX.get(file.suffix.lower())


def _annotations(file: Path) -> str | None:
    """Return whose annotations a file holds, by its beginning."""
    kinds: dict[str, Callable[[str], str | None]] = {
        ".json": _json, ".xml": _xml, ".txt": lambda head: "YOLO" if _YOLO.match(head) else None,
        ".yaml": _yaml, ".yml": _yaml,
    }  # fmt: skip
    kind = kinds.get(file.suffix.lower())
    if kind is None:
        return None
    try:
        with file.open("rb") as lines:
            return kind(lines.read(_HEAD).decode("utf-8-sig", "replace"))
    except OSError:
        return None


_KEYS = ("images", "annotations", "categories", "shapes", "imagePath", "regions", "objects", "file_name", "bbox",
         "imgHeight", "_via_img_metadata")  # fmt: skip


def _json(head: str) -> str | None:
    has = {key for key in _KEYS if f'"{key}"' in head}
    if {"shapes", "imagePath"} <= has or ("shapes" in has and '"points"' in head):
        return "Labelme"
    if ("categories" in has and has & {"images", "annotations"}) or {"images", "file_name"} <= has or {
        "annotations", "bbox"
    } <= has:  # fmt: skip
        return "COCO"
    if "_via_img_metadata" in has or ("regions" in has and '"shape_attributes"' in head):
        return "VGG Image Annotator"
    return "Cityscapes' polygons" if {"imgHeight", "objects"} <= has else None


def _xml(head: str) -> str | None:
    if "<annotations" in head:
        return "CVAT"
    return "PASCAL VOC's boxes" if "<annotation" in head and "<object" in head else None


def _yaml(head: str) -> str | None:
    return (
        "YOLO" if re.search(r"^\s*names\s*:", head, re.M) and re.search(r"^\s*(train|val|nc)\s*:", head, re.M) else None
    )
