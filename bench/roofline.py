"""Where the time of a command goes, and how far each part of it is from what this machine can do.

    python bench/roofline.py train quick --data photos           # any command of Octavo, its words as they are
    python bench/roofline.py bench/loader.py photos --side octavo       # or a script with its words

The command runs in this process, and every operation of PyTorch that its main thread starts is timed, with its
floating-point operations (torch.utils.flop_counter) and the bytes of the tensors that it reads and writes. No operation
can be faster than the larger of operations / rate of matrix products and bytes / rate of copying, both measured here
before: the column «limit» is the sum of that. Caches can beat it (a layer's output that is still there is read faster
than memory is copied), and so can algorithms that take fewer operations (Winograd's for 3×3 convolutions).

What is not in an operation of the main thread is the last line: Python, decoding (in threads of its own), files.
Timing adds some 20 µs an operation, which is told. On a GPU each operation is waited for.
"""

from __future__ import annotations

import resource
import runpy
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sides import copy_rate, limits, machine
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from octavo.engine.hardware import find, matrix_rate

KINDS = {
    "resize and warp": ("upsample", "grid_sampl"),
    "convolution": ("conv",),
    "matrix product": ("mm", "linear", "matmul"),
    "normalisation": ("batch_norm", "layer_norm", "group_norm"),
    "optimiser": ("_fused_", "_foreach_"),
    "pooling": ("pool",),
    "activation": ("relu", "threshold", "gelu", "silu", "sigmoid", "hardswish", "dropout", "softmax", "nll_loss"),
    "copies and casts": ("copy", "clone", "cat", "flip", "index", "pad", "stack", "select_backward", "gather"),
}
"""Parts of operations' names → what they are told as; the rest is arithmetic on each number."""
REST = "other arithmetic"
OVERWRITES = ("copy_", "fill_", "zero_")
"""Operations that don't read what they change."""


@dataclass
class Spent:
    """What operations of one kind took: seconds, the least they could, operations, bytes, calls."""

    seconds: float = 0.0
    limit: float = 0.0
    flops: float = 0.0
    moved: float = 0.0
    calls: int = 0


class Timed(TorchDispatchMode):
    """Times the operations of the thread that it is entered in."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.spent = device, defaultdict(Spent)
        self.bandwidth = copy_rate(device)
        self.rates = {bf16: matrix_rate(device, bf16) for bf16 in (False, True)}
        self.own = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket not in flop_registry:
            with self:  # without gradients conv2d and the like come whole, and would not be counted
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        entered = time.perf_counter()
        self._wait()
        start = time.perf_counter()
        out = func(*args, **kwargs)
        self._wait()
        seconds = time.perf_counter() - start
        if not func.is_view and not any(x.device.type == "meta" for x in tensors_in((args, kwargs, out))):
            self._note(func, seconds, args, kwargs, out)
        self.own += time.perf_counter() - entered - seconds
        return out

    def _note(self, func: Any, seconds: float, args: Any, kwargs: Any, out: Any) -> None:
        name = func.overloadpacket.__name__
        spent, moved, flops = self.spent[kind_of(name)], float(moved_by(func, args, kwargs, out)), 0.0
        if counted := flop_registry.get(func.overloadpacket):
            flops = float(counted(*args, **kwargs, out_val=out))
        half = any(x.dtype == torch.bfloat16 for x in tensors_in((args, out)))
        spent.seconds += seconds
        spent.limit += max(flops / self.rates[half], moved / self.bandwidth)
        spent.flops += flops
        spent.moved += moved
        spent.calls += 1

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def tensors_in(tree: Any) -> list[Tensor]:
    """Return the tensors in arguments or results."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def moved_by(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Return the bytes that an operation reads and writes: arguments, results, and arguments that it changes."""
    named = {arg.name: value for arg, value in zip(func._schema.arguments, args, strict=False)} | dict(kwargs)
    changed = [named.get(arg.name) for arg in func._schema.arguments if arg.alias_info and arg.alias_info.is_write]
    given, written = tensors_in((args, kwargs)), tensors_in(changed)
    if func.overloadpacket.__name__ in OVERWRITES:
        given = [x for x in given if not any(x is y for y in written)]
    known = {x.data_ptr() for x in written}
    written += [x for x in tensors_in(out) if x.data_ptr() not in known]
    return sum(x.numel() * x.element_size() for x in (*unique(given), *unique(written)))


def unique(tensors: list[Tensor]) -> list[Tensor]:
    """Return tensors without those that lie where another one lies."""
    return list({x.data_ptr(): x for x in tensors}.values())


def kind_of(name: str) -> str:
    """Return what an operation is told as."""
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), REST)


def main() -> None:
    """Run the command that the words are, and print a line a kind of operation."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return
    device = find().device
    torch.zeros(1, device=device)
    timed = Timed(device)
    print(machine(), limits(device), sep="\n", flush=True)
    start, cpu = time.perf_counter(), processor()
    with timed, suppress(SystemExit):
        run(words)
    wall = time.perf_counter() - start
    told(timed, wall, processor() - cpu)


def run(words: list[str]) -> None:
    """Run a script, or a command of Octavo."""
    if words[0].endswith(".py"):
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.argv = ["octavo", *words]
        from octavo.cli import main as octavo

        octavo()


def processor() -> float:
    """Return the CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def told(timed: Timed, wall: float, cpu: float) -> None:
    """Print the table."""
    within = sum(spent.seconds for spent in timed.spent.values())
    print(f"{'':22}{'seconds':>9}{'share':>7}{'limit':>9}{'of it':>7}{'TFLOP':>9}{'GB':>9}{'calls':>10}")
    for line in lines(timed, wall):
        print(line)
    limit = sum(spent.limit for spent in timed.spent.values())
    print(f"{'all operations':22}{within:9.2f}{within / wall:7.0%}{limit:9.2f}{limit / max(within, 1e-9):7.0%}")
    rest = wall - within - timed.own
    print(f"{'outside of them':22}{rest:9.2f}{rest / wall:7.0%}")
    print(f"{'timing itself':22}{timed.own:9.2f}{timed.own / wall:7.0%}")
    print(f"{'in all':22}{wall:9.2f}   ({cpu:.1f} CPU seconds, those of all threads)")


def lines(timed: Timed, wall: float) -> Iterator[str]:
    """Yield a line a kind, the longest first."""
    for kind, spent in sorted(timed.spent.items(), key=lambda item: -item[1].seconds):
        share = spent.limit / max(spent.seconds, 1e-9)
        yield (
            f"{kind:22}{spent.seconds:9.2f}{spent.seconds / wall:7.0%}{spent.limit:9.2f}{share:7.0%}"
            f"{spent.flops / 1e12:9.3f}{spent.moved / 1e9:9.1f}{spent.calls:10,}"
        )


if __name__ == "__main__":
    main()
