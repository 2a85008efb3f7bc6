"""Weights packed for a machine without a network, and what lies in such a folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import Octavo
from octavo import cli_weights
from octavo.errors import Damaged, UserError
from octavo.networks.backbone import Backbone
from octavo.networks.checksums import SUMS
from octavo.networks.pack import pack, table, verify
from octavo.networks.weights import load_pretrained
from octavo.overwrite import RUN_MARKS
from octavo.recipe import ClassifyRecipe, dumps


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch hub cache, no folder of weights, and no network."""

    def unplugged(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("OCTAVO_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "urlopen", unplugged)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("origin")
    for name in ("squeezenet1_1", "shufflenet_v2_x0_5"):
        net = torchvision.models.get_model(name, weights=None).half()
        save_file(dict(net.state_dict()), folder / f"{name}.safetensors")
    return folder


def recipe(*members: tuple[str, str]) -> ClassifyRecipe:
    rows = [{"name": f"m{i}", "backbone": name, "weights": own} for i, (name, own) in enumerate(members)]
    return ClassifyRecipe.model_validate({"name": "t", "data": {"size": 64}, "members": rows})


THREE = recipe(("squeezenet1_1", "imagenet"), ("squeezenet1_1", "IMAGENET1K_V1"), ("shufflenet_v2_x0_5", "imagenet"))


def test_table_says_where_each_is(origin: Path, hub: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pth"
    own.write_bytes(b"12345")
    cached = hub / "mobilenet_v2-b0353104.pth"
    cached.write_bytes(b"123")
    rows = table(
        recipe(("squeezenet1_1", "imagenet"), ("mobilenet_v2", "imagenet"), ("vgg16", "imagenet"), ("vgg16", "none"),
               ("vgg16", str(own)), ("vgg16", "gone.pth")), origin,
    )  # fmt: skip
    vgg16 = "https://download.pytorch.org/models/vgg16-397923af.pth"
    local = origin / "squeezenet1_1.safetensors"
    assert [(r.member, r.tag, r.state, r.path, r.size_bytes) for r in rows] == [
        ("m0", "IMAGENET1K_V1", "found", local, local.stat().st_size),
        ("m1", "IMAGENET1K_V1", "found", cached, 3),
        ("m2", "IMAGENET1K_V1", "missing", None, round(527.796 * 2**20)),
        ("m3", "none", "not needed", None, 0),
        ("m4", "file", "found", own, 5),
        ("m5", "file", "missing", Path("gone.pth"), 0),
    ]
    assert rows[2].url == vgg16


def test_packed_folder_is_all_that_loading_needs(origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    paths = pack(THREE, out, origin)
    names = ["squeezenet1_1-IMAGENET1K_V1.safetensors", "shufflenet_v2_x0_5-IMAGENET1K_V1.safetensors"]
    assert [p.name for p in paths] == names
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, "SHA256SUMS"])
    for name in ("squeezenet1_1", "shufflenet_v2_x0_5"):
        backbone = Backbone(name, 64)
        report = load_pretrained(backbone, "imagenet", out)
        assert report is not None
        assert report.path.parent == out
        published = load_file(origin / f"{name}.safetensors")
        filled = backbone.net.state_dict()
        assert all(torch.equal(filled[k], published[k].to(filled[k].dtype)) for k in filled)


@pytest.mark.parametrize("name", ["a.png", "bee/b.jpg", "train/bee/c.png"])
def test_weights_are_not_packed_among_images(name: str, origin: Path, tmp_path: Path) -> None:
    image = tmp_path / "photos" / name
    image.parent.mkdir(parents=True)
    image.write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    with pytest.raises(UserError, match=r"photos: holds images .*expected a folder of weights alone"):
        pack(THREE, tmp_path / "photos", origin, overwrite=True)
    assert [path for path in (tmp_path / "photos").rglob("*") if path.is_file()] == [image]


@pytest.mark.parametrize("name", ["", "bundle"])
def test_weights_are_not_packed_into_a_run(name: str, origin: Path, tmp_path: Path) -> None:
    for mark in RUN_MARKS:
        (tmp_path / mark).write_text("")
    with pytest.raises(UserError, match=r"lies in the run .*expected a folder of weights alone"):
        pack(THREE, tmp_path / name, origin)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_packed_file_leaves_the_classifier_and_names_its_origin(origin: Path, tmp_path: Path) -> None:
    path = pack(recipe(("shufflenet_v2_x0_5", "imagenet")), tmp_path / "packed", origin)[0]
    source = origin / "shufflenet_v2_x0_5.safetensors"
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(load_file(source)) - {"fc.weight", "fc.bias"}
        assert file.get_tensor("conv1.0.weight").dtype == torch.float16
        metadata = file.metadata()
    assert metadata["origin"] == source.name
    assert metadata["origin_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert metadata["tag"] == "IMAGENET1K_V1"


def test_sums_are_those_of_the_common_tool(origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    pack(recipe(("squeezenet1_1", "imagenet")), out, origin)
    pack(recipe(("shufflenet_v2_x0_5", "imagenet")), out, origin)  # a second recipe adds to the list
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, text=True, check=True)
    assert done.stdout.count(": OK") == 2


def test_verify_finds_what_was_changed(origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    first, second = pack(THREE, out, origin)
    (out / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"not what its name says")
    (out / "stray.safetensors").write_bytes(b"?")
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    states = {checked.path.name: checked.state for checked in verify(out)}
    assert states == {
        first.name: "corrupt",
        second.name: "ok",
        "squeezenet1_1-b8a52dc0.pth": "corrupt",
        "stray.safetensors": "no hash",
    }
    second.unlink()
    assert {c.path.name: c.state for c in verify(out)}[second.name] == "missing"


def test_verify_a_recipe(origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    pack(THREE, out, origin)
    assert [checked.state for checked in verify(THREE, out)] == ["ok", "ok"]
    assert [checked.state for checked in verify(THREE, origin)] == ["no hash", "no hash"]
    assert verify(recipe(("vgg16", "none"))) == []


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: no such folder of weights$"):
        verify(tmp_path / "gone")
    with pytest.raises(UserError, match=r"^weights: IMAGENET1K_V1 of vgg16 are not on this machine, and the download"):
        pack(recipe(("vgg16", "imagenet")), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "SHA256SUMS").write_text("what\n")
    with pytest.raises(UserError, match=r"SHA256SUMS: line 1: expected a SHA-256 of 64 digits and a file name; copy"):
        verify(tmp_path)


def test_wrong_or_damaged_origin_is_not_packed(origin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "squeezenet1_1.safetensors").write_bytes((origin / "shufflenet_v2_x0_5.safetensors").read_bytes())
    with pytest.raises(UserError, match=r'not weights of "squeezenet1_1": "features\.0\.bias" is missing$'):
        pack(recipe(("squeezenet1_1", "imagenet")), tmp_path / "out", folder)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"x")
    with pytest.raises(UserError, match=r"b8a52dc0\.pth: damaged"):
        pack(recipe(("squeezenet1_1", "imagenet")), tmp_path / "out", folder)


def mine(folder: Path, made: ClassifyRecipe) -> str:
    """The path of a recipe's file."""
    (folder / "mine.toml").write_text(dumps(made), encoding="utf-8")
    return str(folder / "mine.toml")


def test_list_tells_a_file_without_classifier_from_a_whole_one(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    both = recipe(("squeezenet1_1", "imagenet"), ("shufflenet_v2_x0_5", "imagenet"), ("squeezenet1_1", "none"))
    cli_weights.weights_list(mine(tmp_path, both), origin)
    out = capsys.readouterr().out
    assert out.count("found ") == 2 and "not needed" in out and "extractor only" not in out
    pack(both, tmp_path / "packed", origin)
    capsys.readouterr()
    cli_weights.weights_list(mine(tmp_path, both), tmp_path / "packed")
    out = capsys.readouterr().out
    assert out.count("found, extractor only") == 2 and out.count("\nextractor only: ") == 1


def test_list_fits_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cli_weights.weights_list("octet", None)
    cli_weights.weights_list(mine(tmp_path, recipe(("vgg16", "no/such.pth"))), None)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80 and "…" not in out
    assert out.count("https://download.pytorch.org/models/vgg19_bn-c79401a0.pth") == 1  # three members, one file
    assert "no such file:\n  no/such.pth\n" in out


def test_list_of_a_damaged_file_without_a_hash(
    origin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "squeezenet1_1.safetensors").write_bytes(b"no")
    cli_weights.weights_list(mine(tmp_path, recipe(("squeezenet1_1", "imagenet"))), tmp_path)
    assert "found " in capsys.readouterr().out  # what is wrong with it, loading says


TWO = (("squeezenet1_1", "imagenet"), ("shufflenet_v2_x0_5", "imagenet"))


def bundle(origin: Path, folder: Path) -> tuple[Path, Path, Path]:
    """Pack two networks' weights; return the files and the list of their hashes."""
    first, second = pack(recipe(*TWO), folder, origin)
    return first, second, folder / SUMS


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def swap(first: Path, second: Path) -> None:
    first.rename(first.with_suffix(".x"))
    second.rename(first)
    first.with_suffix(".x").rename(second)


DAMAGES: dict[str, tuple[Callable[[Path, Path, Path], object], str]] = {
    "flipped": (lambda first, second, sums: flip(first), "first"),
    "header flipped": (lambda first, second, sums: flip(first, 3), "first"),
    "cut": (lambda first, second, sums: os.truncate(first, 9999), "first"),
    "empty": (lambda first, second, sums: os.truncate(second, 0), "second"),
    "missing": (lambda first, second, sums: second.unlink(), "second"),
    "swapped": (lambda first, second, sums: swap(first, second), "first"),
    "list of another": (lambda first, second, sums: sums.write_text(f"{'0' * 64}  {first.name}\n"), "first"),
    "list not UTF-8": (lambda first, second, sums: sums.write_bytes(b"\xff" * 99), "list"),
    "list of JSON": (lambda first, second, sums: sums.write_text("[" * 9999), "list"),
    "list cut": (lambda first, second, sums: os.truncate(sums, 30), "list"),
    "list above": (lambda first, second, sums: sums.write_text(f"{'0' * 64}  ../x.pth\n"), "list"),
    "list elsewhere": (lambda first, second, sums: sums.write_text(f"{'0' * 64}  /etc/passwd\n"), "list"),
    "list twice": (lambda first, second, sums: sums.write_text(f"{'0' * 64}  a\n{'1' * 64}  a\n"), "list"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused_by_whatever_reads_it(
    damage: str, origin: Path, tmp_path: Path, run_cli: Octavo, digits_folder: Path
) -> None:
    first, second, sums = bundle(origin, tmp_path / "packed")
    act, which = DAMAGES[damage]
    act(first, second, sums)
    places = {"first": [first], "second": [second], "list": [sums]}[which]
    made = mine(tmp_path, recipe(*TWO))
    given = ("--weights-dir", first.parent)
    for argv in (
        ("describe", made, *given),
        ("weights", "list", made, *given),
        ("train", made, "--data", digits_folder, "--out", tmp_path / "run", *given),
        ("weights", "pack", made, tmp_path / "again", *given),
    ):
        code, _, err = run_cli(*argv)
        told = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 2 and any(str(place) in told[0] for place in places), (argv, err)
        assert "; " in told[0].split(": ", 2)[2] and "Traceback" not in err  # what it should be, and what to do
        assert not (tmp_path / "run").exists() and not list((tmp_path / "again").glob("*"))


def test_a_bundle_is_the_same_bytes_each_time(origin: Path, tmp_path: Path) -> None:
    made = recipe(*TWO)
    first = {path.name: path.read_bytes() for path in bundle(origin, tmp_path / "0")}
    for number in range(1, 5):
        pack(made, tmp_path / str(number), origin)
        assert {path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()} == first
    pack(made, tmp_path / "packed again", tmp_path / "0")
    assert {path.name: path.read_bytes() for path in (tmp_path / "packed again").iterdir()} == first


def test_a_list_of_the_common_tools_is_read(origin: Path, tmp_path: Path) -> None:
    first, second, sums = bundle(origin, tmp_path / "packed")
    lines = sums.read_text().splitlines()
    sums.write_bytes(("\ufeff" + "\r\n".join(line.upper()[:64] + " *" + line[66:] for line in lines)).encode())
    assert [row.state for row in verify(first.parent)] == ["ok", "ok"]
    flip(second)
    with pytest.raises(Damaged, match="by SHA256SUMS"):
        load_pretrained(Backbone("shufflenet_v2_x0_5", 64), "imagenet", first.parent)


def test_unusable_weights_of_the_last_member_are_found_before_the_first_is_trained(
    origin: Path, tmp_path: Path, run_cli: Octavo, digits_folder: Path
) -> None:
    own = tmp_path / "own-20231105.safetensors"
    own.write_bytes((origin / "shufflenet_v2_x0_5.safetensors").read_bytes())
    two = mine(tmp_path, recipe(("squeezenet1_1", "imagenet"), ("mobilenet_v2", str(own))))
    code, _, err = run_cli("train", two, "--data", digits_folder, "--out", tmp_path / "run", "--weights-dir", origin)
    assert code == 2 and not (tmp_path / "run").exists()
    assert f'error: m1: {own}: not weights of "mobilenet_v2": ' in err


def test_verify_says_what_no_hash_means(origin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli_weights.weights_verify(origin)
    out = capsys.readouterr().out
    assert out.count("no hash  ") == 2 and "2 files: 2 no hash\nno hash: nothing says" in out
    assert "sha256sum FILE >> SHA256SUMS" in out
    folder = pack(THREE, tmp_path / "packed", origin)[0].parent
    capsys.readouterr()
    cli_weights.weights_verify(folder)
    assert capsys.readouterr().out.endswith("\n2 files: 2 ok\n")
