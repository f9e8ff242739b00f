"""Who may import whom, and what a package costs to import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainers.siblings import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "trainers": {"rollout", "inference", "rewards"},
    "rollout": {"inference", "rewards"},
    "inference": set[str](),
    "rewards": set[str](),
}
TRAINING_LIBRARIES = {"trl", "accelerate", "deepspeed", "peft", "wandb", "datasets"}


def modules(package: str) -> Iterator[Path]:
    return (ROOT / package).rglob("*.py")


def imported(node: ast.AST) -> Iterator[str]:
    """Full names of the modules that are imported anywhere below `node`."""
    for item in ast.walk(node):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.level == 0 and item.module:
            yield item.module


def imported_at_load(tree: ast.Module) -> Iterator[str]:
    """Like `imported`, without what stands in functions and in `if TYPE_CHECKING`."""
    for item in tree.body:
        is_late = isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
        is_typing = isinstance(item, ast.If) and "TYPE_CHECKING" in ast.dump(item.test)
        if not is_late and not is_typing:
            yield from imported(item)


def tops(names: Iterator[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_the_walk_sees_every_form_of_import() -> None:
    tree = ast.parse("import a.b, c\nfrom d.e import f\ndef g():\n    from h import i\n")
    assert tops(imported(tree)) == {"a", "c", "d", "h"}
    assert tops(imported_at_load(tree)) == {"a", "c", "d"}


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_between_packages_only_go_down(package: str) -> None:
    forbidden = set(PACKAGES) - ALLOWED[package] - {package} | {"tests", "benches"}
    wrong = {
        str(path): found
        for path in modules(package)
        if (found := tops(imported(parse(path))) & forbidden)
    }
    assert wrong == {}


@pytest.mark.parametrize("package", ["inference", "rollout", "rewards"])
def test_only_trainers_uses_training_libraries(package: str) -> None:
    wrong = {
        str(path): found
        for path in modules(package)
        if (found := tops(imported(parse(path))) & TRAINING_LIBRARIES)
    }
    assert wrong == {}


def test_rewards_load_without_torch() -> None:
    heavy = {"torch", "transformers"}
    wrong = {
        str(path): found
        for path in modules("rewards")
        if (found := tops(imported_at_load(parse(path))) & heavy)
    }
    assert wrong == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_init_files_import_nothing_of_other_projects(package: str) -> None:
    for path in (ROOT / package).rglob("__init__.py"):
        assert tops(imported(parse(path))) <= {*PACKAGES, "__future__"}, path


def test_importing_all_packages_loads_no_heavy_library() -> None:
    heavy = ["torch", "transformers", "trl", "deepspeed", "pydantic", "fastapi"]
    names = ", ".join(PACKAGES)
    code = f"import sys, {names}; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


def test_no_file_is_called_like_a_standard_library_module() -> None:
    stems = {path.stem: path for package in PACKAGES for path in modules(package)}
    shadowing = set(stems) & set(sys.stdlib_module_names) - {"__init__", "__main__"}
    assert {name: str(stems[name]) for name in shadowing} == {}


def test_no_file_is_called_utils() -> None:
    wrong = [
        path for package in PACKAGES for path in modules(package) if path.stem in ("utils", "util")
    ]
    assert wrong == []


def test_no_test_folder_is_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
