"""What `ramify doctor` looks at: versions, devices, compiler, accounts, disk. Nothing is changed.

Needed things that are missing make the command fail; for optional ones it says what is off without
them. No network is used.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import netrc
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainers import siblings

DISTRIBUTION = "ramify"
_LOW_DISK_BYTES = 5 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    value: str
    """What was found."""
    problem: str = ""
    """What is off and what to do; empty if nothing is."""
    needed: bool = False
    """Whether training or serving fails because of the problem."""


def examine() -> list[Finding]:
    """Look at everything, in the order of the report."""
    return [
        Finding(name="python", value=platform.python_version()),
        _packages_guard(),
        *_requirements(),
        _devices(),
        _compiler(os.environ),
        _ninja(),
        _wandb(os.environ),
        _hub(os.environ),
        _disk(Path.cwd()),
    ]


def report(findings: Sequence[Finding]) -> list[str]:
    """Aligned lines: everything found, then the problems."""
    width = max(len(item.name) for item in findings)
    lines = [f"{item.name:<{width}}  {item.value}" for item in findings]
    for item in findings:
        if item.problem:
            lines.append(f"{'missing' if item.needed else 'note'}: {item.name}: {item.problem}")
    return lines


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing that is needed has a problem."""
    return not any(item.needed and item.problem for item in findings)


def _packages_guard() -> Finding:
    try:
        siblings.check()
    except ImportError as error:
        return Finding(name="packages", value="shadowed", problem=str(error), needed=True)
    return Finding(name="packages", value=str(Path(siblings.__file__).resolve().parent.parent))


def _requirements() -> list[Finding]:
    """Installed versions against the ranges that the distribution declares."""
    try:
        declared = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        problem = "install with: pip install -e ."
        return [Finding(name=DISTRIBUTION, value="not installed", problem=problem, needed=True)]
    return [_requirement(text) for text in declared if "extra ==" not in text]


def _requirement(declared: str) -> Finding:
    from packaging.requirements import Requirement

    wanted = Requirement(declared)
    install = f"install with: pip install '{wanted.name}{wanted.specifier}'"
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name=wanted.name, value="not installed", problem=install, needed=True)
    if wanted.specifier.contains(version, prereleases=True):
        return Finding(name=wanted.name, value=version)
    problem = f"version {version} is outside {wanted.specifier}; {install}"
    return Finding(name=wanted.name, value=version, problem=problem, needed=True)


def _devices() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding(name="devices", value="unknown, torch is not installed")
    import torch

    if not torch.accelerator.is_available():
        return Finding(name="devices", value="CPU only")
    kind = torch.accelerator.current_accelerator()
    return Finding(name="devices", value=f"{torch.accelerator.device_count()} x {kind}")


def _compiler(environ: Mapping[str, str]) -> Finding:
    """DeepSpeed compiles its shared-memory communication op at first use on CPUs."""
    names = [environ[key] for key in ("CXX",) if environ.get(key)] + ["c++", "g++", "clang++"]
    found = next((path for path in map(shutil.which, names) if path), None)
    if found:
        return Finding(name="C++ compiler", value=found)
    problem = "ZeRO on CPUs is off (its op is compiled at first use); install with: apt install g++"
    return Finding(name="C++ compiler", value="none", problem=problem)


def _ninja() -> Finding:
    found = shutil.which("ninja")
    if found:
        return Finding(name="ninja on PATH", value=found)
    problem = "DeepSpeed cannot compile its ops; activate the environment or: pip install ninja"
    return Finding(name="ninja on PATH", value="none", problem=problem)


def _wandb(environ: Mapping[str, str]) -> Finding:
    """Whether an account is known; the key itself is not shown and not checked."""
    if environ.get("WANDB_MODE") in ("offline", "disabled"):
        return Finding(name="wandb account", value=f"WANDB_MODE={environ['WANDB_MODE']}")
    if environ.get("WANDB_API_KEY"):
        return Finding(name="wandb account", value="WANDB_API_KEY is set")
    file = Path(environ.get("NETRC") or Path.home() / ".netrc")
    if _netrc_names_wandb(file):
        return Finding(name="wandb account", value=f"logged in through {file}")
    problem = "runs are logged offline; log in with: wandb login"
    return Finding(name="wandb account", value="none", problem=problem)


def _netrc_names_wandb(file: Path) -> bool:
    try:
        return "api.wandb.ai" in netrc.netrc(file).hosts
    except (OSError, netrc.NetrcParseError):
        return False


def _hub(environ: Mapping[str, str]) -> Finding:
    home = environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    offline = environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    mode = "offline (HF_HUB_OFFLINE)" if offline else "online"
    return Finding(name="hub cache", value=f"{home}, {mode}")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    value = f"{free / 2**30:.1f} GiB free in {folder}"
    if free >= _LOW_DISK_BYTES:
        return Finding(name="disk", value=value)
    problem = (
        f"less than {_LOW_DISK_BYTES // 2**30} GiB; checkpoints hold weights and optimizer states"
    )
    return Finding(name="disk", value=value, problem=problem)
