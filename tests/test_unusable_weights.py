"""Weights that can't be used, of whichever member, are found before the first step of the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import mobilenet_v3_small, squeezenet1_1

from octavo.engine.material import Material
from octavo.errors import UserError
from octavo.integrity import sha256_of
from octavo.options import Options
from octavo.recipe import ClassifyRecipe, SegmentRecipe
from octavo.verbs import training
from octavo.verbs.training import train


def nothing(path: Path) -> None:
    """Leave the file out."""


def another_network(path: Path) -> None:
    save_file(mobilenet_v3_small().state_dict(), path)


def half(path: Path) -> None:
    save_file(squeezenet1_1().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_a_number(path: Path) -> None:
    tensors = squeezenet1_1().state_dict()
    tensors["features.0.weight"][0, 0, 0, 0] = torch.nan
    save_file(tensors, path)


def whole_numbers(path: Path) -> None:
    save_file({name: tensor.to(torch.int32) for name, tensor in squeezenet1_1().state_dict().items()}, path)


def another_shape(path: Path) -> None:
    save_file(squeezenet1_1().state_dict() | {"features.0.weight": torch.zeros(3)}, path)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (nothing, "no such file"),
    "another network": (another_network, 'not weights of "'),
    "half": (half, "not a whole safetensors file"),
    "NaN": (not_a_number, "holds NaN or infinite numbers"),
    "whole numbers": (whole_numbers, "expected floating point"),
    "another shape": (another_shape, "expected"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_of_the_last_member_before_the_first_is_trained(fault: str, digits_folder: Path, tmp_path: Path) -> None:
    make, words = FAULTS[fault]
    make(tmp_path / "own.safetensors")
    first = {"name": "first", "backbone": "squeezenet1_1", "weights": "none"}
    last = {"name": "last", "backbone": "squeezenet1_1", "weights": str(tmp_path / "own.safetensors")}
    recipe = ClassifyRecipe.model_validate({"name": "t", "data": {"size": 32}, "members": [first, last]})
    steps: list[str] = []
    options = Options(out=tmp_path / "run", cache=tmp_path / "cache", report=False)
    with pytest.raises(UserError, match=words) as found:
        train(recipe, digits_folder, (), options, progress=lambda what, done, total, note="": steps.append(what))
    assert "last" in str(found.value) or "members[1]" in str(found.value)
    assert "\n" not in str(found.value) and not (tmp_path / "run").exists()
    assert not [step for step in steps if step.startswith("first")]


@pytest.mark.parametrize("key", ["weights", "start"])
@pytest.mark.parametrize("fault", FAULTS)
def test_of_a_segmenter_before_it_is_trained(fault: str, key: str, scenes_folder: Path, tmp_path: Path) -> None:
    if (key, fault) == ("start", "another shape"):
        pytest.skip("a start may share some of its tensors alone")
    make, _ = FAULTS[fault]
    make(tmp_path / "own.safetensors")
    segmenter = {"backbone": "vgg11", "hidden": [{"width": 4}], "weights": "none"}
    keys = {"name": "t", "task": "segment", "data": {"size": 32, "classes": "course"}}
    recipe = SegmentRecipe.model_validate(keys | {"segmenter": segmenter | {key: str(tmp_path / "own.safetensors")}})
    with pytest.raises(UserError) as found:
        train(recipe, scenes_folder, (), Options(out=tmp_path / "run", cache=tmp_path / "cache", report=False))
    assert "own.safetensors" in str(found.value) and not (tmp_path / "run").exists()


def test_a_file_that_members_share_is_tried_once(
    digits_folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own.safetensors"
    save_file(squeezenet1_1().state_dict(), file)
    members = [{"name": name, "backbone": "squeezenet1_1", "weights": str(file)} for name in "abc"]
    data = {"size": 32, "resize": "stretch"}
    recipe = ClassifyRecipe.model_validate({"name": "t", "data": data, "members": members})
    tried: list[Path] = []
    check = training.check_weights
    monkeypatch.setattr(training, "check_weights", lambda net, of, path: tried.append(path) or check(net, of, path))

    def stop(material: Material, origins: Mapping[str, str]) -> None:
        assert origins == dict.fromkeys("abc", sha256_of(file))
        raise UserError("enough")

    with pytest.raises(UserError, match="enough"):
        train(recipe, digits_folder, (), Options(out=tmp_path / "run"), approve=stop)
    assert tried == [file]
