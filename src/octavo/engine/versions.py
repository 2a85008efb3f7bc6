"""Which code computes: Octavo's own, Python's and the packages', and what the environment tells them."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from octavo.version import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "safetensors",
)
"""Packages whose code makes a run's numbers."""
OPTIONAL = ("timm", "segmentation-models-pytorch")
"""The same, of those that may be missing."""
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
)
"""Variables of the environment by which the libraries choose other arithmetic; threads are recorded as a number."""


def versions() -> dict[str, Any]:
    """Return what a manifest says of the code: versions, a hash of Octavo's own files, variables that are set."""
    return {
        "octavo": __version__,
        "code": code(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES} | _there(OPTIONAL),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _there(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def code() -> dict[str, str]:
    """Return `sha256` over Octavo's own files, and the git `commit` where it runs from a checkout.

    The hash tells two states of a checkout apart that are of one version and one commit.
    """
    folder = Path(__file__).parents[1]
    commit = commit_of(folder.parents[1])
    return {"sha256": hash_of(folder)} | ({"commit": commit} if commit else {})


def hash_of(folder: Path) -> str:
    """Return the SHA-256 over names and content of the Python and TOML files in a folder; line ends don't count."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".toml")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def commit_of(checkout: Path) -> str | None:
    """Return the commit that a folder with a `.git` folder stands at, read from its files; None where it has none."""
    git = checkout / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        lines = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
    except OSError:
        return None
