"""The report: its first screen, its warnings, what it does when something is missing, and the ways to ask for it."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Octavo, reseal
from octavo.data import store, torchvision_data
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.looks.classes import classes
from octavo.looks.confusion import confusion
from octavo.looks.embedding import embedding, network_seconds
from octavo.looks.look import Drawing, Look, Way
from octavo.looks.subject import ClassifySubject, SegmentSubject, Subject
from octavo.numbers.mask_results import SegmentReport
from octavo.numbers.results import Interval, Report
from octavo.page.beware import Beware, beware
from octavo.page.page import Page
from octavo.page.summary import page_of
from octavo.run import Run
from octavo.tasks.classification.evaluation import regrade
from octavo.tasks.classification.sections import SECTIONS as CLASSIFY
from octavo.tasks.known import subject_of, task_of
from octavo.verbs import report as verb
from octavo.verbs.explain import explain
from octavo.verbs.report import bind, report


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "small")))


@pytest.fixture
def scenes(segmented: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(segmented.path, tmp_path / "scenes")))


@pytest.fixture
def few_looks() -> Iterator[None]:
    """Two quick looks and a thorough one, so that tests of the binding don't wait for the others."""
    every = dict(CLASSIFY)
    CLASSIFY.clear()
    CLASSIFY.update({name: every[name] for name in ("confusion", "history")})
    CLASSIFY["deep"] = Way(lambda subject: None, thorough=True)
    yield
    CLASSIFY.clear()
    CLASSIFY.update(every)


def first_screen(page: str) -> str:
    """Return the text before the first section, as a reader sees it."""
    body = page[page.index("<header") : page.index("</header>")]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def grade_with(run: RunFolder, **changes: object) -> None:
    """Give a run other numbers."""
    run.metrics = run.metrics.model_copy(update=changes)


def found(run: RunFolder) -> Beware:
    subject = subject_of(run)
    return beware(subject, task_of(run.recipe).summary(subject).findings)


def manifest_with(run: RunFolder, **data: object) -> None:
    path = run.path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["data"] |= data
    path.write_text(json.dumps(manifest))
    reseal(run)


def test_first_screen_of_classifiers(run: RunFolder, few_looks: None) -> None:
    run.ensemble = replace(run.ensemble, weights=(0.6, 0.0, 0.4))
    regrade(run)
    path = report(run)
    assert path == run.path / "report.html" == run.page
    text, numbers = first_screen(path.read_text()), run.metrics
    assert isinstance(numbers, Report)
    accuracy = numbers.ensemble.metrics["accuracy"]
    assert accuracy.low is not None and accuracy.high is not None
    assert f"Accuracy of the ensemble on 40 validation images {100 * accuracy.value:.1f} %" in text
    assert f"95 % interval: {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f} %" in text
    assert f"Rule: {numbers.rules['accuracy']}" in text
    lead = "An ensemble of 3 networks, 2 of which have a weight, trained on 120 images of digits"
    assert lead in text.replace(_root(run), "digits")
    assert "120 training, 40 held out of it, 40 validation" in text and "10: 0, 1, 2, … 9" in text
    assert "vgg, squeeze, mobile" in text and "recipe small, seed 0" in text
    order = sorted(numbers.per_class, key=lambda c: -(c.accuracy.value if c.accuracy else 0))
    best, worst = text.index("Best classes by accuracy"), text.index("Worst classes by accuracy")
    assert f" {order[0].name} {100 * order[0].accuracy.value:.1f} %" in text[best:worst]  # type: ignore[union-attr]
    assert f" {order[-1].name} {100 * order[-1].accuracy.value:.1f} %" in text[worst:]  # type: ignore[union-attr]


def _root(run: RunFolder) -> str:
    return Path(run.manifest["data"]["root"]).name


def test_first_screen_of_a_segmenter(scenes: RunFolder) -> None:
    subject = subject_of(scenes)
    page = page_of(subject, task_of(scenes.recipe).summary(subject), ())
    numbers = scenes.metrics
    assert isinstance(numbers, SegmentReport)
    headline = page.headlines[0]
    assert headline.label == f"mIoU of {sum(c.scored for c in numbers.per_class)} classes on 4 validation images"
    assert headline.value == f"{numbers.miou:.3f}"
    assert re.fullmatch(r"95 % interval: 0\.\d{3} to [01]\.\d{3}", headline.interval)
    assert headline.rule == f"{numbers.rule_title}. {numbers.rules['miou']}"
    assert page.lead.startswith("FCN-8s on vgg11, trained on 9 images of")
    shown = {row.name for ranking in page.rankings for row in ranking.rows}
    assert shown <= {c.name for c in numbers.per_class if c.scored and c.iou}
    assert len(shown) == min(6, sum(c.scored and c.iou is not None for c in numbers.per_class))


def test_a_sound_run_has_no_warning_but_of_size(run: RunFolder) -> None:
    beheld = found(run)
    assert [w for w in beheld.warnings if "flattered" in w or "pixel by pixel" in w] == []
    for phrase in ("no broken files", "no scored image is among the training images", "nothing was chosen or trained"):
        assert any(phrase in text for text in beheld.checked), phrase


def test_repainted_masks_are_not_shown_as_those_trained_on(scenes: RunFolder, tmp_path: Path) -> None:
    root = Path(shutil.copytree(scenes.manifest["data"]["root"], tmp_path / "data"))
    manifest_with(scenes, root=str(root))
    assert 'src="data:image' in report(scenes, refresh=True).read_text()
    before = {path.name for path in scenes.plots.iterdir()}
    assert {"stages.png", "scenes.png"} <= before
    mask = next(iter(sorted((root / "validation").glob("*_mask.png"))))
    Image.fromarray(np.asarray(Image.open(mask))[::-1]).save(mask)
    text = report(scenes, refresh=True).read_text()
    for name in ("stages", "scenes"):
        assert f"Left out: {name}. data: its masks have changed since scenes was trained; restore them." in text
        assert f'id="look-{name}"' not in text
    assert 'id="look-worst"' in text and str(tmp_path) not in text


def test_flattered_numbers_are_told(run: RunFolder) -> None:
    grade_with(run, flattered=True, warnings=())
    beheld = found(run)
    assert beheld.warnings[0].startswith("Flattered:")
    assert not any("nothing was chosen" in text for text in beheld.checked)
    grade_with(run, warnings=("flattered: weights were chosen here",))
    assert found(run).warnings[0] == "Flattered: weights were chosen here."


def test_twins_between_parts_are_told(run: RunFolder) -> None:
    assert "no scored image is among the training images, as it is or nearly" in found(run).checked
    fit, val = (next(row["file"] for row in run.samples() if row["part"] == part) for part in ("fit", "val"))
    pair = {"first": val, "first_part": "val", "second": fit, "second_part": "fit", "kind": "exact", "similarity": 1.0}
    run.leaks = (run.leaks or {}) | {"pairs": [pair]}
    told = regrade(run).warnings[0]
    assert told.startswith(
        "1 scored image has a twin, or what looks like one, among the training images; on the 39 images"
    )
    assert found(run).warnings[0][1:] == told[1:] + "."
    (run.path / "leaks.json").unlink()
    reseal(run)
    regrade(run)
    assert "Nobody looked for images that training and scoring share (--no-leaks)." in found(run).warnings


def test_broken_files_are_told(run: RunFolder) -> None:
    manifest_with(run, broken=2)
    assert any(w.startswith("2 files could not be decoded and were left out") for w in found(run).warnings)


def test_thin_and_absent_classes_are_told(run: RunFolder) -> None:
    numbers = run.metrics
    assert isinstance(numbers, Report)
    classes = [c.model_copy(update={"support": 0 if i < 2 else 30, "accuracy": None if i < 2 else c.accuracy})
               for i, c in enumerate(numbers.per_class)]  # fmt: skip
    assert "10 of 10 classes (0, 1, 2, …) have fewer than 10 validation images." in found(run).warnings
    grade_with(run, per_class=tuple(classes))
    assert "2 of 10 classes (0, 1) have no validation image." in found(run).warnings
    grade_with(run, warnings=("2 of 10 classes have no image among those scored: 0, 1",))
    assert not any("no validation image" in w for w in found(run).warnings)


def test_few_images_are_told(run: RunFolder) -> None:
    assert any(w.startswith("Only 40 validation images") for w in found(run).warnings)
    grade_with(run, n=400)
    assert not any(w.startswith("Only") for w in found(run).warnings)


def test_the_majority_is_compared_with(run: RunFolder) -> None:
    grade_with(run, majority=0.0)
    assert any("surely better than always naming the commonest class" in text for text in found(run).checked)
    numbers = run.metrics
    assert isinstance(numbers, Report)
    low = Interval(value=0.1, low=0.05, high=0.2)
    numbers.ensemble.metrics["accuracy"] = low
    grade_with(run, majority=0.99, systems=numbers.systems)
    assert not any("surely better than always naming" in text for text in found(run).checked)


def test_nothing_is_surely_better_without_an_interval(scenes: RunFolder) -> None:
    numbers = scenes.metrics
    assert isinstance(numbers, SegmentReport)
    none = Interval(value=1.0, low=None, high=None)  # as of a single validation image
    grade_with(scenes, metrics=numbers.metrics | {"pixel_accuracy": none})
    beheld = found(scenes)
    assert any(w.startswith("Without an interval nobody can say whether it is better") for w in beheld.warnings)
    assert not any("surely better" in text for text in (*beheld.warnings, *beheld.checked))


def test_one_colour_masks_are_compared_with(scenes: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = scenes.metrics
    assert isinstance(numbers, SegmentReport)
    high = numbers.metrics | {"pixel_accuracy": Interval(value=1.0, low=1.0, high=1.0)}
    grade_with(scenes, metrics=high)
    counts = scenes.member("segmenter").outputs()["val"].astype(np.int64)
    hits = np.diagonal(counts, axis1=1, axis2=2).sum(1) - counts[:, counts.sum((0, 2)).argmax()].sum(1)
    assert 0 < (hits > 0).sum() <= 4  # better on some of four images, which may be chance
    assert any("Not surely better than always painting" in w for w in found(scenes).warnings)
    perfect = np.repeat(np.stack([np.diag(c[:, :-1].sum(1)) for c in counts])[:, None], 2, 1).reshape(
        8, *counts[0].shape
    )
    monkeypatch.setattr(SegmentSubject, "counts", perfect)
    assert any("surely better than always painting" in text for text in found(scenes).checked)
    grade_with(scenes, metrics=numbers.metrics | {"pixel_accuracy": Interval(value=0.99, low=0.0, high=1.0)})
    assert any("Not surely better than always painting" in w for w in found(scenes).warnings)


def test_sections_follow_the_looks_and_name_the_missing(run: RunFolder, few_looks: None) -> None:
    page = report(run).read_text()
    assert re.findall(r'<section class="look" id="look-(\w+)"', page) == ["confusion", "history"]
    assert page.count("data:image/") >= 2 and 'href="predictions/val.csv"' in page
    assert "octavo explain small adds: deep" in first_screen(page)
    assert str(run.path) not in page and str(Path(run.manifest["data"]["root"]).parent) not in page


def test_looks_of_another_ensemble_are_taken_anew(run: RunFolder, few_looks: None) -> None:
    CLASSIFY["confusion"] = Way(confusion, of=("ensemble",))
    CLASSIFY["classes"] = Way(classes, thorough=True, of=("ensemble",))
    explain(run)
    report(run)
    files = [run.explained(f"{name}.json") for name in ("confusion", "history", "classes")]
    before = [path.stat().st_mtime_ns for path in files]
    names = report(run).read_text()
    assert [path.stat().st_mtime_ns for path in files] == before
    assert re.findall(r'id="look-(\w+)"', names) == ["confusion", "history", "classes"]
    run.prune(replace(run.ensemble, weights=(1.0, 0.0, 0.0)))
    regrade(run)
    page = report(run).read_text()
    assert [path.stat().st_mtime_ns == then for path, then in zip(files, before, strict=True)] == [False, True, True]
    assert re.findall(r'id="look-(\w+)"', page) == ["confusion", "history"]  # a thorough one waits to be asked for
    assert "octavo explain small adds: deep, classes" in first_screen(page)
    for path in files:  # as a version that didn't keep the state left them
        path.write_text(json.dumps(json.loads(path.read_text()) | {"state": ""}))
    reseal(run)
    report(run)
    assert json.loads(files[0].read_text())["state"] and not json.loads(files[1].read_text())["state"]


def test_looks_are_taken_once_unless_refreshed(run: RunFolder, few_looks: None) -> None:
    report(run)
    before = run.explained("confusion.json").stat().st_mtime_ns
    report(run)
    assert run.explained("confusion.json").stat().st_mtime_ns == before
    report(run, refresh=True)
    assert run.explained("confusion.json").stat().st_mtime_ns > before
    run.write_explained("confusion.json", b'{"format": 99}')
    report(run)
    assert Look.from_json(run.explained("confusion.json").read_text()).name == "confusion"


def test_a_look_that_fails_is_left_out(run: RunFolder, few_looks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(subject: Subject) -> Drawing:
        raise UserError(f"{subject.run.path}: no luck")

    monkeypatch.setitem(CLASSIFY, "history", Way(fails))
    said: list[str] = []
    text = first_screen(report(run, say=said.append).read_text())
    assert "Left out: history. small: no luck." in text
    assert said == [f"note: the report goes without history: {run.path}: no luck"]


def test_training_is_not_undone_by_a_report_that_fails(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> Path:
        raise UserError("disk full")

    monkeypatch.setattr(verb, "report", fails)
    said: list[str] = []
    bind(run, "cpu", lambda *_: None, said.append)
    assert said == [f"note: no report: disk full; `octavo report {run.path}` tries again"]


def test_a_report_waits_for_no_network(
    run: RunFolder, run_cli: Octavo, monkeypatch: pytest.MonkeyPatch, few_looks: None
) -> None:
    taken: list[float] = []

    def draw(subject: Subject) -> Drawing:
        taken.append(1)
        return Drawing(Look(name="slow", title="Slowly drawn", sees="s", source="metrics.json"))

    seconds = 200.0
    monkeypatch.setitem(CLASSIFY, "slow", Way(draw, seconds=lambda subject: seconds))
    assert "octavo explain small adds: deep, slow (about 3 minutes of networks);" in first_screen(
        report(run).read_text()
    )
    assert not taken
    assert run_cli("explain", run.path, "--look", "slow")[0] == 0 and len(taken) == 1
    for refresh in (False, True):
        text = first_screen(report(run, refresh=refresh).read_text())
        assert "slow (" not in text and len(taken) == 1
    assert "Slowly drawn" in run.page.read_text()
    seconds = 2.0
    report(run, refresh=True)
    assert len(taken) == 2


def test_how_long_a_network_runs_for_the_plane_depends_on_what_is_at_hand(run: RunFolder, tmp_path: Path) -> None:
    own = subject_of(run, "cpu")
    assert isinstance(own, ClassifySubject) and network_seconds(own) == 0  # its frozen features are in the cache
    options = json.loads((run.path / "manifest.json").read_text())
    options["options"]["cache"] = str(tmp_path / "cleared")
    (run.path / "manifest.json").write_text(json.dumps(options))
    reseal(run)
    cleared = subject_of(run, "cpu")
    assert isinstance(cleared, ClassifySubject) and 0 < network_seconds(cleared) < 60
    assert embedding(cleared) and network_seconds(cleared) == 0  # what the layer says is kept now


def test_files_are_walked_and_decoded_once_for_all_looks(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for module, name in ((torchvision_data, "read"), (store, "build")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, name=name, **b: (calls.append(name), real(*a, **b))[1])
    report(run)
    assert sorted(calls) == ["build", "read"]


def test_an_unfinished_run_is_refused(run: RunFolder) -> None:
    (run.path / "metrics.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        report(run)


def test_the_command_prints_page_and_size(run: RunFolder, run_cli: Octavo, few_looks: None) -> None:
    code, out, _ = run_cli("report", run.path)
    assert code == 0
    assert re.fullmatch(rf"{re.escape(str(run.page))} \(0\.\d MiB\)\n", out)


def test_two_runs_are_compared(run: RunFolder, run_cli: Octavo, trained: RunFolder, tmp_path: Path) -> None:
    code, out, _ = run_cli("report", run.path, trained.path, "--out", tmp_path / "both.html")
    assert code == 0 and out.startswith(str(tmp_path / "both.html"))
    code, _, error = run_cli("report", run.path, trained.path, "--refresh")
    assert code == 2 and "--refresh" in error


def test_training_ends_with_a_report(run: RunFolder, run_cli: Octavo, few_looks: None) -> None:
    words = ("train", "--resume", "--out", run.path, "--device", "cpu")
    code, out, error = run_cli(*words, "--no-report")
    assert code == 0 and not run.page.exists() and "report:" not in out, error
    code, out, error = run_cli(*words)
    assert code == 0 and run.page.is_file(), error
    assert f"report: {run.page} (" in out


def test_reports_and_pictures_show_in_notebooks(run: RunFolder, few_looks: None) -> None:
    opened = Run(run.path, device="cpu")
    page = opened.report()
    shown = page._repr_html_()
    assert page.path == run.page and shown.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert html.unescape(shown.split('"')[1]) == run.page.read_text()
    assert opened.looks == ("confusion", "history", "deep")
    run.explained("history.json").unlink()
    picture = opened.figure("history")
    assert picture.path == run.plot("history.png")
    picture.path.unlink()
    assert opened.figure("history").path.is_file()  # drawn again
    data = picture._repr_png_()
    assert data is not None and data.startswith(b"\x89PNG") and picture._repr_svg_() is None
    with pytest.raises(UserError, match='unknown "confusoin"; did you mean "confusion"'):
        opened.figure("confusoin")
    with pytest.raises(UserError, match="no picture"):
        opened.figure("deep")


def test_a_page_can_be_written_with_names_that_are_no_text(run: RunFolder) -> None:
    from octavo.page.page import render

    path = run.write_page(render(replace(Page(title="a"), lead="\udcff")))
    assert "?" in path.read_text(encoding="utf-8")


SECRET = "the reader's own file"


@pytest.mark.parametrize("name", ["../../secret.png", "{tmp}/secret.png", "..", "deeper/x.png", "a\0b.png", ""])
@pytest.mark.parametrize("of", ["shown", "thumbs"])
@pytest.mark.usefixtures("few_looks")
def test_a_report_binds_files_of_its_own_run_alone(
    name: str, of: str, run: RunFolder, tmp_path: Path, run_cli: Octavo
) -> None:
    explain(run, ["confusion"])
    (tmp_path / "secret.png").write_text(SECRET)
    path, name = run.explained("confusion.json"), name.format(tmp=tmp_path)
    look = json.loads(path.read_text())
    if of == "shown":
        look["shown"][0]["file"] = name
    else:
        points = {key: [] for key in ("x", "y", "truth", "predicted", "confidence", "names", "classes")}
        look["points"] = points | {"title": "t", "thumbs": name, "side": 1, "across": 1}
    run.on_disk.write_object(path, {key: value for key, value in look.items() if key != "sha256"})
    for command in ("report", "explain"):
        code, _, err = run_cli(command, run.path, *(["--look", "confusion"] if command == "explain" else []))
        assert code == 2 and "is no file in this folder; expected a bare name" in err and "Traceback" not in err
    assert (tmp_path / "secret.png").read_text() == SECRET and not run.page.exists()


@pytest.mark.usefixtures("few_looks")
def test_a_report_embeds_pictures_alone(run: RunFolder) -> None:
    explain(run, ["confusion"])
    run.plot("confusion.png").write_text(SECRET)
    page = report(run).read_text()
    assert "data:image/jpeg" not in page and "c2VjcmV0" not in page


@pytest.mark.usefixtures("few_looks")
def test_a_report_goes_where_it_is_asked_for(run: RunFolder, tmp_path: Path, run_cli: Octavo) -> None:
    page, photo = tmp_path / "page.html", tmp_path / "photo.html"
    code, out, _ = run_cli("report", run.path, "--out", page)
    assert code == 0 and out.startswith(f"{page} (") and not run.page.exists()
    assert page.read_text() == report(run).read_text()
    assert run_cli("report", run.path, "--out", page)[0] == 0  # a page of Octavo's is replaced
    photo.write_bytes(b"mine")
    for place, why in {
        photo: "is there already",
        tmp_path / "x.csv": "ends in .html",
        run.page: "run's folder",
    }.items():
        code, _, err = run_cli("report", run.path, "--out", place)
        assert code == 2 and why in err and err.count("\n") == 1
    assert photo.read_bytes() == b"mine"
    assert run_cli("report", run.path, "--out", photo, "--overwrite")[0] == 0
