"""What the documents name must exist."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMED_FILE = re.compile(
    r"\b(?:tests|trainers|rollout|rewards|inference|recipes|accelerate_configs|benches)"
    r"/[\w/.-]+\.(?:py|yaml|md|jsonl)\b"
)
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/recipes.md", "docs/report.md"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    # "rewards/<name>.py" and the like are patterns, and so is a my_ in front.
    names = {name for name in NAMED_FILE.findall(text) if "/my_" not in name}
    assert sorted(name for name in names if not (ROOT / name).exists()) == []


def test_the_readme_marks_exactly_one_test_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"<!-- test-command -->\n+```\w*\n.+?\n```", text, re.DOTALL)) == 1


def test_the_makefile_targets_of_the_contributors_page_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = set(re.findall(r"`?make (\w+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert named <= targets
    assert {"install", "test", "check", "lint", "bench"} <= targets


def test_the_hooks_before_a_commit_are_valid_yaml() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    commands = [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert "ramify lint --format_only" in commands
