"""A network layer by layer: PyTorch's own print, with each layer's output shape and number of parameters beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from octavo.networks.backbone import parameters

_LINE = re.compile(r"^(?P<indent> *)\((?P<name>[^):]+)\): ")
_EQUAL = re.compile(r"^ *\(\d+-\d+\): \d+ x ")
_INDENT = 2
_COLUMN = 100


def annotated(net: nn.Module, height: int, width: int, depth: int | None = None) -> str:
    """Return PyTorch's print of a network on the meta device, with output shapes and parameters beside each layer.

    Cut off the column (from two spaces and an arrow on) and `repr(net)` is left. With a `depth`, layers that lie deeper
    are left out, and … stands in their place.
    """
    shapes = output_shapes(net, height, width)
    layers = dict(net.named_modules())
    lines = repr(net).splitlines()
    notes = [_note(name, layers, shapes) for name in _layer_names(lines, layers)]
    notes = [note + " each" if _EQUAL.match(line) else note for line, note in zip(lines, notes, strict=True)]
    rows = list(_folded(zip(lines, notes, strict=True), depth))
    column = max((len(line) for line, _ in rows if len(line) <= _COLUMN), default=_COLUMN)
    return "\n".join(f"{line:<{column}}  {note}".rstrip() for line, note in rows)


def _folded(rows: Iterator[tuple[str, str]], depth: int | None) -> Iterator[tuple[str, str]]:
    for line, note in rows:
        level = (len(line) - len(line.lstrip())) // _INDENT
        if depth is None or level < depth:
            yield line, note
        elif level == depth and line.strip() != ")":
            yield (f"{line}…)" if line.endswith("(") else line), note


def output_shapes(net: nn.Module, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the output shape, without the batch, of each layer that runs, by its name, for images of that size.

    Of a layer that runs several times it is the last output, of one with several outputs the first. `net` is on the
    meta device and is put into eval mode.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str, output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) and output else output
        if isinstance(first, Tensor):
            shapes[name] = tuple(first.shape[1:])

    hooks = [m.register_forward_hook(lambda _m, _i, out, name=n: keep(name, out)) for n, m in net.named_modules()]
    try:
        with torch.no_grad():
            net.eval()(torch.empty(2, 3, height, width, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _layer_names(lines: list[str], layers: Mapping[str, nn.Module]) -> Iterator[str | None]:
    """Yield for each printed line the layer that begins on it: "" is the whole network, None a line without one."""
    path: list[str] = []
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if not found:
            yield "" if number == 0 else None
            continue
        # Equal neighbours in a ModuleList are printed as one, "(0-3): 4 x …": the first of them speaks for all.
        own = found["name"]
        depth = len(found["indent"]) // _INDENT
        del path[depth - 1 :]
        if ".".join([*path, own]) not in layers:
            own = own.split("-")[0]
        path.append(own)
        name = ".".join(path)
        yield name if name in layers else None


def _note(name: str | None, layers: Mapping[str, nn.Module], shapes: Mapping[str, tuple[int, ...]]) -> str:
    if name is None:
        return ""
    count = parameters(layers[name])
    shape = written(shapes[name]) if name in shapes else "–"
    return f"→ {shape}" + (f" · {count:,}" if count else "")


def written(shape: Sequence[int]) -> str:
    """Return a shape as text, such as 512×7×7."""
    return "×".join(str(n) for n in shape)
