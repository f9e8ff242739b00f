"""Trees as text and as JSON lines."""

from __future__ import annotations

import io

import pytest

from rollout.dump import read_jsonl, tree_text, write_jsonl
from rollout.tree import FinishReason, RolloutTree, TokenDraws


def add(tree: RolloutTree, parent: int, text: str, finish: FinishReason | None) -> None:
    zeros = (0.0,) * len(text)
    tree.add_segment(
        parent=parent,
        token_ids=[ord(char) for char in text],
        policy_version=0,
        draws=TokenDraws(logprobs=zeros, behaviour_logprobs=zeros, entropies=zeros),
        finish=finish,
    )


@pytest.fixture
def tree() -> RolloutTree:
    tree = RolloutTree(prompt_id="q7", example={"answer": "4"})
    tree.add_segment(parent=None, token_ids=[ord(char) for char in "2+2 is"], policy_version=0)
    add(tree, 0, "a\nb!", None)
    add(tree, 0, "four", FinishReason.EOS)
    add(tree, 1, "4444", FinishReason.FINISHED)
    add(tree, 1, "\u00e9" * 40, FinishReason.REPETITION)
    return tree


def decode(token_ids: object) -> str:
    return "".join(map(chr, token_ids))  # type: ignore[call-overload]  # any iterable of ints


def test_text_shows_shape_texts_reasons_scores_and_advantages(tree: RolloutTree) -> None:
    text = tree_text(
        tree, decode, scores=[1.0, None, -0.25], advantages=[0.5, 0.0, -1.0], max_chars=8
    )
    assert text.splitlines() == [
        "prompt q7: 3 leaves, 58 distinct of 74 row tokens (21.6% shared), 0 fallback paths",
        "0 [6] '2+2 is'",
        "+- 1 [4] 'a\\nb!'",
        "|  +- 3 [4] '4444' finished score=none adv=+0.000",
        "|  +- 4 [40] '\\xe9\\xe9\\xe9\\xe9 ... \\xe9\\xe9\\xe9\\xe9' repetition score=-0.25 adv=-1.000",
        "+- 2 [4] 'four' eos score=1 adv=+0.500",
    ]


def test_text_without_scores(tree: RolloutTree) -> None:
    assert tree_text(tree, decode).splitlines()[-1] == "+- 2 [4] 'four' eos"


def test_wrong_number_of_scores_is_refused(tree: RolloutTree) -> None:
    with pytest.raises(ValueError, match="2 scores for 3 leaves"):
        tree_text(tree, decode, scores=[1.0, 2.0])


def test_json_lines_round_trip(tree: RolloutTree) -> None:
    file = io.StringIO()
    write_jsonl([tree, tree], file)
    assert list(read_jsonl(io.StringIO(file.getvalue() + "\n"))) == [tree, tree]


@pytest.mark.parametrize("line", ["{", "[]", '{"prompt_id": "x"}'])
def test_bad_line_is_named(tree: RolloutTree, line: str) -> None:
    file = io.StringIO()
    write_jsonl([tree], file)
    with pytest.raises(ValueError, match="line 2 is not a rollout tree"):
        list(read_jsonl(io.StringIO(file.getvalue() + line + "\n")))
