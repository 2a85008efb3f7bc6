"""Checkpoint files: PyTorch's bytes behind one line that holds their SHA-256, and how far the training is."""

from __future__ import annotations

import hashlib
import json
import shlex
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.plugins.io import CheckpointIO
from safetensors.torch import save
from torch import Tensor, nn

from octavo.errors import Damaged, UserError
from octavo.files import write_atomic
from octavo.integrity import SEAL, check, seal_of, unsealed
from octavo.log import warn
from octavo.networks.loading import load_safetensors, sealing

POSITION, BEST = "octavo_position", "octavo_best"
"""Keys of a checkpoint: epoch and step of the next batch, and whether there are best weights beside it."""
_KIND = "octavo checkpoint 1"
_LINE = 512  # bytes of the first line, filled with spaces
_UNKNOWN = "0" * 64
_ARCHIVE = b"PK\x03\x04"  # how PyTorch's files begin, and with them the checkpoints of earlier versions


class AtomicCheckpointIO(CheckpointIO):
    """Writes Lightning's checkpoints whole or not at all, and checks them when it reads; runs no code in them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, whole or not at all."""
        # Weights alone, by which a process of DDP hands them to its parent, have no position.
        facts = {"kind": _KIND, "position": checkpoint.get(POSITION), "best": bool(checkpoint.get(BEST))}

        def write(file: BinaryIO) -> None:
            file.write(_line(facts, _UNKNOWN))
            body = _Hashed(file)
            torch.save(checkpoint, body)  # pyright: ignore[reportArgumentType]
            file.seek(0)
            file.write(_line(facts, body.sha256.hexdigest()))

        write_atomic(Path(path), write)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Return the checkpoint at `path`.

        Raises:
            Damaged: it isn't what was written.
        """
        with Path(path).open("rb") as file:
            facts = _checked(file, Path(path))
            return _parsed(file, Path(path), map_location or "cpu", whole=facts is None)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the checkpoint at `path`."""
        Path(path).unlink(missing_ok=True)


class _Hashed:
    """What torch.save writes to, hashed on its way into a file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, content: Any) -> int:
        self.sha256.update(content)
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


def _line(facts: dict[str, Any], body: str) -> bytes:
    facts = facts | {"body": body}
    return json.dumps(facts | {SEAL: seal_of(facts)}).encode().ljust(_LINE - 1) + b"\n"


def _facts(file: BufferedReader, path: Path) -> dict[str, Any] | None:
    """Return what the first line of a checkpoint says; None for one of before, which has none."""
    line = file.read(_LINE)
    if line.startswith(_ARCHIVE):
        file.seek(0)
        return None
    if not line:
        raise Damaged(f"{path}: damaged: empty; {remedy(path)}")
    facts, was_sealed = unsealed(line, path, remedy(path))
    if not was_sealed or facts.get("kind") != _KIND:
        raise Damaged(f"{path}: damaged: not a checkpoint of Octavo's; {remedy(path)}")
    return facts


def _checked(file: BufferedReader, path: Path) -> dict[str, Any] | None:
    """Hash an open checkpoint and leave it where PyTorch's bytes begin; return what `_facts` does."""
    facts = _facts(file, path)
    if facts is not None:
        start = file.tell()
        check(path, hashlib.file_digest(file, "sha256").hexdigest(), facts["body"], remedy(path))
        file.seek(start)
    return facts


def _parsed(file: BufferedReader, path: Path, device: Any, *, whole: bool = True) -> dict[str, Any]:
    """Return what PyTorch's bytes hold; a `whole` checkpoint, as training resumes from, has a position."""
    try:
        found = torch.load(file, map_location=device, weights_only=True)
        if whole:
            found[POSITION]
    except Exception as error:  # damaged bytes make torch's reader raise nearly anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise Damaged(f"{path}: damaged: not a PyTorch checkpoint ({reason}); {remedy(path)}") from error
    return found


def remedy(path: Path) -> str:
    """Return what to do about a damaged file of an unfinished training; both its files lie in one folder."""
    folder = path.parent
    fold = folder.name.startswith("fold_") and folder.parent.parent.name == "members"
    name = f"{folder.parent.name} fold {folder.name.removeprefix('fold_')}" if fold else folder.name
    places = " ".join(shlex.quote(str(place)) for place in sorted({folder / "last.ckpt", path}))
    return f"delete it (rm {places}) and --resume trains {name} from its start"


def position(path: Path) -> tuple[int, int]:
    """Return (epoch, step) of the first batch that the checkpoint at `path` has not seen.

    Raises:
        Damaged: its first line, or all of one of before, isn't what was written.
    """
    with path.open("rb") as file:
        facts = _facts(file, path)
        place = _parsed(file, path, "cpu")[POSITION] if facts is None else facts["position"]
    if place is None:
        raise Damaged(f"{path}: holds weights alone, expected a checkpoint to resume from; {remedy(path)}")
    epoch, step = place
    return int(epoch), int(step)


def verify(path: Path, best: Path) -> None:
    """Compare a checkpoint, and the `best` weights where it needs them, with their checksums.

    One of before has none: it is read as far as it can be, and the user warned.

    Raises:
        Damaged: one of the two isn't what was written.
    """
    with path.open("rb") as file:
        facts = _checked(file, path)
        if facts is None:
            _parsed(file, path, "cpu")
            warn(f"{path}: was written by an earlier version of Octavo, without a checksum; it is taken as it is")
    if best.is_file() or (facts is not None and facts["best"]):
        read_best(best)


def save_best(net: nn.Module, path: Path) -> None:
    """Write a network's parameters and buffers as safetensors that hold their own checksum, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    write_atomic(path, save(tensors, sealing(tensors)))


def read_best(path: Path) -> dict[str, Tensor]:
    """Return the tensors that `save_best` wrote; of those of before there is no checksum.

    Raises:
        Damaged: they are missing, or others.
    """
    if not path.is_file():
        raise Damaged(f"{path}: missing; expected the best weights so far; {remedy(path)}")
    try:
        return load_safetensors(path)
    except UserError as error:
        told = str(error).removesuffix("; get it again")
        raise Damaged(f"{told}; {remedy(path)}") from error
