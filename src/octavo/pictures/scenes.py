"""Single images with their true and predicted masks, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from octavo.numbers.confusion import IGNORE
from octavo.pictures.grid import GridRow, Swatch, picture_grid, smaller
from octavo.pictures.style import Colour

_WRONG: Colour = (136, 34, 85)  # far darker than what is right, so that no eye needs the hue
_RIGHT, _VOID, _STRIPE = (232, 232, 232), (214, 214, 214), (120, 120, 120)
_COVER = 0.65  # share of the classes' colours over the grey image


@dataclass(frozen=True, eq=False)
class Scene:
    """One image and its masks.

    Attributes:
        name: of the image.
        note: what it is an example of, in a few words.
        image: uint8 [H,W,3].
        truth: channel indices uint8 [h,w]; 255 where there is no truth.
        predicted: the same, uint8 [h,w].
    """

    name: str
    note: str
    image: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def scene_table(scenes: Sequence[Scene], colours: np.ndarray, classes: Mapping[str, Colour]) -> Figure:
    """Return a row a scene: image, truth and prediction over it, and the pixels that are wrong.

    Args:
        scenes: what is shown.
        colours: uint8 [256,3], by channel index.
        classes: the legend: name → colour.

    Raises:
        ValueError: no scenes, or masks of another shape than their truth.
    """
    rows = [GridRow(scene.name, _pictures(scene, colours), scene.note) for scene in scenes]
    errors = {"right": Swatch(_RIGHT), "wrong": Swatch(_WRONG)}
    if any((scene.truth == IGNORE).any() for scene in scenes):
        errors["no truth: counts nowhere"] = Swatch(_VOID, _STRIPE)
    legends = {"classes": {name: Swatch(colour) for name, colour in classes.items()}, "errors": errors}
    return picture_grid(rows, ("original", "truth", "predicted", "errors"), legends)


def _pictures(scene: Scene, colours: np.ndarray) -> tuple[np.ndarray, ...]:
    if scene.truth.shape != scene.predicted.shape:
        raise ValueError(f"{scene.name}: truth {scene.truth.shape}, predicted {scene.predicted.shape}")
    truth, predicted = smaller(scene.truth), smaller(scene.predicted)
    height, width = truth.shape
    image = smaller(scene.image, smooth=True, size=(height, width))
    grey = image @ np.array([0.299, 0.587, 0.114])
    return (
        smaller(scene.image, smooth=True),
        striped(overlaid(grey, colours[truth]), truth == IGNORE),
        overlaid(grey, colours[predicted]),
        error_map(grey, truth, predicted),
    )


def overlaid(grey: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return colours uint8 [H,W,3] over a grey image float [H,W] in 0–255, so that hues stay as they are."""
    mixed = (1 - _COVER) * grey[..., None] + _COVER * colours
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def error_map(grey: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return uint8 [H,W,3]: right pixels pale, wrong ones dark, striped where there is no truth.

    Args:
        grey: the image, float [H,W] in 0–255.
        truth: channel indices uint8 [H,W].
        predicted: the same.
    """
    pale = np.rint(210 + grey * (45 / 255))[..., None].repeat(3, axis=2)
    pale[truth != predicted] = _WRONG
    return striped(pale.clip(0, 255).astype(np.uint8), truth == IGNORE)


def striped(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return a picture uint8 [H,W,3] with grey stripes where `where`, bool [H,W], is set."""
    height, width = where.shape
    period = max(max(height, width) / 28, 2)
    down, right = np.mgrid[:height, :width]
    dark = ((down + right) % period < period * 0.3)[..., None]
    return np.where(where[..., None], np.where(dark, _STRIPE, _VOID), picture).astype(np.uint8)
