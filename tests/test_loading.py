"""Weights files: read whole or refused in one line, without running what is in them."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from octavo.errors import UserError
from octavo.networks import loading
from octavo.networks.backbone import Backbone
from octavo.networks.head import make_head
from octavo.networks.loading import load_into, load_member, read_tensors, sha256
from octavo.networks.member import MemberNet
from octavo.recipe import Head

SHARED = Path(__file__).parents[2] / "shared" / "weights"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def original() -> nn.Module:
    torch.manual_seed(1)
    return torchvision.models.squeezenet1_1(weights=None).eval()


@pytest.fixture
def state(original: nn.Module) -> State:
    return {key: value.clone() for key, value in original.state_dict().items()}


@pytest.fixture
def backbone() -> Backbone:
    return Backbone("squeezenet1_1", 64).eval()


def assert_filled(backbone: Backbone, state: State) -> None:
    filled = backbone.net.state_dict()
    assert filled
    assert all(torch.equal(value, state[key]) for key, value in filled.items())


def as_pth(state: State, path: Path) -> None:
    torch.save(state, path)


def as_old_pth(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def as_safetensors(state: State, path: Path) -> None:
    save_file(state, path)


def as_checkpoint(state: State, path: Path) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, path)


def as_torchvision_training(state: State, path: Path) -> None:
    torch.save({"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3}, path)


def as_average(state: State, path: Path) -> None:
    torch.save({"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in state.items()}}, path)


def as_features_alone(state: State, path: Path) -> None:
    save_file({k: v for k, v in state.items() if k.startswith("features")}, path)


def as_backbone(state: State, path: Path) -> None:
    torch.save({f"net.{k}": v for k, v in state.items() if k.startswith("features")}, path)


def as_fine_tuned(state: State, path: Path) -> None:
    torch.save({k.replace("classifier.1", "classifier.1.0"): v for k, v in state.items()}, path)


@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        (as_pth, ".pth"), (as_pth, ".pt"), (as_old_pth, ".pth"), (as_safetensors, ".safetensors"),
        (as_checkpoint, ".pth"), (as_torchvision_training, ".pth"), (as_average, ".pth"),
        (as_features_alone, ".safetensors"), (as_backbone, ".pt"), (as_fine_tuned, ".pth"),
    ],
)  # fmt: skip
def test_every_form_of_file_loads(
    write: Callable[[State, Path], None], suffix: str, state: State, backbone: Backbone, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    write(state, path)
    report = load_into(backbone, path)
    assert_filled(backbone, state)
    features = sum(key.startswith("features") for key in state)
    assert report.loaded == features
    assert report.unused in (0, len(state) - features)
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == sha256(path)
    assert report.path == path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_cast(dtype: torch.dtype, state: State, backbone: Backbone, tmp_path: Path) -> None:
    save_file({k: v.to(dtype) for k, v in state.items()}, tmp_path / "w.safetensors")
    load_into(backbone, tmp_path / "w.safetensors")
    assert_filled(backbone, {k: v.to(dtype).float() for k, v in state.items()})
    assert all(p.dtype == torch.float32 for p in backbone.parameters())


def test_loaded_extractor_gives_the_originals_features(
    original: nn.Module, state: State, backbone: Backbone, tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "w.pth")
    load_into(backbone, tmp_path / "w.pth")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), original.get_submodule("features")(x).mean((2, 3)))


def without(state: State) -> State:
    return {k: v for k, v in state.items() if k != "features.3.squeeze.bias"}


def reshaped(state: State) -> State:
    return state | {"features.0.weight": torch.zeros(64, 3, 5, 5)}


def extended(state: State) -> State:
    return state | {"layer9.weight": torch.zeros(2)}


def damaged(state: State) -> State:
    return state | {"features.0.bias": torch.full((64,), torch.nan)}


def quantised(state: State) -> State:
    return state | {"features.0.bias": torch.zeros(64, dtype=torch.int8)}


def other_network(state: State) -> State:
    return torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without, r'"features\.3\.squeeze\.bias" is missing'),
        (reshaped, r'"features\.0\.weight" is 64×3×5×5, expected 64×3×3×3'),
        (extended, r'it has no "layer9\.weight"'),
        (damaged, r'"features\.0\.bias" holds NaN or infinite numbers'),
        (quantised, r'"features\.0\.bias" holds int8, expected floating point'),
        (other_network, r'"features\.0\.weight" is missing'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_changes_nothing(
    change: Callable[[State], State], message: str, state: State, backbone: Backbone, tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in backbone.net.state_dict().items()}
    path = tmp_path / "w.pth"
    torch.save(change(state), path)
    with pytest.raises(UserError, match=rf'^{re.escape(str(path))}: not weights of "squeezenet1_1": {message}$'):
        load_into(backbone, path)
    assert_filled(backbone, before)


class Harmful:
    def __reduce__(self) -> tuple:
        return os.mkdir, (str(Path(os.environ["OCTAVO_TEST_TRACE"]) / "ran"),)


def test_code_in_a_pickle_does_not_run(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_TEST_TRACE", str(tmp_path))
    torch.save({"features.0.weight": Harmful()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"^\S+bad\.pth: holds more than weights \(posix\.mkdir\)") as caught:
        load_into(backbone, tmp_path / "bad.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Harmful()))  # the same object, loaded carelessly, does run
    assert (tmp_path / "ran").exists()


def test_whole_module_in_a_pickle_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1(weights=None), tmp_path / "module.pth")
    with pytest.raises(UserError, match=r"holds more than weights .*save model\.state_dict\(\) alone$"):
        load_into(backbone, tmp_path / "module.pth")


@pytest.mark.parametrize("write", [as_pth, as_old_pth, as_safetensors])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
def test_truncated_file_is_one_line(
    write: Callable[[State, Path], None], share: float, state: State, backbone: Backbone, tmp_path: Path
) -> None:
    path = tmp_path / ("w.safetensors" if write is as_safetensors else "w.pth")
    write(state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: not a whole .* file \(") as caught:
        load_into(backbone, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 3}, [1, 2], torch.zeros(3)], ids=["empty", "numbers", "list", "tensor"]
)
def test_file_without_named_tensors(content: object, backbone: Backbone, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: holds no named tensors; expected a state dict"):
        load_into(backbone, tmp_path / "w.pth")


def test_file_that_is_not_there(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.pth: no such weights file$"):
        load_into(backbone, tmp_path / "gone.pth")


def test_published_densenet_names(tmp_path: Path) -> None:
    state = torchvision.models.densenet121(weights=None).state_dict()
    # As in densenet121-a639ec97.pth: norm1 was norm.1, and there is no num_batches_tracked.
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", k): v for k, v in state.items()}
    old = {k: v for k, v in old.items() if not k.endswith("num_batches_tracked")}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "w.pth")
    backbone = Backbone("densenet121", 64)
    load_into(backbone, tmp_path / "w.pth")
    assert_filled(backbone, state)


def test_published_vit_names(tmp_path: Path) -> None:
    layer = "encoder.layers.encoder_layer_0.mlp."
    old = {f"{layer}linear_{i}.{kind}": torch.full((2,), float(i)) for i in (1, 2) for kind in ("weight", "bias")}
    torch.save(old, tmp_path / "w.pth")
    found = read_tensors(tmp_path / "w.pth")
    assert {k: v[0].item() for k, v in found.items()} == {
        layer + "0.weight": 1, layer + "0.bias": 1, layer + "3.weight": 2, layer + "3.bias": 2,
    }  # fmt: skip


@pytest.mark.slow
def test_published_vit_at_another_size(tmp_path: Path) -> None:
    original = torchvision.models.vit_b_32(weights=None, image_size=64)
    with torch.no_grad():
        original.encoder.pos_embedding[:, 1:] = original.encoder.pos_embedding[:, :1]
    state = original.state_dict()
    old = {k.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): v for k, v in state.items()}
    torch.save(old, tmp_path / "w.pth")
    backbone = Backbone("vit_b_32", 64)
    load_into(backbone, tmp_path / "w.pth")
    assert_filled(backbone, state)
    larger = Backbone("vit_b_32", 96)
    load_into(larger, tmp_path / "w.pth")
    positions = larger.net.state_dict()["encoder.pos_embedding"]
    assert positions.shape == (1, 10, 768)
    torch.testing.assert_close(positions, original.encoder.pos_embedding[:, :1].expand(1, 10, 768).detach())


def test_auxiliary_heads_and_networks_with_versions_of_their_own(tmp_path: Path) -> None:
    # GoogLeNet's file holds aux1 and aux2; MNASNet refuses load_state_dict on names alone.
    for name, options in (("googlenet", {"init_weights": True}), ("mnasnet0_5", {})):
        state = torchvision.models.get_model(name, weights=None, **options).state_dict()
        save_file(dict(state), tmp_path / f"{name}.safetensors")
        backbone = Backbone(name, 64)
        load_into(backbone, tmp_path / f"{name}.safetensors")
        assert_filled(backbone, state)


def member(classes: int = 3) -> MemberNet:
    return MemberNet(Backbone("mnasnet0_5", 64), make_head(Head(), 1280, classes))


def test_member_comes_back_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = member(), member()
    save_file(first.state_dict(), tmp_path / "m.safetensors")
    monkeypatch.setattr(loading, "sha256", lambda path: pytest.fail("read twice"))
    load_member(second, tmp_path / "m.safetensors")
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_backbone_takes_its_part_of_a_member(tmp_path: Path) -> None:
    first = member()
    save_file(first.state_dict(), tmp_path / "m.safetensors")
    backbone = Backbone("mnasnet0_5", 64)
    assert load_into(backbone, tmp_path / "m.safetensors").unused == 2
    assert_filled(backbone, first.backbone.net.state_dict())


def test_member_with_other_classes_is_refused(tmp_path: Path) -> None:
    save_file(member(4).state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=r'not weights of this member: "head\.0\.weight" is 4×1280, expected 3×1280$'):
        load_member(member(3), tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "vgg16"])
def test_real_weights_give_the_features_of_torchvisions_own_layers(name: str) -> None:
    path = SHARED / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} isn't on this machine")
    backbone = Backbone(name, 64, pool="avg").eval()
    report = load_into(backbone, path)
    layers = torchvision.models.get_model(name, weights=None).get_submodule("features").eval()
    parts = {k.removeprefix("features."): v.float() for k, v in load_file(path).items() if k.startswith("features.")}
    layers.load_state_dict(parts)
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), layers(x).mean((2, 3)), rtol=1e-4, atol=1e-4)
    assert report.loaded == len(parts)
