"""Images a second and peak memory of Octavo's FCN-8s against its rivals: a training step and prediction, in one run.

    python bench/segment_speed.py [--device cuda] [--size 512] [--batch 2] [--steps 3] [--bf16]

Sides: Octavo's FCN-8s on VGG16 with border "same", the same network with the paper's padding of 100 (border "pad100"),
torchvision's fcn_resnet50, and segmentation_models.pytorch's Unet on VGG16. All from random weights, on random images
in channels-last order, with 7 classes, cross-entropy and Adam. Each side is a process of its own, and so is its
prediction. The sides take their steps in turns, so that other work on the machine slows all of them alike; one step to
warm up isn't counted, and the median of the others is shown.

Memory is that of the parameters plus the most that the steps needed above what there was before them (activations,
and in training gradients and Adam's two moments): on the CPU by the process's highest resident size (getrusage, the
peak set back before the steps, which needs Linux), on CUDA by torch.cuda.max_memory_allocated. Activations are what a
forward pass keeps for the backward one (every tensor that autograd saves, each storage once, parameters left out).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from sides import guarded
from torch import Tensor, nn

from octavo.engine.hardware import find

CLASSES = 7


class Figures(NamedTuple):
    """What was measured of one side: seconds of a step (median), memory, and activations in bytes (0 in prediction)."""

    seconds: float
    memory: float
    kept: float


def octavo_fcn(border: str) -> nn.Module:
    """Return the reference's FCN-8s with one of the two borders."""
    from octavo.networks.build import build_segmenter
    from octavo.recipe import SegmentRecipe, load

    recipe = load("fcn8s", [f'segmenter.border="{border}"'])
    assert isinstance(recipe, SegmentRecipe)
    return build_segmenter(recipe.segmenter, recipe, CLASSES)


def torchvision_fcn() -> nn.Module:
    """Return fcn_resnet50 without its second output, which would only cost it time."""
    from torchvision.models.segmentation import fcn_resnet50

    return fcn_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=False)


def unet() -> nn.Module:
    """Return segmentation_models.pytorch's Unet on VGG16 (pip install segmentation-models-pytorch)."""
    import segmentation_models_pytorch

    return segmentation_models_pytorch.Unet("vgg16", encoder_weights=None, classes=CLASSES)


SIDES: dict[str, Callable[[], nn.Module]] = {
    "octavo FCN-8s same": lambda: octavo_fcn("same"),
    "octavo FCN-8s pad100": lambda: octavo_fcn("pad100"),
    "torchvision fcn_resnet50": torchvision_fcn,
    "smp Unet-VGG16": unet,
}


def main() -> None:
    """Run all sides, or, as the process of one side, measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="counted steps, of which the median is shown")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 (autocast)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=("train", "predict"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        measure(given)
        return
    find(given.device)  # refuses what isn't there before any side starts
    threads = f", {torch.get_num_threads()} threads" if given.device == "cpu" else ""
    print(
        f"batch {given.batch} of {given.size}×{given.size}, {given.device}{threads}, "
        f"{'bfloat16' if given.bf16 else 'float32'}, torch {torch.__version__}, median of {given.steps}"
    )
    trained, predicted = in_turns("train", given.steps), in_turns("predict", given.steps)
    table({side: {"train": trained[side], "predict": predicted[side]} for side in SIDES}, given.batch)


def in_turns(what: str, steps: int) -> dict[str, Figures]:
    """Measure all sides, each in a process of its own, with the options that this one was given."""
    sides = {}
    for side in SIDES:
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--what", what]
        sides[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for process in sides.values():
        asked(process)  # is ready
    seconds = {side: [] for side in SIDES}
    for _ in range(steps + 1):
        for side, process in sides.items():
            seconds[side].append(asked(process))
    kept = {side: asked(process, "kept") if what == "train" else 0.0 for side, process in sides.items()}
    return {
        side: Figures(statistics.median(seconds[side][1:]), asked(sides[side], "end"), kept[side]) for side in SIDES
    }


def asked(process: subprocess.Popen[str], word: str = "step") -> float:
    """Ask the process of a side for a step, or, by `end`, for its memory, and return its answer."""
    assert process.stdin and process.stdout
    with suppress(BrokenPipeError):  # what broke it is on standard error, and it has no answer
        print(word, file=process.stdin, flush=True)
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit("a side failed; see above")
    if word == "end":
        process.wait()
    return float(answer)


def measure(given: argparse.Namespace) -> None:
    """Be the process of one side: for each line read take a step and print its seconds; at last print the memory."""
    torch.manual_seed(0)
    device = find(given.device).device
    shape = (given.batch, 3, given.size, given.size)
    images = torch.rand(shape).to(device, memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (given.batch, *shape[2:])).to(device)
    net = SIDES[given.side]().to(device, memory_format=torch.channels_last)
    step = trainer(net, images, labels, given.bf16) if given.what == "train" else predictor(net, images, given.bf16)
    own = sum(x.numel() * x.element_size() for x in net.state_dict().values())
    sys.stdin.readline()
    before = begun_peak(device)
    print(0, flush=True)
    word, most = sys.stdin.readline(), 0
    while word in ("step\n", "kept\n"):
        start = time.perf_counter()
        if word == "kept\n":
            print(activations(net, images, given.bf16), flush=True)
        else:
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            most = peak(device)
            print(time.perf_counter() - start, flush=True)
        word = sys.stdin.readline()
    print(own + most - before, flush=True)


def activations(net: nn.Module, images: Tensor, bf16: bool) -> int:
    """Return the bytes that a forward pass keeps for the backward one."""
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        out = scores(net(images))
    assert out.requires_grad
    return sum(kept.values())


def trainer(net: nn.Module, images: Tensor, labels: Tensor, bf16: bool) -> Callable[[], None]:
    """Return a whole training step: forward, loss, backward, Adam."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    net.train()

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits = scores(net(images))
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def predictor(net: nn.Module, images: Tensor, bf16: bool) -> Callable[[], None]:
    """Return a prediction: images to a class per pixel."""
    net.eval()

    def step() -> None:
        with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            scores(net(images)).argmax(1)

    return step


def scores(output: Tensor | dict[str, Tensor]) -> Tensor:
    """Return logits [B,C,H,W]: torchvision's networks give them in a dictionary."""
    return output["out"] if isinstance(output, dict) else output


def begun_peak(device: torch.device) -> int:
    """Set the highest memory so far back to what is held now, and return that, in bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): sets the peak resident size back
    return peak(device)


def peak(device: torch.device) -> int:
    """Return the highest memory so far, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(found: dict[str, dict[str, Figures]], batch: int) -> None:
    """Print images a second and memory of each side, and both as multiples of the first side's."""
    first = next(iter(found.values()))
    print(f"{'':26}" + "   ".join(f"{what:>9}{'×':>7}{'memory':>12}{'×':>7}" for what in first))
    for side, both in found.items():
        cells = []
        for what, one in both.items():
            faster, more = first[what].seconds / one.seconds, one.memory / first[what].memory
            cells.append(f"{batch / one.seconds:7.2f}/s{faster:7.2f}{one.memory / 2**20:8.0f} MiB{more:7.2f}")
        print(f"{side:26}" + "   ".join(cells))
    for side, both in found.items():
        kept = both["train"].kept
        print(f"{side:26} activations {kept / 2**20:6.0f} MiB  × {kept / first['train'].kept:.2f}")
    print(f"× is against {next(iter(found))}: of speed, more is better; of memory, less.")


if __name__ == "__main__":
    guarded(main)
