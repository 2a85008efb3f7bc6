"""Commands that are stopped from outside: exit code, one line, and nothing half-written."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import BinaryIO

import pytest

from conftest import Octavo
from octavo.data.pixels import refusing
from octavo.files import write_atomic
from octavo.progress import Terminated


def test_sigterm_ends_any_command_with_143_and_takes_back_what_was_begun(
    run_cli: Octavo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminated(file: BinaryIO) -> None:
        file.write(b"half")
        os.kill(os.getpid(), signal.SIGTERM)

    for words, work in (
        (("describe", "octet"), "octavo.verbs.describe.describe"),
        (("recipes",), "octavo.recipe.shipped"),
        (("check", tmp_path), "octavo.verbs.check.check"),
        (("weights", "pack", "octet", tmp_path), "octavo.networks.pack.pack"),
    ):
        monkeypatch.setattr(work, lambda *_, **__: write_atomic(tmp_path / "new" / "file", terminated))
        monkeypatch.setattr("octavo.data.torchvision_data.holds_masks", lambda *_: False)
        assert run_cli(*words) == (143, "", "stopped; every file that was written is whole.\n")
        assert not any(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


def test_code_that_survives_any_error_of_one_image_does_not_survive_sigterm() -> None:
    with pytest.raises(Terminated), refusing(1):
        raise Terminated
