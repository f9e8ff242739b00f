import json
from collections import namedtuple
from pathlib import Path

import pytest

from trainers import cli, doctor
from trainers.doctor import Finding


def named(findings: list[Finding], name: str) -> Finding:
    return next(item for item in findings if item.name == name)


@pytest.fixture
def clean_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder without accounts, so that nothing of the developer's is read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC", "HF_HOME", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_this_environment_has_all_that_is_needed(clean_home: Path) -> None:
    findings = doctor.examine()
    assert [item for item in findings if item.needed and item.problem] == []
    assert doctor.is_healthy(findings)
    assert {"python", "torch", "trl", "transformers", "accelerate", "deepspeed", "peft"} <= {
        item.name for item in findings
    }


def test_a_missing_library_is_needed_and_says_how_to_get_it() -> None:
    finding = doctor._requirement("no-such-library>=2,<3")
    assert (finding.value, finding.needed) == ("not installed", True)
    assert finding.problem == "install with: pip install 'no-such-library<3,>=2'"


def test_a_version_outside_the_declared_range_is_a_problem() -> None:
    finding = doctor._requirement("numpy<1.0")
    assert finding.needed
    assert "is outside <1.0; install with: pip install 'numpy<1.0'" in finding.problem
    assert doctor._requirement("numpy>=1.0").problem == ""


def test_a_project_that_is_not_installed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "no-such-distribution")
    assert doctor._requirements()[0].problem == "install with: pip install -e ."


def test_without_a_compiler_only_zero_on_cpus_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    finding = doctor._compiler({})
    assert "ZeRO on CPUs is off" in finding.problem
    assert not finding.needed
    assert "DeepSpeed cannot compile" in doctor._ninja().problem


def test_the_compiler_named_by_cxx_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert doctor._compiler({"CXX": "icpx"}).value == "/bin/icpx"
    assert doctor._compiler({}).value == "/bin/c++"


def test_a_wandb_account_is_found_without_showing_its_key(clean_home: Path) -> None:
    assert "wandb login" in doctor._wandb({}).problem
    assert doctor._wandb({"WANDB_API_KEY": "secret"}).value == "WANDB_API_KEY is set"
    assert doctor._wandb({"WANDB_MODE": "offline"}).value == "WANDB_MODE=offline"
    (clean_home / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (clean_home / ".netrc").chmod(0o600)
    finding = doctor._wandb({})
    assert finding.value.startswith("logged in through")
    assert "secret" not in str(finding)
    (clean_home / ".netrc").write_text("machine\n")
    assert "wandb login" in doctor._wandb({}).problem


@pytest.mark.parametrize(("flag", "mode"), [("1", "offline"), ("true", "offline"), ("0", "online")])
def test_the_offline_flag_of_the_hub_is_read(flag: str, mode: str) -> None:
    value = doctor._hub({"HF_HUB_OFFLINE": flag, "HF_HOME": "/cache"}).value
    assert value.startswith(f"/cache, {mode}")


def test_a_full_disk_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(free=2**30))
    assert doctor._disk(tmp_path).value == f"1.0 GiB free in {tmp_path}"
    assert "less than 5 GiB" in doctor._disk(tmp_path).problem


def test_shadowed_packages_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def shadowed() -> None:
        raise ImportError("found elsewhere")

    monkeypatch.setattr(doctor.siblings, "check", shadowed)
    assert doctor._packages_guard() == Finding(
        name="packages", value="shadowed", problem="found elsewhere", needed=True
    )


def test_the_report_lists_everything_and_then_the_problems() -> None:
    findings = [
        Finding(name="a", value="1"),
        Finding(name="long", value="2", problem="do x", needed=True),
        Finding(name="b", value="3", problem="do y"),
    ]
    assert doctor.report(findings) == [
        "a     1",
        "long  2",
        "b     3",
        "missing: long: do x",
        "note: b: do y",
    ]


def test_the_command_fails_only_if_something_needed_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    optional = Finding(name="b", value="3", problem="do y")
    monkeypatch.setattr(doctor, "examine", lambda: [optional])
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == "b  3\nnote: b: do y\n"
    needed = Finding(name="a", value="none", problem="do x", needed=True)
    monkeypatch.setattr(doctor, "examine", lambda: [optional, needed])
    assert cli.main(["doctor", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown[1] == {"name": "a", "value": "none", "problem": "do x", "needed": True}
