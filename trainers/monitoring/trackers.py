"""Experiment trackers: wandb works without an account (offline), online when logged in."""

from __future__ import annotations

import netrc
import os
from pathlib import Path

from trainers.settings import LoggingConfig

WANDB_HOST = "api.wandb.ai"


def prepare_trackers(config: LoggingConfig, run_dir: Path) -> str | None:
    """Set the environment of wandb before it is imported; variables set by the user win.

    Returns:
        A line about wandb for the user, None when it is not used.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if "wandb" not in config.report_to:
        return None
    os.environ.setdefault("WANDB_PROJECT", config.project)
    os.environ.setdefault("WANDB_DIR", str(run_dir))
    run_dir.mkdir(parents=True, exist_ok=True)
    if not has_wandb_account():
        os.environ.setdefault("WANDB_MODE", "offline")
    if os.environ.get("WANDB_MODE") == "offline":
        return f"wandb: offline, upload later with: wandb sync {run_dir}/wandb/latest-run"
    return f"wandb: {os.environ.get('WANDB_MODE', 'online')}, project {os.environ['WANDB_PROJECT']}"


def has_wandb_account() -> bool:
    """True when a key is in the environment or in the netrc file; asks no server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    if not path.is_file():
        return False
    try:
        return netrc.netrc(str(path)).authenticators(WANDB_HOST) is not None
    except netrc.NetrcParseError:
        return False
