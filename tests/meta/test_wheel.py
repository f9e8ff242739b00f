"""What a built wheel holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from trainers.siblings import PACKAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """File names of a wheel built from this tree (needs hatchling in the environment, no network)."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    run = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(zipfile.ZipFile(next(folder.glob("ramify-*.whl"))).namelist())


@pytest.mark.slow
def test_the_wheel_holds_every_module_of_the_four_packages(names: set[str]) -> None:
    modules = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert modules - names == set()


@pytest.mark.slow
def test_the_wheel_holds_recipes_as_data_and_no_package_of_that_name(names: set[str]) -> None:
    for folder in ("recipes", "accelerate_configs"):
        files = {path.name for path in (ROOT / folder).glob("*.yaml")}
        assert {f"ramify_data/{folder}/{name}" for name in files} - names == set()
    assert {name.partition("/")[0] for name in names if not name.startswith("ramify-")} == {
        *PACKAGES,
        "ramify_data",
    }


@pytest.mark.slow
def test_the_wheel_holds_the_sources_of_the_kernels(names: set[str]) -> None:
    sources = {
        path.name for path in (ROOT / "inference/native").iterdir() if path.suffix in (".cpp", ".h")
    }
    assert len(sources) == 4 and {f"inference/native/{name}" for name in sources} <= names


@pytest.mark.slow
def test_the_wheel_holds_the_parts_of_the_report_page(names: set[str]) -> None:
    parts = {str(path.relative_to(ROOT)) for path in (ROOT / "trainers/report/assets").iterdir()}
    assert len(parts) >= 5
    assert parts - names == set()


@pytest.mark.slow
def test_the_wheel_installs_the_command(names: set[str]) -> None:
    assert any(name.endswith("entry_points.txt") for name in names)
