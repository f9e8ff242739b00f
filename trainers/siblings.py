"""Guard: the four packages of this project must be the ones that Python finds.

Their names are generic (other distributions install `inference` and `rewards`, and a script beside a
user's own rewards.py shadows ours), so every entry point calls `check` first. Nothing is imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGES = ("trainers", "rollout", "rewards", "inference")
MARKER = "RAMIFY_PACKAGE"


def check() -> None:
    """Make sure that all four packages lie side by side and are ours.

    Raises:
        ImportError: names both places and says what to do.
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        found = _location(name)
        if found != home / name / "__init__.py":
            raise ImportError(
                f"package '{name}' was found at {found}, but ramify's own is at {home / name}; "
                "rename or leave the folder that shadows it, uninstall the other distribution, "
                "or reinstall ramify in a fresh environment"
            )
        if MARKER not in found.read_text(encoding="utf-8"):
            raise ImportError(
                f"package '{name}' at {found} does not carry {MARKER}, so it is not ramify's although "
                f"it lies beside {home / 'trainers'}; reinstall ramify in a fresh environment"
            )


def _location(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(
            f"package '{name}' was not found beside {Path(__file__).resolve().parent}; "
            "install ramify with: pip install -e ."
        )
    if spec.origin is None:  # a folder without __init__.py
        return Path(next(iter(spec.submodule_search_locations or [name])))
    return Path(spec.origin).resolve()
