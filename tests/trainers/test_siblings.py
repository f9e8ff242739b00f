import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainers import siblings

ROOT = Path(__file__).resolve().parents[2]


def check_from(folder: Path, home: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the guard as a script in `folder` would: that folder stands first on the import path."""
    return subprocess.run(
        [sys.executable, "-c", "from trainers import siblings; siblings.check()"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
    )


def test_the_four_packages_lie_side_by_side() -> None:
    siblings.check()


def test_a_users_own_rewards_py_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("")
    run = check_from(tmp_path)
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ImportError: package 'rewards' was found at")
    assert str(tmp_path / "rewards.py") in last
    assert str(ROOT / "rewards") in last
    assert "rename" in last


def test_a_folder_of_another_distribution_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "__init__.py").write_text("")
    assert "package 'inference' was found at" in check_from(tmp_path).stderr


def test_an_empty_folder_of_the_same_name_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "rollout").mkdir()
    assert check_from(tmp_path).returncode == 0


def test_the_guard_imports_none_of_the_packages(tmp_path: Path) -> None:
    code = "import sys; from trainers import siblings; siblings.check(); print('rollout' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "False\n"


@pytest.fixture
def copied_home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    for name in siblings.PACKAGES:
        (home / name).mkdir(parents=True)
        shutil.copy(ROOT / name / "__init__.py", home / name)
    shutil.copy(ROOT / "trainers" / "siblings.py", home / "trainers")
    return home


def test_a_copy_of_all_four_packages_passes(copied_home: Path, tmp_path: Path) -> None:
    assert check_from(tmp_path, copied_home).stderr == ""


def test_a_package_without_our_marker_is_refused(copied_home: Path, tmp_path: Path) -> None:
    (copied_home / "rewards" / "__init__.py").write_text('"""Another project."""')
    assert "does not carry RAMIFY_PACKAGE" in check_from(tmp_path, copied_home).stderr


def test_a_package_that_is_missing_is_named(copied_home: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied_home / "rollout")
    run = check_from(tmp_path, copied_home)
    assert run.returncode == 1
    assert "package 'rollout' was " in run.stderr
