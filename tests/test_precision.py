"""bfloat16 for runs trained in float32; members that share what they have in common."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Octavo
from octavo.engine.cascaded import in_stages
from octavo.engine.folder import RunFolder
from octavo.engine.graphs import Replayed
from octavo.engine.restore import batch_of, restore, restore_all, sharing, together
from octavo.engine.timing import Timing
from octavo.errors import UserError
from octavo.looks.cost import costs_of
from octavo.looks.subject import ClassifySubject
from octavo.networks.fold import FoldedLinear
from octavo.numbers.calibration import NONE
from octavo.numbers.cascade import NEVER, Cascade, confidences, prefixes_of
from octavo.numbers.speed_results import PrecisionReport
from octavo.options import Options
from octavo.tasks.classification.precision import apply, precision
from octavo.verbs.training import train

CPU = torch.device("cpu")
IMAGES = [np.random.default_rng(i).integers(0, 256, (40, 40, 3)).astype(np.uint8) for i in range(6)]

SHARED = """\
name = "shared"
data = {{size = 40, normalize = "none", holdout = 0.25}}
augment = {{hflip = 0}}
train = {{mode = "frozen", epochs = 2, batch_size = 16}}
[[members]]
name = "a"
backbone = "vgg11"
weights = "{weights}"
head.hidden = [{{width = 8}}]
[[members]]
name = "b"
backbone = "vgg11"
weights = "{weights}"
[[members]]
name = "c"
backbone = "vgg11"
weights = "none"
pool = "avg"
"""


@pytest.fixture
def copied(trained: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(trained.path, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


@pytest.fixture
def shared(tmp_path: Path, digits_folder: Path, cache: Path) -> RunFolder:
    """Two members with the extractor of one weights file, one with another."""
    import torchvision
    from safetensors.torch import save_file

    net = torchvision.models.vgg11(weights=None)
    save_file({name: value for name, value in net.state_dict().items() if name[0] == "f"}, tmp_path / "vgg.safetensors")
    (tmp_path / "shared.toml").write_text(SHARED.format(weights=tmp_path / "vgg.safetensors"))
    return train(tmp_path / "shared.toml", digits_folder, (), Options(out=tmp_path / "run", device="cpu"))


def test_a_shared_extractor_runs_once_and_says_the_same(shared: RunFolder) -> None:
    members = restore_all(shared, ["a", "b", "c"], CPU)
    bodies = [member.halves[0][0] for member in members]
    assert bodies[0] is bodies[1] and bodies[2] is not bodies[0]
    folded = members[0].halves[0][1]
    assert isinstance(folded, Replayed) and isinstance(folded.net[0], FoldedLinear)
    runs: list[object] = []
    for body in {bodies[0], bodies[2]}:
        assert isinstance(body, Replayed)
        body.net.register_forward_hook(lambda *args: runs.append(args[0]))
    batch = batch_of(IMAGES)
    found = together(members, batch)
    assert len(runs) == 2
    with torch.inference_mode():
        full = [member.net(member.inputs.plain(batch)).numpy() for member in members]
    np.testing.assert_allclose(found, np.stack(full), atol=1e-5)


def test_a_shared_extractor_is_counted_once_and_runs_once_in_a_cascade(shared: RunFolder) -> None:
    names = ["a", "b", "c"]
    assert sharing(shared, names, CPU) == [["a", "b"], ["c"]]
    shared.bf16 = {"device": "cpu", "members": ["a"]}
    assert sharing(shared, names, CPU) == [["a"], ["b"], ["c"]]
    assert sharing(shared, names, torch.device("cuda")) == [["a", "b"], ["c"]]
    mixed = restore_all(shared, names, CPU)
    assert [member.bf16 for member in mixed] == [True, False, False]
    assert np.isfinite(together(mixed, batch_of(IMAGES))).all()
    shared.bf16 = None
    subject = ClassifySubject(shared, "cpu")
    costs = costs_of(subject, names)
    order, added = costs.in_order(names)
    assert abs(order.index("a") - order.index("b")) == 1  # the second of them adds its head alone
    second = max(order.index("a"), order.index("b"))
    own = {timing.name: timing.milliseconds for timing in costs.own}
    assert costs.in_order(["a", "c"])[1] == sorted([own["a"], own["c"]])
    assert added[second] < 0.5 * own[order[second]] and sorted(order) == names

    nets = dict(zip(names, restore_all(shared, names, CPU), strict=True))
    runs: list[int] = []
    nets["a"].halves[0][0].net.register_forward_hook(  # type: ignore[attr-defined]
        lambda module, x, out: runs.append(len(out))
    )
    whole = replace(shared.ensemble, combine="weighted", weights=(0.4, 0.3, 0.3), calibration=NONE, own=())
    prefixes, batch = prefixes_of(whole, ["a", "c", "b"]), batch_of(IMAGES)
    in_order = [nets[name] for name in ("a", "c", "b")]
    found = in_stages(Cascade(prefixes, (NEVER, NEVER)), in_order, batch)
    assert (found[:, -1] == 2).all()
    found = found[:, :-1]
    np.testing.assert_allclose(found, whole.logits(together([nets[name] for name in names], batch)), atol=1e-5)
    assert runs == [6, 6]  # once in the cascade, once in `together`
    first = confidences(prefixes[0].logits(nets["a"].logits(batch)[None])[None])[0]
    some = in_stages(Cascade(prefixes, (float(np.median(first)), NEVER)), in_order, batch)
    stopped = first >= np.median(first)
    assert 0 < stopped.sum() < 6
    assert some[:, -1].tolist() == [0 if at_once else 2 for at_once in stopped]
    some = some[:, :-1]
    np.testing.assert_allclose(some[~stopped], found[~stopped], atol=1e-5)


def test_bfloat16_is_applied_where_few_answers_change(
    copied: RunFolder, run_cli: Octavo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrecisionReport, "speedup", property(lambda self: 2.0))
    assert not restore(copied, copied.ensemble.names[0], CPU).bf16
    code, out, _ = run_cli("ensemble", "precision", str(copied.path), "--changed", "100")
    assert code == 0 and "nothing is changed" in out and not copied.bf16
    moved = copied.path.with_name("moved")
    shutil.copytree(copied.manifest["data"]["root"], moved)
    words = ("--changed", "100", "--apply", "--data", moved)
    code, out, _ = run_cli("ensemble", "precision", str(copied.path), *words)
    assert code == 0 and "in bfloat16 on a cpu from now on" in out
    kept = json.loads((copied.path / "precision.json").read_text())
    assert kept["scored"] == 40 and 0 <= kept["changed"] <= 1 and kept["device"] == "cpu"
    assert copied.in_bf16(kept["members"][0], "cpu") and not copied.in_bf16(kept["members"][0], "cuda")
    assert not copied.in_bf16("another", "cpu")
    member = restore(copied, copied.ensemble.names[0], CPU)
    assert member.bf16 and member.inputs.channels_last
    exact = restore(copied, member.name, CPU, bf16=False).logits(batch_of(IMAGES))
    rounded = member.logits(batch_of(IMAGES))
    assert 0 < np.abs(exact - rounded).max() < 0.1 * np.abs(exact).max()
    assert run_cli("ensemble", "precision", str(copied.path), "--undo")[0] == 0
    assert not restore(copied, copied.ensemble.names[0], CPU).bf16
    assert "already" in run_cli("ensemble", "precision", str(copied.path), "--undo")[2]


def test_bfloat16_that_is_slower_is_not_applied(
    copied: RunFolder, run_cli: Octavo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrecisionReport, "speedup", property(lambda self: 0.5))
    code, out, _ = run_cli("ensemble", "precision", str(copied.path), "--changed", "100")
    assert code == 0 and "--apply would be refused: bfloat16 isn't faster" in out
    code, _, err = run_cli("ensemble", "precision", str(copied.path), "--changed", "100", "--apply")
    assert code == 2 and "bfloat16 isn't faster on this cpu (× 0.50); nothing is changed" in err and not copied.bf16


def test_the_changed_answers_are_counted(copied: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against members whose bfloat16 answers are set: each second image gets another class."""
    names = copied.ensemble.names
    stored = {name: copied.member(name).outputs()["val"] for name in names}

    def half(subject: object, name: str, device: str) -> tuple[np.ndarray, list[Timing]]:
        other = stored[name].copy()
        other[::2] = 30 * np.eye(10)[(copied.ensemble.logits(np.stack(list(stored.values())))[::2].argmax(1) + 1) % 10]
        return other, [Timing(name, ms, ms, ms, 3, 16, bf16, 1.0) for ms, bf16 in ((2.0, False), (0.5, True))]

    monkeypatch.setattr("octavo.tasks.classification.precision._half", half)
    report = precision(copied, 60)
    assert report.changed == 0.5 and report.speedup == 4 and "other work took 100%" in report.beware
    labels = copied.labels("val")
    whole = copied.ensemble.logits(np.stack(list(stored.values()))).argmax(1)
    assert report.float32.value == (whole == labels).mean()
    with pytest.raises(UserError, match=r"50.00% of the answers change in bfloat16, 10.00% may; allow more"):
        apply(copied, precision(copied, 10))
    assert not copied.bf16


def test_what_cannot_be_is_refused(copied: RunFolder, segmented: RunFolder, run_cli: Octavo) -> None:
    assert run_cli("ensemble", "precision", str(copied.path), "--changed", "-1")[0] == 2
    code, _, err = run_cli("ensemble", "precision", str(segmented.path))
    assert code == 2 and "a segmenter" in err
