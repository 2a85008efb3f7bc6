"""A run of a segmenter and image files → masks, one file an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from octavo.data import geo
from octavo.data.classes import IGNORE, ClassTable
from octavo.data.masks import paint
from octavo.data.pixels import BrokenImage, decode, probe
from octavo.data.png import write_png
from octavo.data.unread import unread_below
from octavo.engine.folder import RunFolder
from octavo.engine.windows import OVERLAP, WHOLE, WINDOW, Rows, Spool, check_window, count, reduced, spool, windowed
from octavo.errors import DiskFull, UserError
from octavo.files import write_atomic, write_csv
from octavo.output_lock import locked_output
from octavo.overwrite import remove_list
from octavo.progress import Progress, silent
from octavo.tasks.segmentation.mask_targets import ERRORS, Target, plan
from octavo.tasks.segmentation.predictor import MaskPredictor
from octavo.tasks.segmentation.restore import APPROXIMATE, MAX_PIXELS, Averaging, TrainedSegmenter
from octavo.words import counted

_IN_MEMORY = 1 << 24  # pixels of an image or a mask beyond which it waits in a temporary file
_ROWS = 512  # rows that are painted and written at a time


@dataclass(frozen=True)
class MaskPredictions:
    """What was written, and what could not be.

    Attributes:
        out: the folder.
        masks: image, as it was named → its mask.
        errors: image of which there is no mask → reason; also in `errors.csv` in `out`.
        notes: what a user should know of single images, such as windows.
    """

    out: Path
    masks: dict[str, Path]
    errors: dict[str, str]
    notes: tuple[str, ...]

    @property
    def errors_path(self) -> Path:
        """Where the images that could not be read are listed."""
        return self.out / ERRORS


@dataclass(frozen=True)
class Choices:
    """How masks are made and written; see `predict_masks`."""

    ids: bool
    overlay: float | None
    window: int | None
    overlap: int
    cut: list[str]
    """Images that were cut into windows, by their names: filled while masks are made."""


@dataclass(frozen=True)
class Picture:
    """One image: height and width, its rows at the network's scale, and what is known beyond them.

    `full` gives its own rows, where they are wanted.
    """

    size: tuple[int, int]
    small: tuple[int, int]
    rows: Rows
    full: Rows | None = None
    geo: geo.GeoImage | None = None


def predict_masks(
    run: RunFolder,
    images: Sequence[str | Path],
    out: Path,
    *,
    device: str = "auto",
    ids: bool = False,
    overlay: float | None = None,
    flips: bool = False,
    scales: tuple[float, ...] = (),
    window: int | None = None,
    overlap: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> MaskPredictions:
    """Write the predicted mask of every image, in the image's size, as `out/STEM.png`.

    An image `0000_sat.jpg` gives `0000_sat.png`. Folders below one that was given are kept. A TIFF that says where it
    lies on the ground gives `STEM.tif` instead: class values with a colour map, in the same place.

    Args:
        run: a finished run.
        images: files, and folders that are searched to the bottom; what lies in `out` below one of them is left out.
        out: folder to write to.
        device: `auto`, `cpu`, `cuda` or `mps`.
        ids: write class values in grey instead of colours; of a GeoTIFF, without the colour map.
        overlay: also write `STEM_overlay.png`, the image under this share of the classes' colours.
        flips: average the probabilities of the mirrored images.
        scales: average the probabilities of the image at these factors.
        window: least side of the windows that every image is cut into; by default images of more than 4 million pixels
            are, into windows of 768.
        overlap: of neighbouring windows, in pixels; 128 by default.
        overwrite: replace files in `out` that no prediction wrote; never images that are read.
        progress: told after every image, and within large ones.

    Raises:
        UserError: no images, two that would become one file, an unfinished run, a full disk, another process that is
            writing to `out`. Images that fail by
            themselves are in the result.
    """
    choices = Choices(ids, overlay, window, OVERLAP if overlap is None else overlap, [])
    check_window(window or WINDOW, choices.overlap)
    if overlay is not None and not 0 < overlay <= 1:
        raise UserError(f"--overlay {overlay:g}: expected the colours' share, above 0 and at most 1, such as 0.5")
    targets = plan(images, out, overlay is not None, overwrite=overwrite, data=run.data)
    with locked_output([out / ERRORS], f"--out {out}"):
        trained = MaskPredictor(run, device, flips=flips, scales=scales).trained
        masks, errors, notes = _predict_all(trained, targets, choices, progress)
        if errors:
            write_csv(out / ERRORS, [{"image_id": name, "reason": reason} for name, reason in errors.items()])
        else:
            remove_list(out / ERRORS)
    notes += _on_windows(trained, choices, overlap)
    notes += filter(None, [unread_below([path for path in map(Path, images) if path.is_dir()], images=False)])
    return MaskPredictions(out, masks, errors, tuple(notes))


def _predict_all(
    trained: TrainedSegmenter, targets: Sequence[Target], choices: Choices, progress: Progress
) -> tuple[dict[str, Path], dict[str, str], list[str]]:
    """Write what is made of each image; return masks and errors by the images' names, and notes."""
    masks, errors, notes = {}, {}, []
    for done, target in enumerate(targets):

        def told(windows: int, total: int, done: int = done, name: str = target.name) -> None:
            if total > 1:
                progress("predict", done, len(targets), f"{name}: window {windows:,} of {total:,}")

        try:
            notes += _predict(trained, target, choices, told)
            masks[target.name] = target.mask
        except DiskFull:
            raise  # no other image would have room
        except Exception as error:  # whatever it is, the other images are predicted all the same
            errors[target.name] = _reason(error)
        progress("predict", done + 1, len(targets), f"{len(errors)} unreadable" if errors else "")
    return masks, errors, notes


def _reason(error: Exception) -> str:
    """Return in one line why there is no mask of an image."""
    text = " ".join(str(error).split())
    if isinstance(error, BrokenImage | UserError):
        return text
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "not enough memory"
    return f"{type(error).__name__}: {text}"[:300]


def _on_windows(trained: TrainedSegmenter, choices: Choices, overlap: int | None) -> Iterator[str]:
    """Say what the windows did to the masks, and that there were none where some were asked for."""
    if choices.cut and trained.sees_whole:
        yield f"{counted(len(choices.cut), 'image')} in windows: {APPROXIMATE}"
    if overlap is not None and not choices.cut:
        yield f"--overlap {overlap}: no image was cut into windows; --window cuts those of up to {WHOLE:,} pixels too"


def _predict(
    trained: TrainedSegmenter, target: Target, choices: Choices, told: Callable[[int, int], None]
) -> Iterator[str]:
    """Write what is made of one image, and yield what is to be known of it.

    Raises:
        BrokenImage: it can't be read.
    """
    with ExitStack() as stack:
        picture = stack.enter_context(_opened(trained, target, choices))
        window, note = _window(picture.small, choices, trained.averaging)
        if note:
            yield f"{target.name}: {note}"
        if count(picture.small, window, choices.overlap) > 1:
            choices.cut.append(target.name)
        ids, top = stack.enter_context(spool(picture.size, _IN_MEMORY)), 0
        for strip in windowed(
            trained.scores,
            picture.rows,
            picture.small,
            window,
            choices.overlap,
            to=picture.size,
            batch=trained.batch,
            told=told,
        ):
            if picture.geo:
                strip[~picture.geo.valid(top, top + len(strip))] = IGNORE
            ids.write(top, strip)
            top += len(strip)
        _write(target, ids, picture, trained.table, choices)


@contextmanager
def _opened(trained: TrainedSegmenter, target: Target, choices: Choices) -> Iterator[Picture]:
    if target.geo:
        with geo.open_geo(target.image) as image:
            size = (image.height, image.width)
            small = trained.small_size(*size)
            yield Picture(size, small, reduced(image.rows, size, small), image.rows, image)
        return
    header = probe(target.image, MAX_PIXELS)
    size = (header.height, header.width)
    with ExitStack() as stack:
        small, rows = _decoded(target, trained.scale, stack)
        full = rows if small == size else _decoded(target, 1.0, stack)[1] if choices.overlay else None
        yield Picture(size, small, rows, full)


def _decoded(target: Target, scale: float, stack: ExitStack) -> tuple[tuple[int, int], Rows]:
    """Return the height and width of an image that is decoded whole, and its rows, kept until `stack` is left."""
    pixels = decode(target.image, MAX_PIXELS, scale=scale)
    kept = stack.enter_context(spool(pixels.shape, _IN_MEMORY))
    kept.write(0, pixels)
    return (pixels.shape[0], pixels.shape[1]), kept.rows


def _window(small: tuple[int, int], choices: Choices, averaging: Averaging) -> tuple[int, str]:
    """Return the windows' side, and what to say of it; it is larger than the image where that goes whole."""
    if choices.window is not None:
        return choices.window, ""
    if small[0] * small[1] * averaging.largest**2 <= WHOLE:
        return -(-max(small) // 32) * 32 + choices.overlap, ""
    return WINDOW, (
        f"{small[1]:,} × {small[0]:,} pixels at the network's scale, predicted in windows of {WINDOW:,} with an "
        f"overlap of {choices.overlap}; --window chooses another side"
    )


def _write(target: Target, ids: Spool, picture: Picture, table: ClassTable, choices: Choices) -> None:
    height, width = picture.size
    strips = [slice(top, min(top + _ROWS, height)) for top in range(0, height, _ROWS)]
    values, void = values_of(table)

    def overlaid(rows: slice) -> np.ndarray:
        assert picture.full is not None and choices.overlay is not None
        image, colours = picture.full(rows.start, rows.stop), paint(ids.rows(rows.start, rows.stop), table)
        return np.rint(image * (1 - choices.overlay) + colours * np.float32(choices.overlay)).astype(np.uint8)

    def png(path: Path, part: Callable[[slice], np.ndarray], grey: bool = False) -> None:
        write_atomic(path, lambda file: write_png(file, map(part, strips), height, width, grey=grey))

    if target.overlay:  # before the mask, so that where there is a mask all of it is there
        png(target.overlay, overlaid)
    if picture.geo:
        for rows in strips:
            ids.write(rows.start, values[ids.rows(rows.start, rows.stop)])
        colours = {entry.value: entry.colour for entry in table.entries} | {void: table.void_colour}
        geo.write_mask(target.mask, ids.array(), picture.geo, {} if choices.ids else colours, void)
    elif choices.ids:
        png(target.mask, lambda rows: values[ids.rows(rows.start, rows.stop)], grey=True)
    else:
        png(target.mask, lambda rows: paint(ids.rows(rows.start, rows.stop), table))


def values_of(table: ClassTable) -> tuple[np.ndarray, int]:
    """Return what each channel (and IGNORE) is called in a mask of values, uint8 [256], and the value of IGNORE.

    That is the first ignored class's; where none is ignored, the highest that no class has.
    """
    taken = {entry.value for entry in table.entries}
    void = next((e.value for e in table.entries if e.ignored), None)
    if void is None:
        void = next((value for value in range(255, -1, -1) if value not in taken), 0)
    values = np.full(256, void, np.uint8)
    values[: len(table.trained)] = [entry.value for entry in table.trained]
    return values, void
