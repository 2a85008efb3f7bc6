"""Networks from a recipe: the reference's widths and parameter counts, and weights that depend on names alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo import recipe
from octavo.errors import UserError
from octavo.networks import backbone
from octavo.networks.backbone import parameters
from octavo.networks.build import (
    build_member,
    build_segmenter,
    check_recipe,
    check_segmenter,
    init_key,
    notes,
    start_member,
    start_segmenter,
)
from octavo.networks.loading import digest
from octavo.networks.segmenter import SegmenterNet
from octavo.recipe import ClassifyRecipe, SegmentRecipe

SHARED = Path(__file__).parents[2] / "shared" / "weights"

HEAD_6 = [{"width": 4096, "dropout": 0.5}, {"width": 4096}]
HEAD_7 = [{"width": 4096, "dropout": 0.5}]
HEAD_8 = [{"width": 4096, "dropout": 0.5}, {"width": 4096, "dropout": 0.5}, {"width": 2048, "dropout": 0.5}]
# backbone, pool, hidden layers -> features, parameters of extractor and head at C = 50: the reference's table.
REFERENCE = [
    ("vgg16", "avg", [{"width": 256}], 512, 14_714_688, 144_178),
    ("resnet152", "native", [], 2048, 58_143_808, 102_450),
    ("densenet161", "native", [], 2208, 26_472_000, 110_450),
    ("densenet169", "native", [], 1664, 12_484_480, 83_250),
    ("resnext101_32x8d", "native", [], 2048, 86_742_336, 102_450),
    ("vgg19_bn", "native", HEAD_6, 25088, 20_035_392, 119_750_706),
    ("vgg19_bn", "native", HEAD_7, 25088, 20_035_392, 102_969_394),
    ("vgg19_bn", "native", HEAD_8, 25088, 20_035_392, 128_038_962),
]


def made(*members: dict, **rest: object) -> ClassifyRecipe:
    named = [{"name": f"m{i}", "weights": "none"} | m for i, m in enumerate(members)]
    return ClassifyRecipe.model_validate({"name": "test", "data": {"size": 64}, "members": named, **rest})


def test_the_eight_members_are_the_references() -> None:
    rows = [{"backbone": name, "pool": pool, "head": {"hidden": hidden}} for name, pool, hidden, *_ in REFERENCE]
    eight = made(*rows, data={"size": 40})
    nets = [build_member(member, eight, 50, "meta") for member in eight.members]
    found = [(net.backbone.features, parameters(net.backbone), parameters(net.head)) for net in nets]
    assert found == [tuple(row[3:]) for row in REFERENCE]
    assert sum(parameters(net) for net in nets) == 609_965_328
    assert sum(parameters(net.head) for net in nets) == 351_301_840


@pytest.mark.parametrize("name", ["octet", "octet-224"])
def test_shipped_octets_are_the_eight_members(name: str) -> None:
    octet = recipe.load(name)
    nets = [build_member(member, octet, 50, "meta") for member in octet.members]
    found = [(net.backbone.name, net.backbone.features, parameters(net.backbone)) for net in nets]
    assert found == [(row[0], *row[3:5]) for row in REFERENCE]
    if name == "octet":
        assert [parameters(net.head) for net in nets] == [row[5] for row in REFERENCE]


def test_octet_is_checked_fast() -> None:
    octet = recipe.load("octet")
    backbone.width.cache_clear()
    start = time.perf_counter()
    widths = check_recipe(octet)
    assert time.perf_counter() - start < 5
    assert list(widths.values()) == [row[3] for row in REFERENCE]


def test_weights_depend_on_seed_and_name_alone() -> None:
    two = made({"backbone": "resnet18"}, {"backbone": "resnet18"}, seed=7)
    torch.manual_seed(1)
    first = build_member(two.members[0], two, 5).state_dict()
    backbone.width.cache_clear()
    torch.manual_seed(2)
    again = build_member(two.members[0], two, 5).state_dict()
    other = build_member(two.members[1], two, 5).state_dict()
    seeded = build_member(two.members[0], two.model_copy(update={"seed": 8}), 5).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    for key in ("backbone.net.conv1.weight", "head.0.weight"):
        assert not torch.equal(first[key], other[key])
        assert not torch.equal(first[key], seeded[key])


def test_key_is_the_same_on_every_machine() -> None:
    # sha256("init/7/m0"), its first eight bytes without the last bit; by `printf init/7/m0 | sha256sum`.
    assert init_key(7, "m0") == int("f17dfa551f0d0deb", 16) >> 1


def test_global_random_state_is_left_alone() -> None:
    one = made({"backbone": "squeezenet1_1"})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build_member(one.members[0], one, 5)
    build_member(one.members[0], one, 5, "meta")
    check_recipe(one)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.initial_seed() == 5


def test_meta_network_has_every_tensor_on_meta() -> None:
    one = made({"backbone": "swin_t"})
    net = build_member(one.members[0], one, 5, "meta")
    assert all(tensor.is_meta for tensor in net.state_dict().values())


def test_size_of_the_member_counts() -> None:
    one = made({"backbone": "vit_b_32", "size": 96})
    net = build_member(one.members[0], one, 5, "meta")
    assert net.backbone.net.encoder.pos_embedding.shape == (1, 10, 768)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ({"backbone": "resnet15"}, r'backbone: unknown "resnet15"; did you mean "resnet152"\?'),
        ({"backbone": "inception_v3"}, r'backbone: "inception_v3" can\'t take 64 px images; .* is 75 px'),
        ({"backbone": "vgg11", "zero_init_residual": True}, r'zero_init_residual: "vgg11" doesn\'t offer it.*'),
        ({"backbone": "resnet18", "weights": "imagenet", "zero_init_residual": True}, r'zero_init_residual: weights.*'),
        ({"backbone": "resnet18", "weights": "IMAGENET1K_V3"}, r'weights: unknown "IMAGENET1K_V3"; did you mean .*'),
        ({"backbone": "resnet18", "weights": "a/b.bin"}, r'weights: "a/b.bin" is no weights file; expected .*'),
        ({"backbone": "vit_b_32", "pool": "avg"}, r'pool: "vit_b_32" gives its class token.*'),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_said_with_its_path(member: dict, message: str) -> None:
    with pytest.raises(UserError, match=rf"^members\[1\]\.{message}$"):
        check_recipe(made({"backbone": "resnet18"}, member))


def test_unknown_backbone_fails_in_build_member_too() -> None:
    bad = made({"backbone": "resnet18"}, {"backbone": "resnet15"})
    with pytest.raises(UserError, match=r"^members\[1\]\.backbone: unknown"):
        build_member(bad.members[1], bad, 2)


def test_start_without_weights_is_the_random_network() -> None:
    one = made({"backbone": "squeezenet1_1"})
    net, report = start_member(one.members[0], one, 4)
    assert report is None
    random = build_member(one.members[0], one, 4).state_dict()
    assert all(torch.equal(random[key], value) for key, value in net.state_dict().items())


def test_start_without_its_file_names_the_member() -> None:
    one = made({"backbone": "squeezenet1_1", "weights": "gone.pth"})
    with pytest.raises(UserError, match=r'^m0: weights: "gone.pth": no such file$'):
        start_member(one.members[0], one, 4)


# Segmenters.


def segment(train: dict | None = None, **keys: Any) -> SegmentRecipe:
    own = {"backbone": "resnet18", "hidden": [{"width": 8}], "weights": "none"} | keys
    if own.get("network", "fcn") != "fcn":
        own = {"weights": "none", **keys}
    data = {"size": 64, "holdout": 0.1}
    return SegmentRecipe.model_validate(
        {"name": "t", "task": "segment", "data": data, "train": train or {"batch_size": 2}, "segmenter": own}
    )


def built(recipe: SegmentRecipe, classes: int = 3) -> SegmenterNet:
    return build_segmenter(recipe.segmenter, recipe, classes)


def test_a_segmenters_random_weights_depend_on_seed_and_name_alone() -> None:
    one = segment()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = built(one).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again = built(one.model_copy(update={"train": one.train.model_copy(update={"lr": 5.0})})).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    for other in (one.model_copy(update={"seed": 1}), segment(name="other")):
        assert not torch.equal(first["head.top.0.weight"], built(other).state_dict()["head.top.0.weight"])


def test_digest_tells_every_change_of_a_backbone() -> None:
    one, two = built(segment()).backbone, built(segment(hidden=[{"width": 5}])).backbone
    assert digest(one) == digest(two)  # the backbone is drawn before the decoder
    seen = {digest(one), digest(one.to(torch.bfloat16)), digest(built(segment(name="other")).backbone)}
    two.net.get_buffer("bn1.num_batches_tracked").add_(1)
    assert len(seen | {digest(two)}) == 4


def test_start_takes_what_fits_from_a_run(tmp_path: Path) -> None:
    coarse = segment(stride=16, name="a")
    state = built(coarse).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    file = tmp_path / "run" / "members" / "a" / "weights.safetensors"
    file.parent.mkdir(parents=True)
    (tmp_path / "w.safetensors").rename(file)
    fine = segment(start=str(tmp_path / "run"))
    check_segmenter(fine, 3)
    net, report = start_segmenter(fine.segmenter, fine, 3)
    found, plain = net.state_dict(), built(segment()).state_dict()
    taken = {k for k in found if k in state and state[k].shape == found[k].shape}
    assert "head.score_pool4.weight" in taken and "head.upscore16.weight" not in found
    assert all(torch.equal(found[k], state[k] if k in taken else plain[k]) for k in found)
    assert report is not None
    assert (report.path, report.loaded, report.unused) == (file, len(taken), len(state) - len(taken))
    assert report.notes == (
        f"{len(taken)} of the network's {len(found)} tensors start from {file}; these start anew: "
        "head.upscore_pool4, head.score_pool3, head.upscore8",
    )
    assert notes(fine.segmenter) == (f"every tensor of equal name and shape starts from {file}",)


def test_start_refuses_what_does_not_fit(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    save_file({"other": torch.ones(2)}, own)
    with pytest.raises(UserError, match=r"own\.safetensors: can't be started from: no tensor in it"):
        check_segmenter(segment(start=str(own)), 3)
    with pytest.raises(UserError, match=r'^segmenter\.start: "gone": no such run folder or weights file$'):
        check_segmenter(segment(start="gone"), 3)
    with pytest.raises(UserError, match=r"^segmenter\.start: .*: expected a run with one trained network, found 0$"):
        check_segmenter(segment(start=str(tmp_path)), 3)
    state = built(segment()).state_dict()
    state["head.score.bias"] = torch.full((3,), float("nan"))
    save_file(state, own)
    with pytest.raises(UserError, match=r'can\'t be started from: "head\.score\.bias" holds NaN'):
        start_segmenter(segment(start=str(own)).segmenter, segment(start=str(own)), 3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"network": "fcn_resnet5"}, r'network: unknown "fcn_resnet5"; did you mean "fcn_resnet50"\?$'),
        ({"backbone": "resnet15"}, r'backbone: unknown "resnet15"'),
        ({"backbone": "vit_b_16"}, r'backbone: "vit_b_16" has no maps'),
        ({"border": "pad100"}, r'border: "pad100" and its crops'),
        ({"weights": "IMAGENET1K_V3"}, r'weights: unknown "IMAGENET1K_V3"'),
    ],
)
def test_a_segmenters_mistakes_have_their_path(keys: dict, message: str) -> None:
    with pytest.raises(UserError, match=rf"^segmenter\.{message}"):
        check_segmenter(segment(**keys), 3)


def test_batch_norm_of_one_value_is_refused_before_the_first_step() -> None:
    rival = {"network": "deeplabv3_mobilenet_v3_large"}
    with pytest.raises(UserError, match=r"^train\.batch_size: 1 is too small for deeplabv3_mobilenet_v3_large"):
        check_segmenter(segment(train={"batch_size": 1}, **rival), 3)
    check_segmenter(segment(train={"batch_size": 2}, **rival), 3)
    check_segmenter(segment(train={"batch_size": 1}), 3)


def test_missing_weights_name_the_segmenter() -> None:
    gone = segment(weights="gone.pth")
    with pytest.raises(UserError, match=r'^segmenter: weights: "gone.pth": no such file$'):
        start_segmenter(gone.segmenter, gone, 3)


@pytest.mark.skipif(not (SHARED / "vgg16.safetensors").is_file(), reason="needs ../shared/weights")
def test_the_shared_vgg16_starts_a_segmenter() -> None:
    recipe = segment(backbone="vgg16", weights="imagenet")
    net, report = start_segmenter(recipe.segmenter, recipe, 3, SHARED)
    assert report is not None
    assert (report.loaded, report.notes) == (26, ())
    file = load_file(SHARED / "vgg16.safetensors")
    key = next(k for k in file if k.endswith("features.28.weight"))
    assert torch.equal(net.backbone.net.get_parameter("features.28.weight"), file[key].float())
