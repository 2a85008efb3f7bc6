"""Images per second of a network on a CPU, given a batch whole and a few images at a time as Octavo does.

    python bench/at_once.py [--size 224] [--batch 64] [--networks resnet152 densenet161 resnext101_32x8d vgg19_bn]

The networks are torchvision's with random weights, in float32 and eval mode. The two ways take turns; the first round
isn't counted, the median of the others is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from sides import guarded, limits, machine
from torch import Tensor

from octavo.engine.infer import at_once, in_parts


def main() -> None:
    """Time both ways for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--networks", nargs="+", default=["resnet152", "densenet161", "resnext101_32x8d", "vgg19_bn"])
    given = parser.parse_args()
    print(machine(), limits(), sep="\n", flush=True)
    x = torch.randn(given.batch, 3, given.size, given.size)
    for name in given.networks:
        net = torchvision.models.get_model(name).eval()
        ways: dict[str, Callable[[], Tensor]] = {"whole": lambda n=net: n(x), "parts": lambda n=net: in_parts(n, x)}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        with torch.inference_mode():
            for _ in range(given.repeats + 1):
                for way, run in ways.items():
                    start = time.perf_counter()
                    run()
                    seconds[way].append(time.perf_counter() - start)
        whole, parts = (given.batch / statistics.median(found[1:]) for found in seconds.values())
        print(
            f"{name:18} {given.size} px, {given.batch} at once {whole:6.1f} images/s, "
            f"{at_once(given.size, given.size)} at once {parts:6.1f}   × {parts / whole:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    guarded(main)
