"""Trained members, as they come back from a run's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image
from scipy.special import softmax

import octavo
from octavo.engine.folder import RunFolder
from octavo.engine.restore import answers, batch_of, restore, restore_all
from octavo.errors import UserError
from octavo.networks.build import build_member
from octavo.recipe import ClassifyRecipe
from octavo.tasks.classification.predictor import ClassPredictor
from octavo.verbs.training import Options, train

NAMES = ("vgg", "squeeze", "mobile")


def inputs(run: RunFolder, part: str) -> torch.Tensor:
    """The images of a part as the small recipe's networks see them, made by Pillow and torchvision alone."""
    root, images = run.manifest["data"]["root"], []
    for file in run.files(part):
        pixels = torch.from_numpy(np.array(Image.open(f"{root}/{file}").convert("RGB"))).permute(2, 0, 1)
        images.append(TF.resize(pixels, [32, 32], antialias=True))
    return torch.stack(images) / 255


@pytest.mark.parametrize("name", NAMES)
def test_member_is_a_plain_module_whose_logits_are_the_stored_ones(trained: RunFolder, name: str) -> None:
    net = octavo.load(trained.path, "cpu").members[name]
    assert isinstance(net, torch.nn.Module) and not any(m.training for m in net.modules())
    assert not type(net).__module__.startswith("pytorch_lightning")
    for part in ("holdout", "val"):
        with torch.no_grad():
            logits = net(inputs(trained, part))
        # Resizing bytes may round the other way here and there.
        np.testing.assert_allclose(logits.numpy(), trained.member(name).outputs()[part], atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_decoded_images_are_the_stored_ones(trained: RunFolder, name: str) -> None:
    root = trained.manifest["data"]["root"]
    images = [np.asarray(Image.open(f"{root}/{file}").convert("RGB")) for file in trained.files("val")]
    member = restore(trained, name, torch.device("cpu"))
    np.testing.assert_allclose(
        member.logits(batch_of(images)), trained.member(name).outputs()["val"], atol=1e-4, rtol=1e-4
    )


def test_answers_of_several_members_are_those_of_each(trained: RunFolder) -> None:
    root, cpu = trained.manifest["data"]["root"], torch.device("cpu")
    images = [np.asarray(Image.open(f"{root}/{file}").convert("RGB")) for file in trained.files("val")]
    batches = [batch_of(images[at : at + 16]) for at in range(0, len(images), 16)]
    told: list[tuple[object, ...]] = []
    members = restore_all(trained, NAMES, cpu)
    found = answers(members, batches, progress=lambda *words: told.append(words))
    assert found.shape == (3, len(images), 10) and told[-1] == ("predict", len(batches), len(batches))
    for name, own in zip(NAMES, found, strict=True):
        np.testing.assert_allclose(own, trained.member(name).outputs()["val"], atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def swin(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of a timm network with buffers that its weights file doesn't hold."""
    pytest.importorskip("timm")
    member = {"name": "swin", "backbone": "timm:swin_tiny_patch4_window7_224", "weights": "none", "mode": "frozen"}
    data = {"size": 32, "stored": 16, "normalize": "none"}
    made = ClassifyRecipe.model_validate({"name": "t", "data": data, "train": {"epochs": 1}, "members": [member]})
    folder = tmp_path_factory.mktemp("swin")
    return train(made, digits_folder, (), Options(out=folder / "run", cache=folder / "cache", device="cpu"))


def test_buffers_that_no_file_holds_are_whole(swin: RunFolder, digits_folder: Path) -> None:
    recipe = swin.recipe
    net, made = restore(swin, "swin", torch.device("cpu")).net, build_member(recipe.members[0], recipe, 10)
    odd = dict(made.named_buffers()).keys() - made.state_dict().keys()
    assert odd
    for name in odd:
        torch.testing.assert_close(net.get_buffer(name), made.get_buffer(name))
    found = ClassPredictor(swin, "cpu").predict([digits_folder / "val_10"])
    assert set(found.files) == {Path(file).name for file in swin.files("val")}
    logits = dict(zip((Path(f).name for f in swin.files("val")), swin.member("swin").outputs()["val"], strict=True))
    scale = swin.ensemble.calibration.scale[0]
    expected = softmax(np.stack([logits[file] for file in found.files]) * scale, axis=1)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)


def test_images_of_many_sizes_share_a_batch() -> None:
    draw = np.random.default_rng(0)
    images = [draw.integers(1, 255, (h, w, 3), np.uint8) for h, w in ((4, 9), (7, 3))]
    batch = batch_of(images)
    assert batch.inputs.shape == (2, 3, 7, 9) and batch.sizes.tolist() == [[4, 9], [7, 3]]
    for canvas, image in zip(batch.inputs.numpy(), images, strict=True):
        np.testing.assert_array_equal(canvas[:, : image.shape[0], : image.shape[1]], image.transpose(2, 0, 1))
        assert canvas.astype(int).sum() == image.astype(int).sum()  # zeros around it


def test_unknown_and_unfinished_members_are_refused(
    trained: RunFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(UserError, match='unknown "mobil"; did you mean "mobile"'):
        restore(trained, "mobil", torch.device("cpu"))
    with pytest.raises(KeyError):
        octavo.load(trained.path).members["nobody"]
    unfinished = RunFolder.new(tmp_path_factory.mktemp("unfinished") / "run")
    unfinished.begin(trained.recipe, trained.manifest, trained.samples())
    with pytest.raises(UserError, match='member "vgg" is not trained yet; go on with `octavo train --resume --out'):
        restore(unfinished, "vgg", torch.device("cpu"))
    with pytest.raises(UserError, match="this run is not finished; go on with"):
        _ = unfinished.ensemble
