"""What there is to compute on."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from octavo.errors import UserError, suggest

DEVICES = ("auto", "cpu", "cuda", "mps")
_ARITHMETIC = ("amx", "asimd", "avx", "bf16", "f16c", "fma", "fphp", "i8mm", "neon", "sse", "ssse", "sve")
"""How the names of the instructions begin by which libraries choose their arithmetic."""

_PAYS = 1.2
"""How many times as fast bfloat16 has to be to be taken."""


@dataclass(frozen=True)
class Hardware:
    """The kind of device and how many of them."""

    kind: Literal["cpu", "cuda", "mps"]
    count: int = 1

    @property
    def device(self) -> torch.device:
        """The (first) device."""
        return torch.device(self.kind, 0) if self.kind == "cuda" else torch.device(self.kind)

    @property
    def workers(self) -> int:
        """Processes that read ahead: none on the CPU, where they would take the network's cores."""
        return 2 if self.kind == "cuda" else 0

    @property
    def bf16(self) -> bool:
        """Whether it multiplies bfloat16 natively, and faster than float32.

        A processor that has the instructions isn't always faster by them, so CPUs are measured: of those with AVX-512's
        Zen 4 multiplies four times as fast as in float32, Sapphire Rapids, without AMX, half as fast.
        """
        if self.kind == "cuda":
            return torch.cuda.get_device_capability() >= (8, 0)
        return self.kind == "cpu" and bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu_flags()) and _bf16_pays()

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of the machine."""
        names = {"cuda": lambda: torch.cuda.get_device_name(0)}
        return {
            "device": self.kind,
            "devices": self.count,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "processor": names.get(self.kind, _processor)(),
            "system": f"{platform.system()} {platform.machine()}",
            "libc": " ".join(platform.libc_ver()).strip(),
            "cpu": {
                "name": _processor(),
                "capability": torch.backends.cpu.get_cpu_capability(),
                "flags": sorted(flag for flag in _cpu_flags() if flag.startswith(_ARITHMETIC)),
            },
            "gpus": [torch.cuda.get_device_name(i) for i in range(self.count)] if self.kind == "cuda" else [],
            "bf16": self.bf16,
            "deterministic": self.kind == "cpu",
            "matmul_precision": torch.get_float32_matmul_precision(),
        }

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Compute in the same way each time: a fixed number of threads, and on CPUs torch's deterministic algorithms.

        Setting the number of threads, even to what it is, keeps MKL from taking fewer for small matrices. Some
        operations (sums by index, as in Swin's position tables) are added up in any order without the algorithms.
        """
        torch.set_num_threads(torch.get_num_threads())
        was = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        memory: Any = torch.utils.deterministic
        filled = memory.fill_uninitialized_memory
        if self.kind == "cpu":
            torch.use_deterministic_algorithms(True, warn_only=True)
            memory.fill_uninitialized_memory = False  # slow, and for finding bugs
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was[0], warn_only=was[1])
            memory.fill_uninitialized_memory = filled


def seed_device(device: torch.device, seed: int) -> None:
    """Seed what is drawn on a device, and on the CPU.

    Not `torch.manual_seed`: it also seeds devices that aren't in use, and notes a stack trace for each at every call.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


def find(device: str = "auto", count: int | None = None) -> Hardware:
    """Return the hardware for `--device` and `--devices`; `auto` takes CUDA, then Apple's GPU, then the CPU.

    Several devices are used only if `count` says so.

    Raises:
        UserError: an unknown device, or one that this machine lacks.
    """
    if device not in DEVICES:
        raise UserError(f'--device: unknown "{device}"{suggest(device, DEVICES)}')
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(k for k in there if there[k]) if device == "auto" else device
    if not there[kind]:
        raise UserError(f"--device {kind}: this machine (or this build of torch) has none; use --device cpu")
    limit = torch.cuda.device_count() if kind == "cuda" else 1 if kind == "mps" else os.cpu_count() or 1
    if count is not None and not 1 <= count <= limit:
        raise UserError(f"--devices {count}: expected 1 to {limit} for {kind} on this machine")
    return Hardware(kind, count or 1)  # pyright: ignore[reportArgumentType]


def matrix_rate(device: torch.device, bf16: bool, side: int | None = None) -> float:
    """Return floating-point operations per second of a matrix product of `side` squared, the best of three.

    By default it is as large as shows the rate: 2,048, on a GPU 8,192.
    """
    side = side or (8192 if device.type == "cuda" else 2048)
    a = torch.linspace(-1, 1, side**2, device=device).view(side, side).to(torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> set[str]:
    return set((_cpuinfo("flags") or _cpuinfo("Features")).split())


def _cpuinfo(key: str) -> str:
    """Return what Linux says of the first processor, or nothing on other systems."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")


@functools.cache
def _bf16_pays() -> bool:
    """Tell whether the CPU multiplies matrices of bfloat16 faster than those of float32, once a process."""
    half, full = (matrix_rate(torch.device("cpu"), bf16, 768) for bf16 in (True, False))
    return half > _PAYS * full
