"""Weights for a machine without a network: what a recipe needs, packed into a folder, and checked there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from octavo.errors import UserError
from octavo.files import write_atomic
from octavo.integrity import sha256_of
from octavo.networks.backbone import Backbone, weightless
from octavo.networks.checksums import SUMS, expected, sums_of, write_sums
from octavo.networks.loading import backbone_part, read_weights, sha256
from octavo.networks.segmenter import CLASSIFIER
from octavo.networks.weights import Entry, entry, fetch, file_names, locate
from octavo.output_lock import locked_output
from octavo.overwrite import Kind, beginning_with, is_image, require_writable, run_of
from octavo.recipe import SUFFIXES, Network, Recipe, is_file


@dataclass(frozen=True)
class Row:
    """One member's weights as `octavo weights list` shows them.

    `size_bytes` is that of the file where it is found, and of the download (0 if unknown) where it is missing; `url` is
    empty where there is nothing to download.
    """

    member: str
    backbone: str
    tag: str
    state: Literal["found", "missing", "not needed"]
    path: Path | None
    size_bytes: int
    url: str


@dataclass(frozen=True)
class Checked:
    """One file as `octavo weights verify` shows it; nothing says the hash of one in the state `no hash`."""

    path: Path
    state: Literal["ok", "corrupt", "missing", "no hash"]


def table(recipe: Recipe, weights_dir: Path | None = None) -> list[Row]:
    """Return where each member's weights are, in the recipe's order; nothing is downloaded.

    Raises:
        UserError: an unknown backbone or set of weights, or no such folder.
    """
    return [_row(member, weights_dir) for member in recipe.networks]


_PACKED = beginning_with("packed weights", b'"origin_sha256"', 1 << 16)


def pack(
    recipe: Recipe,
    out_dir: Path,
    weights_dir: Path | None = None,
    progress: bool = False,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write the published weights that a recipe needs into `out_dir`, downloading what is missing; return the files.

    Each is `NAME-TAG.safetensors`, in the precision it was published in and without the ImageNet classifier, which
    Octavo drops (vgg19_bn: 80 MB instead of 575); its metadata names the original and its sha256. SHA256SUMS lies
    beside them. Only a paper's FCN takes the first two layers of VGG's classifier along. A network whose `weights` is
    a file of one's own isn't packed: the recipe names that file by its path.

    Raises:
        UserError: a file can't be had or is damaged, or something else than packed weights is in the way (`overwrite`
            allows to replace that), or another process is packing there.
    """
    wanted = {
        entry(net.extractor, net.weights): net.uses_classifier
        for net in recipe.networks
        if net.weights != "none" and not is_file(net.weights)
    }
    _require_no_other_folder(out_dir)
    _require_places(wanted, out_dir, overwrite)
    with locked_output([out_dir / SUMS], str(out_dir)):
        return _pack_all(wanted, out_dir, weights_dir, progress)


def _pack_all(wanted: Mapping[Entry, bool], out_dir: Path, weights_dir: Path | None, progress: bool) -> list[Path]:
    origins = {found: fetch(found, weights_dir, True, progress) for found in wanted}
    for origin in origins.values():
        sha256(origin)  # all are what they should be before the first is written
    written = [_pack_one(found, origins[found], out_dir, top) for found, top in wanted.items()]
    if written:
        write_sums(out_dir, sums_of(out_dir) | {path.name: sha256_of(path) for path in written})
    return written


def verify(target: Path | Recipe, weights_dir: Path | None = None) -> list[Checked]:
    """Return whether the weights files of a folder, or those that a recipe would use, are what they should be.

    A file is compared with what `checksums.expected` says of it.

    Raises:
        UserError: no such folder.
    """
    if isinstance(target, Path):
        if not target.is_dir():
            raise UserError(f"{target}: no such folder of weights")
        listed = {target / name for name in sums_of(target)}
        paths = listed | {path for path in target.iterdir() if path.suffix in SUFFIXES}
    else:
        paths = {row.path for row in table(target, weights_dir) if row.path is not None}
    return [_checked(path) for path in sorted(paths)]


def _require_no_other_folder(out_dir: Path) -> None:
    """Refuse to pack among images, or into a run, which `train --overwrite` would then refuse to replace."""
    place = out_dir.resolve()
    if run := run_of(place / SUMS):
        raise UserError(f"{out_dir}: lies in the run {run}; expected a folder of weights alone: choose another")
    files = (place.glob(pattern) for pattern in ("*", "*/*", "*/*/*"))
    if image := next((path for path in chain.from_iterable(files) if path.is_file() and is_image(path)), None):
        raise UserError(f"{out_dir}: holds images ({image}); expected a folder of weights alone: choose another")


def _require_places(wanted: Iterable[Entry], out_dir: Path, overwrite: bool) -> None:
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError(f"{out_dir}: is a file; expected the folder that weights are written to")
    for found in wanted:
        require_writable(out_dir / file_names(found)[1], _PACKED, overwrite=overwrite, option="file")
    listed = Kind("list of hashes", lambda path: True)  # read now, and then added to
    require_writable(out_dir / SUMS, listed, overwrite=overwrite, option="file")
    sums_of(out_dir)


def damage(paths: Iterable[Path | None]) -> dict[Path, str]:
    """Return what is wrong with each of these weights files that isn't what it should be; None is no file."""
    found = {}
    for path in dict.fromkeys(paths):
        if path is not None and path.is_file():
            try:
                sha256(path)
            except UserError as error:
                found[path] = str(error)
    return found


def require_whole(recipe: Recipe, weights_dir: Path | None = None) -> None:
    """Refuse a recipe of whose weights files, as far as they are here, one isn't what it should be.

    Raises:
        Damaged: the first.
    """
    for row in table(recipe, weights_dir):
        if row.path is not None and row.path.is_file():
            sha256(row.path)


def _row(member: Network, weights_dir: Path | None) -> Row:
    if member.weights == "none":
        return Row(member.name, member.extractor, "none", "not needed", None, 0, "")
    if is_file(member.weights):
        path = Path(member.weights).expanduser()
        size = path.stat().st_size if path.is_file() else 0
        return Row(member.name, member.extractor, "file", "found" if path.is_file() else "missing", path, size, "")
    found = entry(member.extractor, member.weights)
    path = locate(found, weights_dir)
    size = path.stat().st_size if path else found.size_bytes
    return Row(member.name, member.extractor, found.tag, "found" if path else "missing", path, size, found.url)


def _pack_one(found: Entry, origin: Path, out_dir: Path, top: bool) -> Path:
    tensors, digest = read_weights(origin)
    metadata = {"origin": origin.name, "origin_sha256": digest} | _packed_from(origin)
    metadata |= {"backbone": found.backbone, "tag": found.tag, "url": found.url}
    path = out_dir / file_names(found)[1]
    write_atomic(path, with_metadata(save(_extractor_part(found.backbone, origin, tensors, top)), metadata))
    return path


def _packed_from(origin: Path) -> dict[str, str]:
    """Return the original and its hash of a file that was packed before; nothing of others."""
    if origin.suffix != ".safetensors":
        return {}
    with safe_open(origin, "pt") as file:
        metadata = file.metadata() or {}
    return {key: metadata[key] for key in ("origin", "origin_sha256") if key in metadata}


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file with metadata sorted by name: safetensors itself writes them in any order."""
    length = int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _extractor_part(backbone: str, origin: Path, tensors: Mapping[str, Tensor], top: bool) -> dict[str, Tensor]:
    with weightless():
        needed = Backbone(backbone).net.state_dict().keys()
    found = backbone_part(tensors)
    kept = needed | {k for k in found if top and k.startswith(CLASSIFIER)}
    part = {k: v.contiguous() for k, v in found.items() if k in kept}
    lost = [name for name in needed - part.keys() if not name.endswith("num_batches_tracked")]
    if lost:
        raise UserError(f'{origin}: not weights of "{backbone}": "{min(lost)}" is missing')
    return part


def _checked(path: Path) -> Checked:
    if not path.is_file():
        return Checked(path, "missing")
    wanted = expected(path)
    if wanted is None:
        return Checked(path, "no hash")
    return Checked(path, "ok" if sha256_of(path).startswith(wanted.digits) else "corrupt")
