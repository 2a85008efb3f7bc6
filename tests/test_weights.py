"""Published weights: which, where, and what input they expect; nothing here reaches a network."""

from __future__ import annotations

import dataclasses
import hashlib
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from octavo.errors import UserError
from octavo.networks import weights
from octavo.networks.backbone import Backbone, names
from octavo.networks.weights import Entry, check_name, entry, fetch, gather, load_pretrained, locate, normalization
from octavo.recipe import ClassifyRecipe, Member


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch hub cache, no folder of weights, and no network."""

    def unplugged(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("OCTAVO_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "urlopen", unplugged)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return torchvision.models.squeezenet1_1(weights=None).state_dict()


def recipe(**member: str) -> ClassifyRecipe:
    return ClassifyRecipe.model_validate(
        {"name": "t", "members": [{"name": "one", "backbone": "squeezenet1_1", **member}]}
    )


@pytest.mark.parametrize("name", names())
def test_every_network_has_an_entry_that_agrees_with_torchvision(name: str) -> None:
    found = entry(name)
    kinds = torchvision.models.get_model_weights(name)
    assert found.tag == ("IMAGENET1K_V1" if "IMAGENET1K_V1" in kinds.__members__ else next(iter(kinds)).name)
    preset = kinds[found.tag].transforms()
    assert (list(found.mean), list(found.std)) == (list(preset.mean), list(preset.std))
    assert found.url == kinds[found.tag].url
    assert found.url.endswith("/" + found.file_name)
    assert len(found.sha_prefix) >= 8
    assert found.file_name.endswith(f"-{found.sha_prefix}.pth")
    assert found.size_bytes > 1e6
    assert found.top1 is not None


def test_accuracies_are_the_references() -> None:
    v1 = {"vgg16": 71.59, "vgg19_bn": 74.22, "resnet152": 78.31, "densenet161": 77.14, "densenet169": 75.60}
    assert {name: round(entry(name).top1 or 0, 2) for name in v1} == v1
    assert entry("resnet152", "IMAGENET1K_V2").top1 == pytest.approx(82.28, abs=0.005)


def test_normalisation_belongs_to_the_entry() -> None:
    features = entry("vgg16", "IMAGENET1K_FEATURES")
    assert features.mean == pytest.approx((0.482, 0.459, 0.408), abs=5e-4)
    assert features.std == pytest.approx((1 / 255,) * 3)
    assert features.top1 is None
    member = Member(name="m", backbone="vgg16", weights="IMAGENET1K_FEATURES")
    assert normalization(member) == (features.mean, features.std)


@pytest.mark.parametrize("own", ["none", "my/own.pth", "imagenet"])
def test_otherwise_it_is_imagenets(own: str) -> None:
    expected = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalization(Member(name="m", backbone="resnet18", weights=own)) == expected


def test_unknown_set_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r'^weights: unknown "IMAGENET1K_V3"; did you mean "IMAGENET1K_V\d"\?$'):
        entry("resnet152", "IMAGENET1K_V3")
    with pytest.raises(UserError, match=r'^weights: unknown "imagnet"; did you mean "imagenet"\?$'):
        check_name("resnet152", "imagnet")
    with pytest.raises(UserError, match=r'^backbone: unknown "resnet15"'):
        entry("resnet15")


@pytest.mark.parametrize("good", ["none", "imagenet", "IMAGENET1K_V2", "a.pth", "b.pt", "c/d.safetensors"])
def test_known_names_pass(good: str) -> None:
    check_name("resnet152", good)


def test_search_order(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = entry("squeezenet1_1")
    folder = tmp_path / "w"
    folder.mkdir()
    hub.mkdir(parents=True)
    assert locate(found, folder) is None
    order = [
        hub / "squeezenet1_1-b8a52dc0.pth",
        folder / "squeezenet1_1.safetensors",
        folder / "squeezenet1_1-IMAGENET1K_V1.safetensors",
        folder / "squeezenet1_1-b8a52dc0.pth",
    ]
    for path in order:
        path.touch()
        assert locate(found, folder) == path
    assert locate(found) == order[0]
    monkeypatch.setenv("OCTAVO_WEIGHTS", str(folder))
    assert locate(found) == order[-1]
    other = tmp_path / "other"
    other.mkdir()
    assert locate(found, other) == order[0]


def test_plain_name_is_the_default_set_alone(tmp_path: Path) -> None:
    (tmp_path / "resnet152.safetensors").touch()
    assert locate(entry("resnet152"), tmp_path) == tmp_path / "resnet152.safetensors"
    assert locate(entry("resnet152", "IMAGENET1K_V2"), tmp_path) is None


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^weights: \S+gone: no such folder; see --weights-dir and OCTAVO_WEIGHTS$"):
        locate(entry("vgg16"), tmp_path / "gone")


def served(state: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch, digits: str | None = None) -> Entry:
    """An entry whose URL is a file on this machine, downloaded by torch's own code."""
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "served.pth")
    digits = digits or hashlib.sha256((folder / "served.pth").read_bytes()).hexdigest()[:8]
    name = f"squeezenet1_1-{digits}.pth"
    url = (folder / "served.pth").as_uri()
    found = dataclasses.replace(entry("squeezenet1_1"), url=url, file_name=name, sha_prefix=digits)
    monkeypatch.setattr(weights, "entry", lambda *args: found)
    return found


def test_download_goes_to_the_hub_cache_and_loads(
    state: dict[str, Tensor], tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = served(state, tmp_path, monkeypatch)
    backbone = Backbone("squeezenet1_1", 64)
    report = load_pretrained(backbone, "imagenet")
    assert report is not None
    assert report.path == hub / found.file_name
    assert torch.equal(backbone.net.state_dict()["features.0.weight"], state["features.0.weight"])
    (tmp_path / "served.pth").unlink()
    assert fetch(found) == report.path  # from the cache, now that the URL is dead


def test_download_with_a_wrong_hash_leaves_nothing(
    state: dict[str, Tensor], tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = served(state, tmp_path, monkeypatch, digits="00000000")
    with pytest.raises(UserError, match=r"the download failed \(invalid hash value"):
        fetch(found)
    assert list(hub.iterdir()) == []


def test_no_network_says_what_to_get_and_where_to_put_it(hub: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch(entry("vgg16"))
    text = str(caught.value)
    for part in ("IMAGENET1K_V1 of vgg16", "vgg16-397923af.pth (553 MB)", "no network in tests", "--weights-dir",
                 "https://download.pytorch.org/models/vgg16-397923af.pth", "OCTAVO_WEIGHTS", str(hub)):  # fmt: skip
        assert part in text
    assert "\n" not in text


def test_download_can_be_forbidden() -> None:
    with pytest.raises(UserError, match=r"^weights: IMAGENET1K_V1 of vgg16 are not on this machine; get"):
        fetch(entry("vgg16"), download=False)


def test_never_a_silent_random_start() -> None:
    backbone = Backbone("squeezenet1_1", 64)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(UserError):
        load_pretrained(backbone, "imagenet")
    assert load_pretrained(backbone, "none") is None
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())


def test_damaged_file_of_torchvision_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "squeezenet1_1-b8a52dc0.pth")  # another content than its name says
    with pytest.raises(
        UserError, match=r"b8a52dc0\.pth: damaged or changed: its SHA-256 is .*, expected b8a52dc0… by its name"
    ):
        load_pretrained(Backbone("squeezenet1_1", 64), "imagenet", tmp_path)


def test_file_of_ones_own(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file(state, path)
    backbone = Backbone("squeezenet1_1", 64)
    report = load_pretrained(backbone, str(path))
    assert report is not None
    assert report.path == path
    assert torch.equal(backbone.net.state_dict()["features.0.weight"], state["features.0.weight"])


def test_gather_finds_all_or_names_the_member(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "squeezenet1_1.safetensors")
    assert gather(recipe(), tmp_path) == {"one": tmp_path / "squeezenet1_1.safetensors"}
    assert gather(recipe(weights="none")) == {}
    with pytest.raises(UserError, match=r"^members\[0\]\.weights: IMAGENET1K_V1 of squeezenet1_1 are not on"):
        gather(recipe())
    with pytest.raises(UserError, match=r'^members\[0\]\.weights: "gone\.pth": no such file$'):
        gather(recipe(weights="gone.pth"))


def test_timm_entry_and_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    name = "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    found = entry(name)
    assert found.mean == found.std == (0.5, 0.5, 0.5)
    assert normalization(Member(name="m", backbone=name)) == (found.mean, found.std)
    with pytest.raises(UserError, match=r"timm:NAME\.TAG"):
        entry(name, "IMAGENET1K_V1")
    net = timm.create_model("resnet10t", num_classes=1000)
    # torchvision's resnet and timm's have one name and other weights, so the file says timm.
    save_file(net.state_dict(), tmp_path / "timm-resnet10t.safetensors")
    backbone = Backbone("timm:resnet10t", 64)
    load_pretrained(backbone, "imagenet", tmp_path)
    assert torch.equal(backbone.net.state_dict()["conv1.0.weight"], net.state_dict()["conv1.0.weight"])


def test_timm_download_is_kept(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnet10t", num_classes=0)
    asked: list[dict] = []

    def create(name: str, **options: object) -> torch.nn.Module:
        asked.append({"name": name, **options})
        return net

    monkeypatch.setattr(timm, "create_model", create)
    path = fetch(entry("timm:resnet10t"))
    assert path == hub / "timm-resnet10t.safetensors"
    assert {"name": "resnet10t", "pretrained": True, "num_classes": 0} in asked
    assert locate(entry("timm:resnet10t")) == path
