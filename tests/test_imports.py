"""What is imported when: torch and Lightning take seconds, and most answers don't need them."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import octavo
from octavo.engine.folder import RunFolder

SLOW = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "sklearn", "scipy", "numpy", "pandas")


def loaded_after(code: str) -> set[str]:
    """Return which top-level packages a fresh interpreter holds after `code`."""
    code += (
        "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_importing_octavo_imports_no_torch() -> None:
    assert loaded_after("import octavo, octavo.recipe, octavo.cli, octavo.run").isdisjoint(
        set(SLOW) - {"numpy", "scipy"}
    )
    assert loaded_after("import octavo, octavo.cli").isdisjoint({*SLOW, "rich", "pydantic"})


def test_help_of_every_verb_imports_nothing_slow() -> None:
    code = """
import sys
from octavo import cli
commands = [c for app in (cli.app, cli.use_app, cli.look_app) for c in app.registered_commands]
verbs = [[c.name or c.callback.__name__] for c in commands]
verbs += [["weights", c.name] for c in cli.weights_app.registered_commands]
assert len(verbs) >= 12, verbs
for verb in [[], ["weights"], *verbs]:
    sys.argv = ["octavo", *verb, "--help"]
    try:
        cli.main()
    except SystemExit as end:
        assert end.code == 0, verb
"""
    assert loaded_after(code).isdisjoint(SLOW)


def test_help_answers_at_once() -> None:
    took = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "octavo", "--help"], capture_output=True, text=True, check=True)
        took.append(time.perf_counter() - start)
    print(f"octavo --help: median {statistics.median(took):.3f} s of five (expected 0.3 s on a quiet machine)")
    assert "train" in done.stdout and statistics.median(took) <= 1.0


def test_prediction_by_one_member_imports_no_lightning(trained: RunFolder, digits_folder: Path) -> None:
    image = digits_folder / "val_10" / "3_17.png"
    code = f"import octavo; found = octavo.load({str(trained.path)!r}).predict({str(image)!r}, member='mobile')\n"
    code += "assert len(found.files) == 1"
    loaded = loaded_after(code)
    assert "torch" in loaded and loaded.isdisjoint({"pytorch_lightning", "lightning_fabric", "torchmetrics"})


def test_public_names_are_there() -> None:
    assert all(getattr(octavo, name) for name in octavo.__all__)
    assert octavo.Run.__name__ == "Run" and octavo.Recipe.__name__ == "Recipe"


def test_train_stays_a_function_when_the_training_is_imported() -> None:
    code = "import octavo, octavo.verbs.training\nassert callable(octavo.train)"
    assert "torch" in loaded_after(code)


def test_the_architecture_names_what_there_is() -> None:
    root = Path(__file__).parents[1]
    text = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree, rest = text.split("```")[1], text.split("```")[2]
    folders, named = [root / "src" / "octavo"], []
    for line in tree.splitlines()[2:]:
        depth, entry = (len(line) - len(line.lstrip())) // 2, line.strip().split("  ")[0]
        if not entry or depth > 2:
            continue
        folders[depth:] = []
        for part in entry.split(", "):
            named.append(folders[depth - 1] / part)
        if entry.endswith("/") and "," not in entry:
            folders.append(folders[depth - 1] / entry)
    assert len(named) > 40 and all(list(path.parent.glob(path.name.rstrip("/"))) for path in named), named
    paths = re.findall(r"`((?:data|engine|networks|numbers|looks|page)/[a-z_/]*(?:\.py)?)`", rest)
    assert len(paths) > 10 and all((root / "src" / "octavo" / path).exists() for path in paths)
    packages = {path.parent.name for path in (root / "src" / "octavo").glob("*/__init__.py")}
    assert packages <= {path.name for path in named}
