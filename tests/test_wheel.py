"""Wheel: built from the sources, installed into an empty environment, and used there."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

import octavo

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built with what is installed, without the network."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, isn't installed")
    out = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_all_that_is_read_while_running(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("octavo/")}
    sources = ROOT / "src"
    files = [path for path in (sources / "octavo").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert held == {path.relative_to(sources).as_posix() for path in files}
    assert "octavo/py.typed" in held and any(name.endswith(".toml") for name in held)


def test_an_empty_environment_uses_it(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are those of this environment: only their folder is seen, not what is installed as editable."""
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    folder = Path(subprocess.run(
        [home / "bin" / "python", "-c", "import site; print(site.getsitepackages()[0])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip())  # fmt: skip
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    own = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (folder / "dependencies.pth").write_text("\n".join(own))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = """
import json, octavo
from importlib.metadata import entry_points
from octavo.recipe import load, shipped
(script,) = [found for found in entry_points(group="console_scripts") if found.name == "octavo"][:1]
recipes = sorted(load(name).name for name in shipped())
print(json.dumps([octavo.__file__, octavo.__version__, script.value, recipes]))
"""

    def run(*words: str) -> str:
        line = [str(home / "bin" / "python"), *words]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    file, version, script, recipes = json.loads(run("-c", code))
    assert Path(file).is_relative_to(folder) and version == octavo.__version__
    assert script == "octavo.cli:main" and "quick" in recipes
    assert "quick" in run("-m", "octavo", "recipes")
    assert "backbone" in run("-m", "octavo", "describe", "fcn8s", "--depth", "1")
