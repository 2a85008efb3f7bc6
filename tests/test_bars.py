"""Progress: lines in a log, one bar on a terminal."""

from __future__ import annotations

import io
import pickle
import sys

import pytest

from octavo import bars
from octavo.bars import Bars


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
    assert lines[0] == "vgg16: train: 16/100, 1:19 left, loss 1.0"
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
    assert capsys.readouterr().err.splitlines() == ["val: 3/4, 4 s left", "val: 4/4", "val: 1/4", "val: 4/4"]


def test_bars_travel_to_another_process() -> None:
    assert isinstance(pickle.loads(pickle.dumps(Bars())), Bars)


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (61, "1:01"), (3725, "1:02:05")])
def test_durations(seconds: float, words: str) -> None:
    assert bars._clock(seconds) == words
