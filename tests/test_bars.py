"""Progress: lines in a log, one bar on a terminal."""

from __future__ import annotations

import io
import pickle
import sys

import pytest
from rich.console import Console

from octavo import bars
from octavo.bars import Bars, fitted


class Clock:
    """A clock that stands until it is moved."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(bars.time, "monotonic", found.monotonic)
    return found


def test_log_gets_a_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Bars()
    for step in range(1, 101):
        clock.now += 1
        shown("vgg16: train", step, 100, "loss 1.0")
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "vgg16: train: 16/100, 1:24 left, loss 1.0"  # a second a step since the first was told
    assert lines[-1] == "vgg16: train: 100/100, loss 1.0"
    assert 6 <= len(lines) <= 8 and all(line for line in lines)


def test_short_work_says_nothing_in_a_log(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Bars()
    for step in range(1, 11):
        clock.now += 0.5
        shown("decode", step, 10)
    shown.close()
    assert capsys.readouterr() == ("", "")


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    for name, value in (("COLUMNS", str(columns)), ("LINES", "24"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    return stream


def test_terminal_keeps_a_line_of_what_is_done(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    shown = Bars()
    for member in range(40):  # more than the terminal has lines
        for step in range(1, 11):
            clock.now += 0.5
            shown(f"member [{member}]: train", step, 10, "epoch 1/1 loss 2.000 accuracy 0.100")
    shown.close()
    text = stream.getvalue()
    for member in range(40):
        assert f"member [{member}]: train: 10 in 4 s, epoch 1/1 loss 2.000 accuracy 0.100\n" in text.replace("\r", "")


def test_terminal_shows_the_bar_of_work_that_runs(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    shown = Bars()
    shown("train", 1, 100, "loss 9")
    assert stream.getvalue() == ""  # it may be over at once
    clock.now += 2
    shown("train", 7, 100, "loss 8")
    shown._bars.refresh()
    shown.close()
    assert "train" in stream.getvalue() and "7/100" in stream.getvalue() and "loss 8" in stream.getvalue()


def test_work_that_is_repeated_is_timed_anew(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Bars()
    for _ in range(2):
        for step in range(1, 5):
            clock.now += 6
            shown("val", step, 4)
        clock.now += 1000
    assert capsys.readouterr().err.splitlines() == ["val: 3/4, 6 s left", "val: 4/4", "val: 1/4", "val: 4/4"]


NOTE = "epoch 13/120 loss 2.345 accuracy 0.123 1,234 images/s"


def line_of(shown: Bars, columns: int) -> str:
    """The line of the running work, as a terminal of that width shows it."""
    page = Console(width=columns, file=io.StringIO())
    page.print(shown._bars.get_renderable())
    assert isinstance(page.file, io.StringIO)
    text = page.file.getvalue()
    assert text.count("\n") == 1
    return text.rstrip()


@pytest.mark.parametrize(
    ("columns", "name", "figures"),
    [
        (120, "squeezenet1_1: train", NOTE),
        (100, "squeezenet1_1: train", "epoch 13/120 loss 2.345 accuracy 0.123"),
        (80, "squeezenet1_1: train", "epoch 13/120 loss 2.345"),
        (80, "resnext101_32x8d: train", "loss 2.345"),
        (80, "a_member_whose_name_is_far_too_long: train", "loss 2.345"),
    ],
)
def test_a_narrow_terminal_keeps_loss_and_time_left(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, columns: int, name: str, figures: str
) -> None:
    terminal(monkeypatch, columns)
    total = 12_000 if name.startswith("squeeze") else 123_456
    shown = Bars()
    for done in (0, 100):
        shown(name, done, total, NOTE)
        clock.now += 100
    shown(name, 200, total, NOTE)
    line = line_of(shown, columns)
    shown.close()
    assert len(line) <= columns and line.endswith(figures)
    assert bars._clock(total - 200) in line and f"200/{total:,}" in line
    assert line.split()[0] == name.split()[0] or "…: train" in line


def test_the_line_of_what_is_done_fits_too(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    shown = Bars()
    for done in (1, 2, 12_345):
        shown("resnext101_32x8d: train", done, 12_345, NOTE)
        clock.now += 1800
    shown.close()
    assert "train: 12,345 in 1:00:00, epoch 13/120 loss 2.345\n" in stream.getvalue().replace("\r", "")


@pytest.mark.parametrize(
    ("width", "left"),
    [(99, NOTE), (38, "epoch 13/120 loss 2.345 accuracy 0.123"), (37, "epoch 13/120 loss 2.345"), (22, "loss 2.345"),
     (9, ""), (0, "")],
)  # fmt: skip
def test_figures_are_dropped_whole_the_loss_last(width: int, left: str) -> None:
    assert fitted(NOTE, width) == left


@pytest.mark.parametrize(
    ("note", "width", "left"),
    [
        ("view 1/4", 7, ""),
        ("3 unreadable", 11, ""),
        ("epoch 3/75 loss nan mIoU 0.41 3.2 images/s", 29, "epoch 3/75 loss nan mIoU 0.41"),
        ("mean IoU 0.5 loss 1.0", 12, "loss 1.0"),
        ("", 10, ""),
    ],
)
def test_figures_of_other_notes(note: str, width: int, left: str) -> None:
    assert fitted(note, width) == left
    assert fitted(note, 99) == note


def test_time_left_goes_by_the_steps_of_this_process(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process before this one made 9,000 steps; this one makes one in two seconds."""
    shown = Bars()
    for step in range(9_001, 9_101):
        clock.now += 2
        shown("train", step, 10_000, "loss 1.0")
    shown.close()
    assert capsys.readouterr().err.splitlines()[0] == "train: 9,008/10,000, 33:04 left, loss 1.0"
    terminal(monkeypatch)
    shown = Bars()
    for step in (9_001, 9_101):
        shown("train", step, 10_000)
        clock.now += 200
    assert "9,101/10,000 29:58" in line_of(shown, 80)  # 899 steps of two seconds
    shown.close()


def test_time_left_is_not_made_up_before_a_second_step(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    shown = Bars()
    for _ in range(2):
        shown("train", 70, 100, "loss 1.0")
        clock.now += 5
    assert "70/100 -:-- loss 1.0" in line_of(shown, 80)
    shown.close()


def test_bars_travel_to_another_process() -> None:
    assert isinstance(pickle.loads(pickle.dumps(Bars())), Bars)


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (61, "1:01"), (3725, "1:02:05")])
def test_durations(seconds: float, words: str) -> None:
    assert bars._clock(seconds) == words
