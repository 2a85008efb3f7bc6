"""Columns of a table of images: which names the image, the class, the mask, the split and the group."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from octavo.data.formats import IMAGE_SUFFIXES
from octavo.data.samples import CANONICAL
from octavo.data.tables import Table, distinct
from octavo.errors import UserError, suggest

Headers = Mapping[str, Sequence[str]]
"""Column → the names it may have; all but those of OPTIONAL must be there, and other columns are left alone."""
HEADERS: Headers = {
    "image": ("image", "image_id", "file", "filename", "path"),
    "label": ("label", "class"),
    "split": ("split",),
    "group": ("group",),
}
"""What the columns of a table of labels may be called."""
PAIR_HEADERS: Headers = {
    "image": HEADERS["image"],
    "mask": ("mask", "mask_file", "mask_filename"),
    "split": HEADERS["split"],
    "group": HEADERS["group"],
}
"""What the columns of a table of images and masks may be called."""
OPTIONAL = ("split", "group")

IMAGES = {"image", "images", "imageid", "imagename", "imagepath", "imagefile", "imageindex", "img", "imgid", "imgname",
          "imgpath", "file", "files", "filename", "filenames", "filepath", "filepaths", "path", "paths", "fname", "id",
          "name", "photo", "photoid"}  # fmt: skip
"""What a column of images is often called, as `plain` gives it."""
LABELS = {"label", "labels", "class", "classes", "classname", "classid", "classlabel", "labelname", "labelid",
           "target", "targets", "category", "categories", "categoryid", "categoryname", "dx", "diagnosis", "breed",
           "species", "variety", "disease", "groundtruth", "type", "y"}  # fmt: skip
"""What a column of classes is often called, likewise."""
_MARKS = ((("1", "1.0"), ("0", "0.0", "-1", "-1.0", "")), (("true",), ("false", "")), (("yes",), ("no", "")),
          (("y",), ("n", "")), (("t",), ("f", "")), (("x",), ("",)))  # fmt: skip
FLAGS = {cell: place == 0 for style in _MARKS for place in (0, 1) for cell in style[place]}
"""Cells of columns that are a class each, in lower case → whether the image is of it."""
_OTHER = re.compile(
    r"(unnamed.*|index|idx|licen[cs]e.*|authors?|urls?|link|source|credits?|copyright|owner|title|caption|comment|notes?|"
    r"description|date.*|time.*|year|width|height|size|bytes|md5|sha\d*|hash|bbox.*|box.*|roi.*|[xywh]\d*|[xy](min|max)|"
    r"confidence|score|prob.*|p_.*|reason|usage|set|encodedpixels|rlemask|rle|segmentation)?"
)
"""What a column of classes is never called."""
_MASKS = re.compile(r"mask|label|annot|seg|gt|ground.?truth|target|lbl", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """Which column is what: places by `image`, `label`, `mask`, `split` and `group`.

    `one_hot` are the places of columns that are a class each, marked as in FLAGS where an image is of it; then there is
    no `label`.
    """

    places: Mapping[str, int]
    one_hot: tuple[int, ...] = ()

    def option(self, table: Table) -> str:
        """Return these columns as `--columns` takes them."""
        parts = [f"{key}={table.header[place].strip()}" for key, place in self.places.items()]
        if self.one_hot:
            parts.insert(1, f"label={'+'.join(table.header[place].strip() for place in self.one_hot)}")
        return ",".join(parts)


@dataclass(frozen=True)
class Unclear:
    """A table of these images whose columns can't be told: the image's, where it is known, and those that may be meant.

    `why` says what is unclear.
    """

    why: str
    image: int | None = None
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Matched:
    """A column whose cells name images: its place, and the images that each row may mean."""

    place: int
    rows: tuple[tuple[str, ...], ...] = field(repr=False)

    @property
    def files(self) -> set[str]:
        """The images that are named without doubt."""
        return {found[0] for found in self.rows if len(found) == 1}


def named(table: Table, headers: Headers) -> Columns | None:
    """Return the columns by the names that `headers` knows; None where one of those that must be there is missing."""
    names = table.names
    places = {key: [names.index(n) for n in known if n in names] for key, known in headers.items()}
    if not all(found for key, found in places.items() if key not in OPTIONAL):
        return None
    return Columns({key: found[0] for key, found in places.items() if found})


def given(table: Table, option: str, headers: Headers) -> Columns:
    """Return the columns that `--columns` names, with `split` and `group` by their usual names where it doesn't.

    Raises:
        UserError: it names no image, class or mask, or a column that isn't there.
    """
    must = [key for key in headers if key not in OPTIONAL]
    form = ",".join(f"{key}=COLUMN" for key in must)
    parts = dict(part.split("=", 1) for part in re.split(rf",(?=(?:{'|'.join(headers)})=)", option) if "=" in part)
    unknown = next((key for key in parts if key not in headers), None)
    if unknown or any(key not in parts for key in must):
        raise UserError(f"--columns {option}: expected {form}, and maybe split=COLUMN,group=COLUMN")
    places = {key: found[0] for key, found in _optional(table, headers).items()}
    several = parts.get("label", "").split("+")
    for key, name in parts.items():
        if key != "label" or len(several) == 1 or name.strip().lower() in table.names:
            places[key] = _place(table, name)
    one_hot = () if "label" in places or "label" not in headers else tuple(_place(table, name) for name in several)
    return Columns({key: places[key] for key in headers if key in places}, one_hot)


def _optional(table: Table, headers: Headers) -> dict[str, list[int]]:
    names = table.names
    places = {key: [names.index(n) for n in headers[key] if n in names] for key in OPTIONAL}
    return {key: found for key, found in places.items() if found}


def _place(table: Table, name: str) -> int:
    if name.strip().lower() not in table.names:
        known = [cell.strip() for cell in table.header]
        raise UserError(f'--columns: no column "{name}" in {table.file}{suggest(name, known)}')
    return table.names.index(name.strip().lower())


def labels_in(table: Table, images: Sequence[Matched]) -> Columns | Unclear | None:
    """Return the columns of a table of labels, of which `images` name images.

    None where no column can be that of the classes.
    """
    places = {image.place for image in images}
    split = _split(table, places)
    optional = {key: found[0] for key, found in _optional(table, HEADERS).items() if key != "split"}
    optional |= {"split": split} if split is not None else {}
    rest = [place for place in range(len(table.header)) if place not in places | set(optional.values())]
    usable = [place for place in rest if _classes(table, place)]
    called = [
        place for place in rest if plain(table.header[place]) in LABELS and len(distinct(table.column(place))) > 1
    ]
    exact = [table.names.index(name) for name in HEADERS["label"] if name in table.names]
    called = [place for place in exact if place in called][:1] or called
    if any(not one.files & other.files for i, one in enumerate(images) for other in images[:i]):
        return None  # images and masks
    image, *others = [m for m in images if plain(table.header[m.place]) in IMAGES] or images
    if any(other.files != image.files for other in others):
        return Unclear("which column names the image", None, tuple(m.place for m in (image, *others)))
    flags = [place for place in rest if _flags(table, place)]
    if len(flags) > 1 and len(flags) >= len([p for p in usable if p not in flags]) and not called:
        return _one_hot(table, image, flags, [place for place in usable if place not in flags], optional)
    chosen = _one_reading(table, called or usable)
    if chosen is not None:
        order = {"image": image.place, "label": chosen, **optional}
        return Columns({key: order[key] for key in HEADERS if key in order})
    if called or usable:
        return Unclear("which column is the class", image.place, tuple(called or usable))
    shares = _shares(table, rest)
    return Unclear("the one class of an image: they hold shares", image.place, shares) if shares else None


def _one_hot(
    table: Table, image: Matched, flags: Sequence[int], others: Sequence[int], optional: Mapping[str, int]
) -> Columns | Unclear:
    marks = {sum(FLAGS[cells[place].strip().lower()] for place in flags) for _, cells in table.rows}
    if marks == {1} and not others:
        return Columns({"image": image.place, **optional}, tuple(flags))
    why = "which columns are the classes" if others else "the one class of an image: some have none or several"
    return Unclear(why, image.place, (*others, *flags))


def _flags(table: Table, place: int) -> bool:
    """Tell whether a column marks images, all in one of the ways in _MARKS."""
    values = {value.lower() for value in distinct(table.column(place))}
    return values != {""} and any(values <= {*yes, *no} for yes, no in _MARKS)


def _shares(table: Table, places: Sequence[int]) -> tuple[int, ...]:
    """Return the columns of which an image has shares between 0 and 1 that add up to 1, as in probabilities."""
    columns = {place: [_number(cell) for cell in table.column(place)] for place in places}
    some = {place: numbers for place, numbers in columns.items() if all(0 <= number <= 1 for number in numbers)}
    rows = set(zip(*some.values(), strict=True))
    whole = all(abs(sum(row) - 1) < 0.02 for row in rows)
    return tuple(some) if len(some) > 1 and whole and len(rows) > 1 else ()  # a form to fill in is the same in all rows


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def masks_in(table: Table, images: Sequence[Matched]) -> Columns | Unclear | None:
    """Return the columns of a table of images and masks; None where fewer than two columns name different files."""
    files = [m for m in images if _called_files(table, m.place)]
    apart = [m for i, m in enumerate(files) if not any(m.files & other.files for other in files[:i])]
    if len(apart) < 2:
        return None
    masks = [m for m in apart if _MASKS.search(table.header[m.place])]
    if len(masks) != 1:
        masks = [m for m in apart if all(_MASKS.search(file) for file in m.files)]
    if len(apart) > 2 or len(masks) != 1:
        return Unclear("which column is the image and which the mask", None, tuple(m.place for m in apart))
    image = next(m for m in apart if m is not masks[0])
    split = _split(table, {m.place for m in images})
    places = {"image": image.place, "mask": masks[0].place} | ({"split": split} if split is not None else {})
    return Columns(places | {key: found[0] for key, found in _optional(table, PAIR_HEADERS).items() if key != "split"})


def _called_files(table: Table, place: int) -> bool:
    """Tell whether a column's cells end as images do, or its header says that it names images or masks."""
    named = sum(cell.strip().lower().endswith(IMAGE_SUFFIXES) for cell in table.column(place))
    header = table.header[place]
    return 2 * named > len(table.rows) or plain(header) in IMAGES or bool(_MASKS.search(header))


def _split(table: Table, but: Collection[int]) -> int | None:
    """Return the column of splits: the one called so, else one that holds nothing but their names."""
    if "split" in table.names:
        return table.names.index("split")
    for place in range(len(table.header)):
        values = {value.lower() for value in distinct(table.column(place))}
        if place not in but and len(values) > 1 and values <= CANONICAL.keys():
            return place
    return None


def _classes(table: Table, place: int) -> bool:
    """Tell whether a column's cells can be classes: few different ones, no measures, not named as something else."""
    cells = table.column(place)
    values = distinct(cells)
    if _OTHER.fullmatch(table.names[place]) or not 1 < len(values) <= max(2, len(cells) // 2) or "" in values:
        return False
    return not all(re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?", value, re.IGNORECASE) for value in values)


def _one_reading(table: Table, places: Sequence[int]) -> int | None:
    """Return the one column that can be meant; of several that say the same in other words, the one in words."""
    if not places:
        return None
    first = table.column(places[0])
    if not all(same(zip(first, table.column(place), strict=True)) for place in places[1:]):
        return None
    exact = [place for place in places if table.names[place] in HEADERS["label"]]
    words = [p for p in places if not all(v.lstrip("-").isdigit() for v in distinct(table.column(p)))]
    return [*exact, *words, *places][0]


def same(pairs: Iterator[tuple[str, str]]) -> bool:
    """Tell whether two columns say the same: to each value of one belongs one value of the other."""
    there: dict[str, str] = {}
    back: dict[str, str] = {}
    stripped = ((a.strip(), b.strip()) for a, b in pairs)
    return all(there.setdefault(a, b) == b and back.setdefault(b, a) == a for a, b in stripped)


def plain(name: str) -> str:
    """Return a name in lower case without `_`, `-` and spaces."""
    return re.sub(r"[ _-]", "", name).lower()
