"""Damage of a run's files: fifty of what `tests/damage.py` does thousands of times."""

from __future__ import annotations

from pathlib import Path

import pytest

import damage


@pytest.mark.slow
def test_no_damage_is_a_traceback_or_goes_unsaid(tmp_path: Path, cache: Path) -> None:
    stories: list[str] = []
    counts = damage.damage(tmp_path, 50, 7, stories.append, kinds=("run",), most=1)
    assert not damage.faults(counts), "\n".join(story for story in stories if story.startswith("seed"))
    outcomes = {outcome for _, outcome in counts}
    assert sum(counts.values()) == 50 and {"refused", "no effect"} <= outcomes
