"""What a folder of images and masks is and what is wrong with it."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from octavo.cache import open_cache
from octavo.data import torchvision_data
from octavo.data.classes import load_table
from octavo.data.doctor import FILE, Diagnosis, diagnose
from octavo.data.fitting import naming_options
from octavo.data.pair_division import Shown, divide_pairs
from octavo.data.pairs import Pairs
from octavo.data.walk import one_line
from octavo.errors import UserError, finding
from octavo.files import write_atomic
from octavo.overwrite import Kind, require_writable
from octavo.progress import Progress, silent
from octavo.recipe import SegmentRecipe, load
from octavo.tasks.inspection import Duplicates, Flaw, Near, Sizes, duplicates_of, look_at_all, near_duplicates, sizes_of
from octavo.tasks.inspection_text import listed, show_findings, show_sizes
from octavo.words import counted

RECIPE = "fcn8s-plus"
"""Recipe by whose shares for validation and for holding out the data are judged."""
_NAME = 20  # columns of a class's name at most


@dataclass(frozen=True, eq=False)
class MaskReport:
    """What `octavo check` found in a folder of images and masks.

    Attributes:
        data: what the user named.
        layout: how the folder is laid out.
        own_split: whether it has a validation part of its own.
        images: split → images with masks.
        sizes: of the images; None when not one could be read.
        formats: of the images → how many.
        modes: Pillow's colour mode of the images → how many.
        diagnosis: what the masks are.
        errors: what keeps training from starting, apart from broken files.
        warnings: what to look at.
        broken: images and masks that can't be read.
        suspicious: images that may not be meant.
        duplicates: the same image twice; `classes` names the masks.
        near: images of two splits that are nearly the same; of data in one part any two.
        unread: in a line, files that lie among the images and aren't read, by their endings.
        todo: what is left to do after a table of classes was written, and the command line that follows.
    """

    data: str
    layout: str
    own_split: bool
    images: Mapping[str, int]
    sizes: Sizes | None
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    diagnosis: Diagnosis
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    broken: tuple[Flaw, ...]
    suspicious: tuple[Flaw, ...]
    duplicates: tuple[Duplicates, ...]
    near: tuple[Near, ...] = ()
    unread: str = ""
    todo: tuple[str, ...] = ()
    unwritten: str = ""

    @property
    def ok(self) -> bool:
        """Whether training can start without `--skip-broken`."""
        return not (self.errors or self.broken)

    def show(self, console: Console) -> None:
        """Show it on the terminal.

        Raises:
            UserError: in the end, a table of classes was to be written, and there is none to propose.
        """
        render_masks(self, console)
        if self.unwritten:
            raise UserError(self.unwritten)


def check_masks(
    data: str | Path,
    layout: str | None = None,
    columns: str | None = None,
    *,
    classes: str | None = None,
    tolerant: bool = False,
    write_classes: Path | None = None,
    overwrite: bool = False,
    cache: Path | None = None,
    leaks: bool | None = None,
    progress: Progress = silent,
) -> MaskReport:
    """Look at every image and mask of a data folder and report what it is and what is wrong with it.

    Args:
        data: folder, CSV file or `torchvision:NAME`.
        layout: its layout, if it can't be found by looking.
        columns: what is what in a table of images and masks, if that can't be, as in `image=img,mask=gt`.
        classes: table of classes, a shipped one's name or a TOML file.
        tolerant: whether each channel of the masks counts as 255 from 128 on, else as 0.
        write_classes: TOML file to write the proposed table of classes to, if there is one; the report is then by
            that table.
        overwrite: whether a file of that name is replaced.
        cache: folder for decoded images.
        leaks: whether to look for images that are nearly the same; None: unless that takes long.
        progress: told how far it is.

    Raises:
        DataRefused: the layout or a table of images and masks can't be read.
        UserError: there is no such folder, a table of classes can't be read, or a file to write is there already.
    """
    place = None
    if write_classes:
        option = {"overwrite": overwrite, "option": "--write-classes", "inputs": [Path(data)]}
        place = require_writable(write_classes, PROPOSAL, **option)
    with finding(data):
        pairs = torchvision_data.read_pairs(data, layout, columns, strict=False, cache=cache, progress=progress)
    todo, unwritten = (), ""
    if write_classes and place:
        found = _diagnosed(pairs, classes, tolerant, progress)
        if found.proposal:
            write_atomic(place, found.proposal.encode())
            todo = _todo(pairs, layout, columns, tolerant, write_classes)
            classes = str(write_classes)
        else:
            unwritten = _nothing_proposed(write_classes, found)
    found = report_on(pairs, classes, tolerant, progress)
    near, unlooked = near_duplicates(pairs, pairs.splits, open_cache(cache), leaks, progress)
    warnings = (*found.warnings, *filter(None, [unlooked]))
    return replace(found, near=near, warnings=warnings, todo=todo, unwritten=unwritten)


def _todo(pairs: Pairs, layout: str | None, columns: str | None, tolerant: bool, table: Path) -> tuple[str, ...]:
    """Return what is left to do once a table of classes is written: in words, and as a command line."""
    words = ["octavo", "train", RECIPE, "--data", pairs.root, *(["--layout", layout] if layout else [])]
    words += ["--columns", columns] if columns else []
    beside = {(Path(folder) / FILE).resolve() for folder in (pairs.root, pairs.folder) if folder}
    words += [] if table.resolve() in beside else ["--set", f"data.classes={table}"]
    words += ["--set", "data.tolerant=true"] if tolerant else []
    names = load_table(table).names
    return (
        f"{table}: names {counted(len(names), 'class')} {', '.join(names[:3])}{', …' if len(names) > 3 else ''}; give "
        "them their names there, and ignored = true to what is no class; then:",
        shlex.join(words),
    )


def _diagnosed(pairs: Pairs, classes: str | None, tolerant: bool, progress: Progress) -> Diagnosis:
    with naming_options():
        return diagnose(pairs, classes, tolerant, progress=progress).in_options()


def report_on(
    pairs: Pairs, classes: str | None = None, tolerant: bool = False, progress: Progress = silent
) -> MaskReport:
    """Look at every image and mask of these pairs and report on them, as `check_masks` does.

    Raises:
        UserError: for a table of classes that can't be read.
    """
    found = _diagnosed(pairs, classes, tolerant, progress)
    if classes or "--classes" in found.refusal:
        table = f"={shlex.quote(classes)}" if classes else "=NAME"
        found = replace(found, notes=(*found.notes, f"octavo train takes the table as --set data.classes{table}"))
    seen = look_at_all(pairs, progress)
    refused, lost = _division(pairs, found, [i for i, one in enumerate(seen) if one.broken])
    headers = [s.header for s in seen if s.header]
    named = list(zip(pairs.files, seen, strict=True))
    return MaskReport(
        data=pairs.root,
        layout=pairs.layout,
        own_split=pairs.own_split,
        images={split: len(index) for split, index in pairs.splits.items()},
        sizes=sizes_of(headers),
        formats=dict(Counter(h.format for h in headers).most_common()),
        modes=dict(Counter(h.mode for h in headers).most_common()),
        diagnosis=found,
        errors=(*(p.text for p in pairs.problems if p.fatal), *found.errors, *refused),
        warnings=(*lost, *(p.text for p in pairs.problems if not p.fatal), *found.warnings),
        broken=(
            *(Flaw(file=f, reason=s.broken) for f, s in named if s.broken),
            *(Flaw(file=file, reason=reason) for file, reason in found.broken),
        ),
        suspicious=tuple(Flaw(file=f, reason=s.suspicious) for f, s in named if s.suspicious),
        duplicates=duplicates_of(pairs.files, pairs.splits, lambda i: _mask_name(pairs.mask_path(i)), seen),
        unread=pairs.unread,
    )


PROPOSAL = Kind("file that may be replaced unseen", lambda path: False)
"""A table of classes is written to be edited by hand, so not even one of our own is replaced unasked."""


def _division(pairs: Pairs, found: Diagnosis, broken: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return why training would refuse these data without the broken files, and what they would lose by that."""
    recipe = load(RECIPE)
    assert isinstance(recipe, SegmentRecipe)
    if found.decoder is None or found.refusal or any(problem.fatal for problem in pairs.problems):
        return (), ()
    unread = frozenset(set(range(len(pairs.files))) - found.shown.keys())
    shown = Shown(found.decoder.table, unread.union(broken), unread, found.shown.__getitem__)
    try:
        whole = pairs if pairs.own_split else pairs.with_val(recipe.data.val, recipe.seed)
        return (), divide_pairs(recipe, whole, shown).warnings
    except UserError as error:
        return (str(error),), ()


def _nothing_proposed(path: Path, diagnosis: Diagnosis) -> str:
    """Return why there is no table of classes to write."""
    names = " or ".join(f"--classes {name}" for name in diagnosis.candidates)
    decoder = diagnosis.decoder
    known = f'table "{decoder.table.name}" reads these masks' if decoder else names or diagnosis.form
    return f"{path}: no table to propose: {known}"


def render_masks(report: MaskReport, console: Console) -> None:
    """Show a report on the terminal."""
    split = "own split" if report.own_split else "no validation part of its own"
    console.print(Text.assemble((report.data, "bold"), f": layout {report.layout}, {split}"))
    parts = ", ".join(f"{n:,} {split}" for split, n in report.images.items())
    console.print(f"{sum(report.images.values()):,} images with masks: {parts}", highlight=False)
    show_sizes(console, report.sizes, report.formats, report.modes, report.unread)
    console.print(Text(f"masks: {one_line(report.diagnosis.form)}"))
    if report.diagnosis.decoder:
        console.print(_table(report.diagnosis, console.width))
    show_findings(console, report, "the same image with two masks")
    listed(console, "notes", "cyan", report.diagnosis.notes)
    verdict = ("ready to train on", "green") if report.ok else ("not ready: see errors and broken files", "red")
    console.print(Text(*verdict))
    for line in report.todo:
        console.print(Text(one_line(line)), soft_wrap=True)


def _table(found: Diagnosis, width: int) -> Table:
    """Show each class's share of the pixels, as a number and a bar, split by split."""
    table = Table(box=None, pad_edge=False)
    table.add_column("id", justify="right")
    table.add_column("class", max_width=_NAME, no_wrap=True)
    bar = max(4, min(24, (width - _NAME - 8) // max(len(found.counts), 1) - 12))
    for split in found.counts:
        table.add_column(split, justify="right")
        table.add_column("", width=bar)
    for row in _rows(found, bar):
        table.add_row(*row)
    return table


def _rows(found: Diagnosis, bar: int) -> Iterator[tuple[Text, ...]]:
    assert found.decoder is not None
    table = found.decoder.table
    shares = {s: own / max(own.sum() + found.ignored[s], 1) for s, own in found.counts.items()}
    most = max((float(own.max(initial=0)) for own in shares.values()), default=0) or 1
    for channel, entry in enumerate(table.trained):
        name = Text.assemble(("■ ", "rgb({},{},{})".format(*entry.colour)), one_line(entry.name))
        parts = [p for own in shares.values() for p in _share(float(own[channel]), most, bar)]
        yield Text(str(entry.value)), name, *parts
    if any(found.ignored.values()) or any(e.ignored for e in table.entries):
        void = {s: found.ignored[s] / max(own.sum() + found.ignored[s], 1) for s, own in found.counts.items()}
        yield Text(""), Text("  no class", style="dim"), *(p for v in void.values() for p in _share(v, most, bar))


def _share(share: float, most: float, bar: int) -> tuple[Text, Text]:
    """Return a share of the pixels as a percentage and as a bar, which is full at `most`."""
    number = f"{share:.2%}" if share >= 5e-5 or share == 0 else "<0.01%"
    return Text(number), Text("█" * min(bar, round(bar * share / most)) or ("▏" if share else ""))


def _mask_name(path: Path) -> str:
    """Name a mask by its bytes: equal masks have equal names."""
    try:
        return f"mask {hashlib.sha256(path.read_bytes()).hexdigest()[:6]}"
    except OSError:
        return "no mask"
