"""Files of a run: each is parsed once for as long as it stays the same on disk."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octavo.engine.folder import RunFolder
from octavo.errors import Damaged
from octavo.verbs.report import report

_watched: list[tuple[Path, Counter[str]]] = []
_hooked: list[bool] = []


def _count(event: str, args: tuple[object, ...]) -> None:
    if event == "open" and _watched and isinstance(args[0], str | os.PathLike) and args[1] in ("r", "rb"):
        root, counts = _watched[-1]
        path = Path(args[0]).resolve()
        if path.is_relative_to(root) and path.is_file():
            counts[path.relative_to(root).as_posix()] += 1


@contextmanager
def reads(root: Path) -> Iterator[Counter[str]]:
    """Count how often each file below a folder is opened for reading (an audit hook stays for good, so it is one)."""
    if not _hooked:
        sys.addaudithook(_count)
        _hooked.append(True)
    _watched.append((root.resolve(), counts := Counter()))
    try:
        yield counts
    finally:
        _watched.pop()


@pytest.mark.parametrize("task", ["trained", "segmented"])
def test_a_report_opens_each_file_of_the_run_once(task: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    done: RunFolder = request.getfixturevalue(task)
    run = RunFolder.open(shutil.copytree(done.path, tmp_path / "run"))
    report(run)
    again = RunFolder.open(run.path)
    with reads(run.path) as counts:
        report(again)
    assert counts["metrics.json"] == 1 and counts["explained/confusion.json"] == 1
    assert {name: count for name, count in counts.items() if count > 1} == {}


def test_what_changed_on_disk_is_read_anew(trained: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))
    other = RunFolder(run.path)
    assert run.cascade is None and run.metrics == other.metrics
    name = run.ensemble.names[0]
    before = run.member(name).outputs()["val"]
    assert run.member(name).outputs()["val"] is before
    with pytest.raises(ValueError, match="read-only"):
        before[0, 0] = 0
    path = run.member(name).outputs_file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Damaged, match="damaged or changed"):
        run.member(name).outputs()


def test_a_damaged_manifest_is_no_seal_of_what_was_parsed_before(trained: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))
    run.metrics  # noqa: B018 (parses it)
    (run.path / "manifest.json").write_text("{}")
    with pytest.raises(Damaged, match=r"manifest\.json"):
        run.metrics  # noqa: B018 (raises)
