"""A workspace at wandb as code: the panels of the report, the rollout trees, and the machine.

Saving it needs the extra `dashboards` and an account, because a workspace lives on wandb's server. Runs
are logged offline first and uploaded with `wandb sync`; the dashboard then shows them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trainers.monitoring.trackers import has_wandb_account
from trainers.report.panels import GROUPS, Panel

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import LinePlot
    from wandb_workspaces.workspaces import Workspace

NAME = "ramify"
X_AXIS = "train/global_step"
TREES_KEY = "rollouts/trees"
SYSTEM: Mapping[str, tuple[str, ...]] = {
    "CPU, % of all cores": ("cpu",),
    "Memory of the process, MB": ("proc.memory.rssMB",),
    "Memory of the machine, %": ("memory_percent",),
    "GPU, %": ("gpu.*.gpu",),
    "GPU memory, bytes": ("gpu.*.memoryAllocatedBytes",),
    "GPU power, W": ("gpu.*.powerWatts",),
    "Disk, MB read and written": ("disk.*.in", "disk.*.out"),
    "Network, bytes": ("network.recv", "network.sent"),
}
"""What wandb measures itself, by title: keys below system/."""


def save(project: str, entity: str | None = None) -> str:
    """Save the workspace as a new view of the project; returns its address.

    Raises:
        ValueError: the extra or an account is missing, or the server refused.
    """
    _library("workspaces")
    mode = os.environ.get("WANDB_MODE", "online")
    if not has_wandb_account() or mode != "online":
        reason = "no account is logged in" if mode == "online" else f"WANDB_MODE={mode}"
        raise ValueError(
            f"a dashboard is saved at wandb, online, but {reason}; run `wandb login` (and unset "
            "WANDB_MODE), or see its panels with --show"
        )
    import wandb

    try:
        built = workspace(project, entity or str(wandb.Api().default_entity))
        built.save()
    except (wandb.Error, OSError) as error:
        raise ValueError(f"wandb did not save the dashboard: {error}") from error
    return str(built.url)


def workspace(project: str, entity: str) -> Workspace:
    """The workspace as an object of wandb-workspaces, not saved yet.

    Raises:
        ValueError: the extra `dashboards` is not installed.
    """
    workspaces = _library("workspaces")
    sections = [
        workspaces.Section(
            name=group.name, panels=list(map(_line_plot, group.panels)), is_open=True
        )
        for group in GROUPS
    ]
    sections.append(workspaces.Section(name="Rollouts", panels=[_tree_browser()], is_open=True))
    sections.append(
        workspaces.Section(name="System", panels=[_system_plot(*item) for item in SYSTEM.items()])
    )
    return workspaces.Workspace(
        name=NAME,
        entity=entity,
        project=project,
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis=X_AXIS),
    )


def definition() -> dict[str, dict[str, list[str]]]:
    """Section, panel and metrics as plain values; needs neither the library nor an account."""
    learned = {
        group.name: {panel.title: [tracked(key) for key in panel.keys] for panel in group.panels}
        for group in GROUPS
    }
    machine = {title: [f"system/{key}" for key in keys] for title, keys in SYSTEM.items()}
    return {**learned, "Rollouts": {"Rollout trees": [TREES_KEY]}, "System": machine}


def tracked(key: str) -> str:
    """Name of a metric at the tracker: train/<key>, and eval/<name> as it is."""
    return key if key.startswith("eval/") else f"train/{key}"


def _line_plot(panel: Panel) -> LinePlot:
    reports = _library("reports.v2")
    return reports.LinePlot(
        title=panel.title,
        x=X_AXIS,
        title_y=panel.unit or None,
        log_y=panel.is_log or None,
        plot_type="stacked-area" if panel.is_stacked else "line",
        **_metrics([tracked(key) for key in panel.keys]),
    )


def _system_plot(title: str, keys: tuple[str, ...]) -> LinePlot:
    """The machine is measured by time, so its panels are drawn over the run time."""
    reports = _library("reports.v2")
    return reports.LinePlot(
        title=title, x="Relative Time (Process)", **_metrics([f"system/{key}" for key in keys])
    )


def _metrics(keys: list[str]) -> dict[str, Any]:  # arguments of LinePlot
    """Exact keys, or one regular expression when a key stands for several."""
    if not any("*" in key for key in keys):
        return {"y": keys}
    patterns = [re.escape(key).replace(r"\*", ".*") for key in keys]
    return {"metric_regex": f"^({'|'.join(patterns)})$"}


def _tree_browser() -> Any:  # a panel of wandb-workspaces
    reports = _library("reports.v2")
    return reports.MediaBrowser(
        title="Rollout trees", media_keys=[TREES_KEY], gallery_axis="step", num_columns=1
    )


def _library(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(f"wandb_workspaces.{name}")
    except ImportError as error:
        raise ValueError(
            "a dashboard needs the package wandb-workspaces; install it with: "
            "pip install 'ramify[dashboards]'"
        ) from error
