"""What must hold for the text of every module: documented, annotated, ASCII, silent."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainers.siblings import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
MAY_PRINT = {"trainers/cli.py"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Classes, functions and methods whose name does not start with an underscore."""
    for node in body:
        if isinstance(
            node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        ) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{node.name}.")


def undocumented(tree: ast.Module) -> list[str]:
    found = [] if ast.get_docstring(tree) else ["module"]
    for name, node in public_definitions(tree.body):
        assert isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        is_overload = any("overload" in ast.dump(x) for x in node.decorator_list)
        if not ast.get_docstring(node) and not is_overload:
            found.append(name)
    return found


def unannotated(tree: ast.Module) -> list[str]:
    return [
        f"{node.name}:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if node.returns is None or any(arg.annotation is None for arg in parameters(node))
    ]


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    starred = [arg for arg in (given.vararg, given.kwarg) if arg is not None]
    return [arg for arg in named if arg.arg not in ("self", "cls")] + starred


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_walks_find_what_is_missing() -> None:
    tree = ast.parse(
        'class A:\n    def f(self, x): ...\n    def _g(self) -> None: ...\ndef h() -> None: "d"\n'
    )
    assert undocumented(tree) == ["module", "A", "A.f"]
    assert unannotated(tree) == ["f:2"]


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_has_a_docstring(package: str) -> None:
    wrong = {
        relative(p): found
        for p in sources(package)
        if (found := undocumented(ast.parse(p.read_text())))
    }
    assert wrong == {}


@pytest.mark.parametrize("folder", [*PACKAGES, "tests", "benches"])
def test_every_function_is_annotated(folder: str) -> None:
    wrong = {
        relative(p): found
        for p in sources(folder)
        if (found := unannotated(ast.parse(p.read_text())))
    }
    assert wrong == {}


def test_library_code_does_not_print() -> None:
    wrong = [
        f"{relative(path)}:{node.lineno}"
        for path in sources(*PACKAGES)
        if relative(path) not in MAY_PRINT
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


def test_code_is_ascii() -> None:
    wrong = [
        f"{relative(path)}:{number}"
        for path in sources(*PACKAGES, "tests", "benches")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if not line.isascii()
    ]
    assert wrong == []
