"""The version of the code that is running: the release, and a checksum of its sources."""

import functools
import hashlib
import importlib.metadata
from pathlib import Path

_ROOT = Path(__file__).parents[1]
# What runs on workers of Beam jobs: a change of the trainer must not refuse them.
_PACKAGES = ("features", "pipelines", "evaluation")


@functools.cache
def code_version(*, with_training: bool = False) -> str:
    """The release and 12 hex digits, equal where all modules of the installed packages are.

    Args:
      with_training: whether the package `training` counts too.
    """
    sha256 = hashlib.sha256()
    for package in (*_PACKAGES, "training") if with_training else _PACKAGES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            if (path.parent / "__init__.py").exists():  # examples beside packages are not installed
                sha256.update(f"{path.relative_to(_ROOT)}\n".encode() + path.read_bytes())
    return f"{_release()}+{sha256.hexdigest()[:12]}"


def _release() -> str:
    try:
        return importlib.metadata.version("soundtrack-classification")
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return "0"
