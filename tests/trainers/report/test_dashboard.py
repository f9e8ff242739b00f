"""The workspace at wandb: against the library's own objects where it is installed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from trainers import cli
from trainers.report import dashboard
from trainers.report.panels import BUCKETS


def without_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(folder / "netrc"))


def test_metrics_have_the_names_that_trackers_show() -> None:
    assert dashboard.tracked("clip/tcr") == "train/clip/tcr"
    assert dashboard.tracked("eval/avg_at_*") == "eval/avg_at_*"


def test_the_definition_covers_learning_clipping_trees_kv_and_the_machine() -> None:
    shown = dashboard.definition()
    assert list(shown) == [
        "Learning",
        "Clipping",
        "Lengths and trees",
        "Engine",
        "Time",
        "Rollouts",
        "System",
    ]
    assert shown["Clipping"]["Stopped upwards (A > 0)"] == [
        f"train/clip/high_frac/{bucket}" for bucket in BUCKETS
    ]
    assert shown["Engine"]["KV at its peak"] == ["train/kv/peak_bytes"]


def test_the_panels_can_be_seen_without_library_and_account(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["dashboard", "my_project", "--show"]) == 0
    assert json.loads(capsys.readouterr().out) == dashboard.definition()


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert cli.main(["dashboard", "my_project"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'ramify[dashboards]'" in error
    assert error.count("\n") == 1


def test_without_an_account_one_line_says_that_it_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb_workspaces", reason="the extra `dashboards` is not installed")
    without_account(monkeypatch, tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    assert cli.main(["dashboard", "my_project"]) == 2
    error = capsys.readouterr().err
    assert "online, but no account is logged in; run `wandb login`" in error
    assert error.count("\n") == 1


def test_offline_mode_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb_workspaces", reason="the extra `dashboards` is not installed")
    monkeypatch.setenv("WANDB_API_KEY", "x")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ValueError, match="WANDB_MODE=offline"):
        dashboard.save("my_project")


def test_the_workspace_survives_the_form_in_which_it_is_sent() -> None:
    workspaces = pytest.importorskip(
        "wandb_workspaces.workspaces", reason="the extra `dashboards` is not installed"
    )
    sent = dashboard.workspace("my_project", "me")._to_model()
    back = workspaces.Workspace._from_model(type(sent).model_validate_json(sent.model_dump_json()))
    assert (back.project, back.entity, back.name) == ("my_project", "me", "ramify")
    assert back.settings.x_axis == "train/global_step"
    shown = dashboard.definition()
    assert {s.name: [p.title for p in s.panels] for s in back.sections} == {
        name: list(panels) for name, panels in shown.items()
    }


def test_panels_draw_the_metrics_that_the_definition_names() -> None:
    pytest.importorskip("wandb_workspaces", reason="the extra `dashboards` is not installed")
    built = dashboard.workspace("my_project", "me")
    for section in built.sections:
        for panel in section.panels:
            keys = dashboard.definition()[section.name][panel.title]
            if section.name == "Rollouts":
                assert panel.media_keys == keys
            elif any("*" in key for key in keys):
                examples = [key.replace("*", "4") for key in keys]
                assert all(re.fullmatch(panel.metric_regex, key) for key in examples)
                assert not re.fullmatch(panel.metric_regex, "train/loss")
            else:
                assert [getattr(y, "name", y) for y in panel.y] == keys
