"""CPU time of training the heads of eight frozen members: Octavo against a plain torchvision loop and fastai.

    python bench/heads.py DATA [--size 32] [--images 5000] [--epochs 20] [--batch 64]     # pip install octavo[bench]
    python bench/heads.py DATA --write FOLDER     # recipe and list of images of Octavo's side, and how to train them

DATA is in the course's form (`train_50/…`, `val_50/…`, files `{class}_{index}.png`). All sides train the same eight
networks of the recipe `octet` (random weights: time doesn't depend on them) with frozen extractors, on the same images
without augmentation, by the same AdamW and batch size, in float32:

    octavo   `octavo train` as a process: start, decoding, features once, all epochs of eight heads, their validation
    plain    each network alone: ImageFolder-like data set, DataLoader, the extractor forward in every step, AdamW as
             PyTorch has it by default
    fused    the same with AdamW(fused=True), which Octavo has too
    fastai   each network alone: DataLoaders and Learner, frozen, one fit

Of the others one epoch is run and multiplied by --epochs; their start and validation aren't counted. CPU time is user
+ system time of the process.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tomli_w
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from sides import cpu_seconds, guarded, limits, machine, octavo, report_of, slice_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from octavo.networks.build import build_member
from octavo.networks.member import MemberNet
from octavo.recipe import ClassifyRecipe, load

LR, DECAY = 1e-3, 0.05
PEERS = ["plain", "fused", "fastai"]


class Pictures(Dataset[tuple[Tensor, int]]):
    """The training images of a CSV file, decoded each time they are asked for."""

    def __init__(self, table: Path, size: int) -> None:
        with table.open() as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        self.names = sorted({row["label"] for row in rows})
        self.rows = [(row["image"], self.names.index(row["label"])) for row in rows]
        steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        self.transform = v2.Compose([v2.Resize((size, size)), *steps, v2.Normalize([0.5] * 3, [0.5] * 3)])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.rows[index]
        return self.transform(Image.open(path).convert("RGB")), label


def main() -> None:
    """Run the sides and print their CPU seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--val", type=int, default=500, help="validation images of Octavo's side")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--holdout", type=float, default=0.0, help="data.holdout of Octavo's side")
    parser.add_argument("--norm", choices=("none", "batch"), default="none", help="head.norm of its members")
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--member", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        one_epoch(given)
        return
    if given.write:
        table, recipe = sides_files(given, given.write.resolve())
        print(f"octavo train {recipe} --data {table} --out runs/heads")
        return
    print(machine("fastai"), limits(), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        table, recipe = sides_files(given, Path(folder))
        run = Path(folder) / "run"
        words = ["--data", str(table), "--out", str(run), "--cache", f"{folder}/cache", "--device", "cpu"]
        mine, _, _ = octavo("train", str(recipe), *words, "--no-report", "--no-leaks")
        accuracies = ", ".join(f"{s['metrics']['accuracy']['value']:.3f}" for s in report_of(run)["systems"])
        print(f"octavo      {mine:8.0f} CPU s for {given.epochs} epochs (accuracy {accuracies})", flush=True)
        for peer in given.peers:
            seconds = sum(of_peer(peer, member, table, given) for member in names(given))
            whole = given.epochs * seconds
            print(f"{peer:11} {seconds:8.0f} CPU s an epoch, {whole:8.0f} for {given.epochs}: × {whole / mine:.1f}")


def sides_files(given: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Write the list of images and Octavo's recipe into a folder, and return both files."""
    folder.mkdir(parents=True, exist_ok=True)
    return slice_of(given.data.resolve(), folder, {"train": given.images, "val": given.val}), recipe_of(given, folder)


def recipe_of(given: argparse.Namespace, folder: Path) -> Path:
    """Write the recipe `octet` with what makes its training the others', and return its file."""
    octet = _octet(given).model_dump(mode="json", exclude_unset=True)
    train = {"mode": "frozen", "epochs": given.epochs, "batch_size": given.batch, "optimizer": "adamw"}
    changed = octet | {
        "data": {
            "size": given.size,
            "resize": "stretch",
            "stored": given.size,
            "normalize": "none",
            "holdout": given.holdout,
        },
        "augment": {"hflip": 0},
        "train": train | {"lr": LR, "weight_decay": DECAY, "precision": "32"},
        "ensemble": {"combine": "mean_logit"},
        "members": [
            member
            | {"weights": weights_of(member["backbone"], folder), "head": member.get("head", {}) | {"norm": given.norm}}
            for member in octet["members"]
        ],
    }
    file = folder / "heads.toml"
    file.write_text(tomli_w.dumps(changed))
    return file


def weights_of(backbone: str, folder: Path) -> str:
    """Write random weights of an extractor that several members share, as its published ones would be; else none."""
    if backbone != "vgg19_bn":
        return "none"
    file = folder / f"{backbone}.safetensors"
    if not file.is_file():
        net = torchvision.models.get_model(backbone)
        save_file({name: value for name, value in net.state_dict().items() if name.startswith("features")}, file)
    return str(file)


def names(given: argparse.Namespace) -> list[str]:
    """Return the members' names."""
    return [given.member] if given.member else [member.name for member in _octet(given).members]


def _octet(given: argparse.Namespace) -> ClassifyRecipe:
    recipe = load("octet", [f"data.size={given.size}", f"data.stored={given.size}"])
    assert isinstance(recipe, ClassifyRecipe)
    return recipe


def of_peer(side: str, member: str, table: Path, given: argparse.Namespace) -> float:
    """Return the CPU seconds of one epoch of a member, measured inside of a process of its own."""
    words = [sys.executable, __file__, str(table), "--side", side, "--member", member]
    words += ["--size", str(given.size), "--batch", str(given.batch)]
    return float(cpu_seconds(words)[2].split()[-1])


def one_epoch(given: argparse.Namespace) -> None:
    """Be a process of one side and member: train an epoch and print its CPU seconds."""
    data, recipe = Pictures(given.data, given.size), _octet(given)
    member = next(m for m in recipe.members if m.name == given.member)
    net = build_member(member, recipe, len(data.names))
    net.backbone.requires_grad_(False)
    loader = DataLoader(data, given.batch, shuffle=True)
    fused = True if given.side == "fused" else None
    seconds = fastai(net, data, given.batch) if given.side == "fastai" else plain(net, loader, fused)
    print(seconds)


def plain(net: MemberNet, loader: DataLoader[Any], fused: bool | None) -> float:
    """Return the CPU seconds of an epoch of a loop as torchvision's tutorials write it."""
    optimizer = torch.optim.AdamW(net.head.parameters(), lr=LR, weight_decay=DECAY, fused=fused)
    net.train()
    net.backbone.eval()
    start = time.process_time()
    for images, labels in loader:
        with torch.no_grad():
            features = net.backbone(images)
        loss = nn.functional.cross_entropy(net.head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - start


def fastai(net: MemberNet, data: Pictures, batch: int) -> float:
    """Return the CPU seconds of an epoch of fastai's Learner with the extractor frozen."""
    from fastai.callback.progress import ProgressCallback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader as Loader
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.torch_core import params

    def halves(whole: MemberNet) -> list[list[nn.Parameter]]:
        return [params(whole.backbone), params(whole.head)]

    train, none = Loader(data, bs=batch, shuffle=True), Loader(Subset(data, []), bs=batch)
    loaders = DataLoaders(train, none)
    learner = Learner(loaders, net, loss_func=CrossEntropyLossFlat(), splitter=halves, lr=LR, wd=DECAY, train_bn=False)
    learner.freeze()
    start = time.process_time()
    with learner.removed_cbs([each for each in learner.cbs if isinstance(each, ProgressCallback)]):
        learner.fit(1)
    return time.process_time() - start


if __name__ == "__main__":
    guarded(main)
