"""Networks from a recipe: the reference's widths and parameter counts, and weights that depend on names alone."""

from __future__ import annotations

import time

import pytest
import torch

from octavo import recipe
from octavo.errors import UserError
from octavo.networks import backbone
from octavo.networks.backbone import parameters
from octavo.networks.build import build_member, check_recipe, init_key, start_member
from octavo.recipe import ClassifyRecipe

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
