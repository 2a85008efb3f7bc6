"""Recorded networks say and learn what those say and learn that are called."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from octavo.engine.graphs import Replayed
from octavo.networks.fold import FoldedLinear, pooling_of

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
on_gpu = [pytest.param("cuda", marks=gpu)]


def small(device: str) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(8 * 6 * 6, 5)).to(device)


def batches(device: str, count: int, size: int = 4) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.rand((size, 3, 8, 8), generator=draw).to(device) for _ in range(count)]


def trained(net: nn.Module, call: object, images: list[Tensor], *, bf16: bool = False) -> list[float]:
    assert callable(call)
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), []
    for step, x in enumerate(images):
        torch.manual_seed(step)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            loss = call(x).float().logsumexp(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def recorded(record: Replayed, device: str) -> bool:
    return (record._record is not None) == (device == "cuda")


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("device", ["cpu", *on_gpu])
def test_training_is_the_same_replayed(device: str, bf16: bool) -> None:
    called, replayed = small(device), small(device)
    images = batches(device, 9)
    images[5] = images[5][:2]
    record = Replayed(replayed)
    expected, found = trained(called, called, images, bf16=bf16), trained(replayed, record, images, bf16=bf16)
    tolerance = 2e-2 if bf16 else 1e-3
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert recorded(record, device)
    for (name, one), other in zip(called.state_dict().items(), replayed.state_dict().values(), strict=True):
        torch.testing.assert_close(other, one, rtol=5e-2, atol=1e-2 if bf16 else 2e-3, msg=name)


@pytest.mark.parametrize("device", ["cpu", *on_gpu])
def test_gradients_add_up(device: str) -> None:
    called, replayed = small(device).train(), small(device).train()
    record = Replayed(replayed, gathers=True)
    for step, x in enumerate(batches(device, 8)):
        for call in (called, record):
            torch.manual_seed(step)
            call(x).logsumexp(1).mean().backward()
    assert recorded(record, device)
    for (name, one), other in zip(called.named_parameters(), replayed.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(other.grad, one.grad, rtol=2e-2, atol=2e-3, msg=name)


@pytest.mark.parametrize("device", ["cpu", *on_gpu])
def test_frozen_parameters_that_thaw_are_recorded_anew(device: str) -> None:
    called, replayed = small(device), small(device)
    images, record = batches(device, 10), Replayed(replayed)
    for net in (called, replayed):
        net[0].requires_grad_(False)
    first = trained(called, called, images[:5]), trained(replayed, record, images[:5])
    start = replayed[0].weight.detach().clone()
    torch.testing.assert_close(start, small(device)[0].weight.detach())
    for net in (called, replayed):
        net[0].requires_grad_(True)
    second = trained(called, called, images[5:]), trained(replayed, record, images[5:])
    for expected, found in (first, second):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert recorded(record, device)
    assert not torch.equal(replayed[0].weight, start)


@pytest.mark.parametrize("device", ["cpu", *on_gpu])
@pytest.mark.parametrize("bf16", [False, True])
def test_answers_are_the_same_replayed(device: str, bf16: bool) -> None:
    net = small(device).eval()
    record, images = Replayed(net), [*batches(device, 6), batches(device, 1)[0][:3]]
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        found = [record(x) for x in images]
        assert recorded(record, device)
        for one, x in zip(found, images, strict=True):
            torch.testing.assert_close(one, net(x))
        for x in batches(device, 3, size=7):  # larger ones take the place of the smaller
            torch.testing.assert_close(record(x), net(x))
        assert record._record is None or record._record.rows == 7
    record.forget()
    assert record._record is None


@pytest.mark.parametrize("device", ["cpu", *on_gpu])
def test_gradients_of_a_network_that_answers_go_the_usual_way(device: str) -> None:
    net = small(device).eval()
    record = Replayed(net)
    for x in batches(device, 5):
        x.requires_grad_()
        record(x).sum().backward()
        assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize("device", ["cpu", *on_gpu])
def test_a_head_that_is_folded_is_replayed_too(device: str) -> None:
    pooling = pooling_of("vgg16", 64)
    assert pooling
    torch.manual_seed(0)
    folded = nn.Sequential(FoldedLinear(nn.Linear(512 * 49, 3), pooling)).to(device).eval()
    record, draw = Replayed(folded), torch.Generator().manual_seed(1)
    with torch.inference_mode():
        for _ in range(4):
            x = torch.rand((2, 512 * 4), generator=draw).to(device)
            torch.testing.assert_close(record(x), folded(x))
    assert recorded(record, device)


class Looks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x + 1) if x.mean().item() > 0 else x


@pytest.mark.parametrize("device", on_gpu)
def test_a_network_that_looks_at_numbers_is_called_and_that_is_told(
    device: str, caplog: pytest.LogCaptureFixture
) -> None:
    net = Looks().to(device)
    record, stream = Replayed(net), torch.cuda.current_stream()
    for x in batches(device, 5):
        torch.manual_seed(3)
        found = record(x)
        torch.manual_seed(3)
        torch.testing.assert_close(found, net(x))
    assert "Looks is not recorded as a CUDA graph" in caplog.text
    torch.cuda.empty_cache()
    assert torch.cuda.current_stream() == stream
    other = small(device)
    again = Replayed(other)
    trained(other, again, batches(device, 5))
    assert recorded(again, device)


def test_what_is_no_tensor_is_handed_on() -> None:
    class Counts(nn.Module):
        def forward(self, x: list[int]) -> int:
            return len(x)

    assert Replayed(Counts().eval())([1, 2]) == 2  # type: ignore[arg-type]
