"""Images a second and peak memory of Octavo's FCN-8s against its rivals: a training step and prediction, in one run.

    python bench/segment_speed.py [--device cuda] [--size 512] [--batch 2] [--steps 3] [--bf16]

Sides: Octavo's FCN-8s on VGG16 with border "same", the same network with the paper's padding of 100 (border "pad100"),
torchvision's fcn_resnet50, and segmentation_models.pytorch's Unet on VGG16. All from random weights, on random images
in channels-last order, with 7 classes, cross-entropy and Adam. Each side is a process of its own, and so is its
prediction; one step to warm up isn't counted, and the median of the others is shown.

Memory is that of the parameters plus the most that the steps needed above what there was before them (activations,
and in training gradients and Adam's two moments): on the CPU by the process's highest resident size (getrusage, the
peak set back before the steps, which needs Linux), on CUDA by torch.cuda.max_memory_allocated.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

CLASSES = 7


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
        print(json.dumps(measure(given)))
        return
    threads = f", {torch.get_num_threads()} threads" if given.device == "cpu" else ""
    print(
        f"batch {given.batch} of {given.size}×{given.size}, {given.device}{threads}, "
        f"{'bfloat16' if given.bf16 else 'float32'}, torch {torch.__version__}, median of {given.steps}"
    )
    table({side: {what: in_process(side, what) for what in ("train", "predict")} for side in SIDES})


def in_process(side: str, what: str) -> dict[str, float]:
    """Measure one side in a process of its own, with the options that this one was given."""
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--what", what]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side}, {what}: failed")
    return json.loads(done.stdout.splitlines()[-1])


def measure(given: argparse.Namespace) -> dict[str, float]:
    """Return seconds of a step (median) and the peak memory in bytes of one side."""
    torch.manual_seed(0)
    device = torch.device(given.device)
    shape = (given.batch, 3, given.size, given.size)
    images = torch.rand(shape).to(device, memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (given.batch, *shape[2:])).to(device)
    net = SIDES[given.side]().to(device, memory_format=torch.channels_last)
    step = trainer(net, images, labels, given.bf16) if given.what == "train" else predictor(net, images, given.bf16)
    before, seconds = begun_peak(device), []
    for _ in range(given.steps + 1):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    own = sum(x.numel() * x.element_size() for x in net.state_dict().values())
    return {"seconds": statistics.median(seconds[1:]), "bytes": own + peak(device) - before, "batch": given.batch}


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


def table(found: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print images a second and memory of each side, and both as multiples of the first side's."""
    first = next(iter(found.values()))
    print(f"{'':26}{'train':>10}{'×':>7}{'peak':>11}{'×':>7}   {'predict':>10}{'×':>7}{'peak':>11}{'×':>7}")
    for side, both in found.items():
        line = f"{side:26}"
        for what, one in both.items():
            faster, more = first[what]["seconds"] / one["seconds"], one["bytes"] / first[what]["bytes"]
            line += f"{one['batch'] / one['seconds']:7.2f}/s{faster:8.2f}{one['bytes'] / 2**20:8.0f} MiB{more:6.2f}   "
        print(line.rstrip())
    print(f"× is against {next(iter(found))}: of speed, more is better; of memory, less.")


if __name__ == "__main__":
    main()
