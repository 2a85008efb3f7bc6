"""Weights for a machine without a network: what a recipe needs, packed into a folder, and checked there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors.torch import save
from torch import Tensor

from octavo.errors import UserError
from octavo.files import write_atomic
from octavo.networks.backbone import Backbone, weightless
from octavo.networks.loading import SUFFIXES, backbone_part, read_tensors, sha256
from octavo.networks.segmenter import CLASSIFIER, uses_classifier
from octavo.networks.weights import Entry, entry, fetch, file_names, is_file, locate, sha_prefix
from octavo.overwrite import Kind, beginning_with, require_writable
from octavo.recipe import Network, Recipe, Segmenter

SUMS = "SHA256SUMS"
"""Name of the list of hashes in a packed folder, in the form of the `sha256sum` tool."""


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
        UserError: a file can't be had or is damaged, or something else than packed weights is in the way; `overwrite`
            allows to replace that.
    """
    wanted = {
        entry(net.extractor, net.weights): isinstance(net, Segmenter) and uses_classifier(net)
        for net in recipe.networks
        if net.weights != "none" and not is_file(net.weights)
    }
    _require_places(wanted, out_dir, overwrite)
    written = [_pack_one(found, out_dir, weights_dir, progress, top) for found, top in wanted.items()]
    if written:
        sums = _read_sums(out_dir) | {path.name: sha256(path) for path in written}
        write_atomic(out_dir / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())
    return written


def verify(target: Path | Recipe, weights_dir: Path | None = None) -> list[Checked]:
    """Return whether the weights files of a folder, or those that a recipe would use, are what they should be.

    A file is compared with SHA256SUMS beside it, or with the digits in a torchvision file's name.

    Raises:
        UserError: no such folder.
    """
    if isinstance(target, Path):
        if not target.is_dir():
            raise UserError(f"{target}: no such folder of weights")
        listed = {target / name for name in _read_sums(target)}
        paths = listed | {path for path in target.iterdir() if path.suffix in SUFFIXES}
    else:
        paths = {row.path for row in table(target, weights_dir) if row.path is not None}
    return [_checked(path) for path in sorted(paths)]


def _require_places(wanted: Iterable[Entry], out_dir: Path, overwrite: bool) -> None:
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError(f"{out_dir}: is a file; expected the folder that weights are written to")
    for found in wanted:
        require_writable(out_dir / file_names(found)[1], _PACKED, overwrite=overwrite, option="file")
    listed = Kind("list of hashes", lambda path: True)  # read now, and then added to
    require_writable(out_dir / SUMS, listed, overwrite=overwrite, option="file")
    _read_sums(out_dir)


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


def _pack_one(found: Entry, out_dir: Path, weights_dir: Path | None, progress: bool, top: bool) -> Path:
    origin = fetch(found, weights_dir, True, progress)
    digest = sha256(origin)
    if not digest.startswith(sha_prefix(origin.name)):
        raise UserError(f"{origin}: damaged (its sha256 begins {digest[:8]}); delete it and get it again")
    metadata = {"backbone": found.backbone, "tag": found.tag, "url": found.url}
    metadata |= {"origin": origin.name, "origin_sha256": digest}
    path = out_dir / file_names(found)[1]
    write_atomic(path, save(_extractor_part(found.backbone, origin, top), metadata))
    return path


def _extractor_part(backbone: str, origin: Path, top: bool) -> dict[str, Tensor]:
    with weightless():
        needed = Backbone(backbone).net.state_dict().keys()
    found = backbone_part(read_tensors(origin))
    kept = needed | {k for k in found if top and k.startswith(CLASSIFIER)}
    tensors = {k: v.contiguous() for k, v in found.items() if k in kept}
    lost = [name for name in needed - tensors.keys() if not name.endswith("num_batches_tracked")]
    if lost:
        raise UserError(f'{origin}: not weights of "{backbone}": "{min(lost)}" is missing')
    return tensors


def _read_sums(folder: Path) -> dict[str, str]:
    if not (folder / SUMS).is_file():
        return {}
    lines = (folder / SUMS).read_text().splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    if any(len(pair) != 2 or len(pair[0]) != 64 for pair in pairs):
        raise UserError(f"{folder / SUMS}: expected lines of a sha256 and a file name")
    return {name.lstrip("*"): digest for digest, name in pairs}


def _checked(path: Path) -> Checked:
    if not path.is_file():
        return Checked(path, "missing")
    expected = _read_sums(path.parent).get(path.name) or sha_prefix(path.name)
    if not expected:
        return Checked(path, "no hash")
    return Checked(path, "ok" if sha256(path).startswith(expected) else "corrupt")
