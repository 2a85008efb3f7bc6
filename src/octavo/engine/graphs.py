"""CUDA graphs: a GPU is given all kernels of a network at once, where Python would give it one after another.

Of deep networks and small images that is the larger part of the time: an H200 needs 20 ms for a training step of
ResNet-152 (32 images of 224 px, bfloat16), Python 60 ms to ask for it.

What torch.cuda.make_graphed_callables does, apart from this: other threads go on as they like while a graph is recorded
(a loader's thread that pins memory would break it, and be broken by it), and parameters' gradients don't have to wait
for the stream of the recording.
"""

from __future__ import annotations

import gc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from octavo.log import warn

OFTEN = 3
"""Which batch of one shape is recorded: those before have chosen algorithms and shown what memory they need."""
_WARM = 3
"""Calls on a stream of their own before one is recorded, in which libraries set themselves up, and one more."""


class Replayed:
    """Calls a network; once batches of one shape have come often, theirs are recorded and replayed.

    That is so in training, the backward pass too, and in inference mode, where smaller batches are filled up and larger
    ones, if they come as often, recorded instead. Batches of other shapes go the usual way, and so does everything on
    other devices, in networks that wait for the GPU in their midst (a warning says so), and where memory might not bear
    a second set of activations.
    """

    def __init__(self, net: nn.Module, *, gathers: bool = False) -> None:
        """Begin with a network that takes a tensor and gives one; its parameters stay where they are until `forget`.

        `gathers` says that gradients of several batches are added up before an optimiser's step.
        """
        self.net, self.gathers = net, gathers
        self.forget()

    def forget(self) -> None:
        """Give the memory of what was recorded back."""
        self._seen: Counter[object] = Counter()
        self._kind: object = None
        self._record: _Record | None = None
        self._trained, self._needs = -1, 0

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the network says of a batch [B,…]."""
        inference = torch.is_inference_mode_enabled()
        if not (isinstance(x, Tensor) and x.is_cuda and (self.net.training or inference)):
            return self.net(x)
        self._watch()
        kind, rows = (x.shape[1:], x.stride(), x.dtype, inference, _precision()), len(x)
        if self._kind is None or (inference and kind == self._kind and self._record and rows > self._record.rows):
            self._seen[kind, rows] += 1
            if self._seen[kind, rows] == OFTEN - 1:
                return self._measured(x)
            if self._seen[kind, rows] == OFTEN:
                self._record_or_not(kind, x)
        record = self._record
        if not record or kind != self._kind or rows > record.rows or (rows < record.rows and not inference):
            return self.net(x)
        return record(x)

    def _watch(self) -> None:
        """Forget what was recorded with other parameters to train."""
        trained = sum(p.requires_grad for p in self.net.parameters()) if torch.is_grad_enabled() else 0
        if trained != self._trained:
            self.forget()
            self._trained = trained

    def _measured(self, x: Tensor) -> Tensor:
        """Call the network and note the memory that it needs; that of a backward pass is seen at the next call."""
        before = torch.cuda.memory_allocated(x.device)
        torch.cuda.reset_peak_memory_stats(x.device)
        out = self.net(x)
        self._needs = torch.cuda.max_memory_allocated(x.device) - before
        return out

    def _record_or_not(self, kind: object, x: Tensor) -> None:
        """Record a kind of batches, if memory bears twice what the one before needed; else give up."""
        if not torch.is_inference_mode_enabled():
            self._needs = torch.cuda.max_memory_allocated(x.device) - torch.cuda.memory_allocated(x.device)
        gc.collect()
        torch.cuda.empty_cache()
        record = self._recorded(x) if torch.cuda.mem_get_info(x.device)[0] > 2 * self._needs else None
        if record or not self._record:
            self._kind, self._record = kind, record

    def _recorded(self, x: Tensor) -> _Record | None:
        try:
            with torch.cuda.device(x.device):
                return _Record(self.net, x, gathers=self.gathers)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            warn(f"{type(self.net).__name__} is not recorded as a CUDA graph: {reason}")
            return None


class _Record:
    """Forward and, where parameters are trained, backward pass of a network on batches like one."""

    def __init__(self, net: nn.Module, x: Tensor, *, gathers: bool) -> None:
        parameters = dict(net.named_parameters())
        trained = [name for name, p in parameters.items() if p.requires_grad and torch.is_grad_enabled()]
        own = {name: p.detach().requires_grad_(name in trained) for name, p in parameters.items()}
        self.parameters, self.gathers = [parameters[name] for name in trained], gathers
        self.rows, self.given = len(x), x.detach().clone()
        inputs = [own[name] for name in trained]

        def ahead() -> Tensor:
            return functional_call(net, own, (self.given,))

        def back(said: Tensor, change: Tensor) -> Any:
            with torch.autocast("cuda", enabled=False):  # as Lightning has it
                return torch.autograd.grad(said, inputs, change, allow_unused=True)

        self.ahead, self.back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        enabled, dtype = _precision()
        with torch.autocast("cuda", dtype, enabled=enabled, cache_enabled=False), _unchanged(net, x.device), _fastest():
            _warm_up(ahead, back if inputs else None)
            self.pool = torch.cuda.graph_pool_handle() if inputs else _pool(x.device)
            with torch.cuda.graph(self.ahead, pool=self.pool, capture_error_mode="thread_local"):
                said = ahead()
            self.change = torch.zeros_like(said)
            if inputs:
                with torch.cuda.graph(self.back, pool=self.pool, capture_error_mode="thread_local"):
                    self.gradients = back(said, self.change)
        self.said = said.detach()
        if not inputs:
            _ANSWERING.add(self)

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the network says of a batch [b,…] of at most `rows`."""
        if self.parameters:
            return _Replay.apply(self, x, *self.parameters)  # pyright: ignore[reportReturnType]
        return self.replayed(x)

    def replayed(self, x: Tensor) -> Tensor:
        """Return a copy of the output, which the next replay writes anew."""
        self.given[: len(x)].copy_(x)
        self.ahead.replay()
        return self.said[: len(x)].clone()


class _Replay(torch.autograd.Function):
    """A record as a function of its parameters."""

    @staticmethod
    def forward(ctx: Any, record: _Record, x: Tensor, *parameters: Tensor) -> Tensor:  # pyright: ignore
        ctx.record = record
        return record.replayed(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, change: Tensor) -> Any:  # pyright: ignore
        record: _Record = ctx.record
        record.change.copy_(change)
        record.back.replay()
        # A second name lets autograd take the memory itself as `.grad`, which the next replay writes anew.
        own = record.gradients if record.gathers else [g if g is None else g.detach() for g in record.gradients]
        return None, None, *own


def _precision() -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")


_ANSWERING: WeakSet[_Record] = WeakSet()
"""Records without gradients: they share memory, since they run one at a time and their outputs are copied."""


def _pool(device: torch.device) -> Any:
    """Return the memory that records without gradients share on a device."""
    shared = (record.pool for record in _ANSWERING if record.given.device == device)
    return next(shared, None) or torch.cuda.graph_pool_handle()


def _warm_up(ahead: Callable[[], Tensor], back: Callable[[Tensor, Tensor], Any] | None) -> None:
    """Run what is to be recorded until libraries are set up, and once more to see that it never waits for the GPU."""
    with _apart():
        for at in range(_WARM + 1):
            with _never_waiting() if at == _WARM else nullcontext():
                said = ahead()
                if back:
                    back(said, torch.zeros_like(said))
                del said  # and its activations, before the next ones


@contextmanager
def _apart() -> Iterator[None]:
    """Work on a stream of its own, after what was begun and before what comes."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def _never_waiting() -> Iterator[None]:
    """Raise RuntimeError where the GPU is waited for: a recording would fail there, and leave torch 2.11 unusable."""
    was = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(was)


@contextmanager
def _unchanged(net: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep batch norm's statistics and the random state from what is done to warm up."""
    before = [(buffer, buffer.clone()) for buffer in net.buffers()]
    try:
        with torch.random.fork_rng(devices=[device]):
            yield
    finally:
        with torch.no_grad():
            for buffer, was in before:
                buffer.copy_(was)


@contextmanager
def _fastest() -> Iterator[None]:
    """Let cuDNN try its algorithms in training, since those that are recorded serve for many steps."""
    was = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = was or torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = was
