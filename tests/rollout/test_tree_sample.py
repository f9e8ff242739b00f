"""Texts, scores and advantages beside a tree."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.dump import read_jsonl, read_samples, write_jsonl
from rollout.tree import FinishReason, RolloutTree, TokenDraws
from rollout.tree_sample import TreeSample, annotate, token_texts


def bytes_to_text(token_ids: Sequence[int]) -> str:
    """Tokens are UTF-8 bytes, as in byte-level vocabularies."""
    return bytes(token_ids).decode("utf-8", errors="replace")


def without_leading_space(token_ids: Sequence[int]) -> str:
    """Tokens are words; the first loses its space, as in sentencepiece."""
    return " ".join(f"w{token}" for token in token_ids)


@pytest.fixture
def tree() -> RolloutTree:
    tree = RolloutTree(prompt_id="q", example={"answer": "4"})
    tree.add_segment(parent=None, token_ids=list(b"2+2="), policy_version=0)
    for text, finish in ((b"4", FinishReason.FINISHED), (b"5!", FinishReason.EOS)):
        zeros = (0.0,) * len(text)
        draws = TokenDraws(logprobs=zeros, behaviour_logprobs=zeros, entropies=zeros)
        tree.add_segment(
            parent=0, token_ids=list(text), policy_version=0, draws=draws, finish=finish
        )
    return tree


def test_a_character_of_two_tokens_appears_at_the_second() -> None:
    assert token_texts(list("a\u00e9b".encode()), bytes_to_text) == ("a", "", "\u00e9", "b")


def test_a_cut_character_and_text_that_is_no_utf8_stay_at_the_end() -> None:
    assert token_texts([65, 0xC3], bytes_to_text) == ("A", "\ufffd")
    assert "".join(token_texts([0xFF, 66, 0xC3], bytes_to_text)) == "\ufffdB\ufffd"


def test_a_space_that_a_tokenizer_drops_in_front_is_kept_inside() -> None:
    assert token_texts([1, 2, 3], without_leading_space) == ("w1", " w2", " w3")


@given(st.binary(max_size=40))
def test_token_texts_join_to_the_decoded_text(raw: bytes) -> None:
    texts = token_texts(list(raw), bytes_to_text)
    assert len(texts) == len(raw)
    assert "".join(texts) == (bytes_to_text(list(raw)) if raw else "")


def test_a_line_carries_texts_scores_and_advantages(tree: RolloutTree) -> None:
    file = io.StringIO()
    sample = annotate(tree, bytes_to_text, scores=[1.0, float("nan")], advantages=[0.5, -0.5])
    write_jsonl([sample], file)
    values = json.loads(file.getvalue())
    assert values["texts"] == ["2+2=", "4", "5!"]
    assert values["token_texts"][2] == ["5", "!"]
    assert (values["scores"], values["advantages"]) == ([1.0, None], [0.5, -0.5])
    assert list(read_samples([file.getvalue()])) == [sample]
    assert list(read_jsonl([file.getvalue()])) == [tree]


def test_a_tree_written_alone_has_nothing_beside_it(tree: RolloutTree) -> None:
    file = io.StringIO()
    write_jsonl([tree], file)
    assert list(read_samples([file.getvalue()])) == [
        TreeSample(tree=tree, token_texts=(), scores=(), advantages=())
    ]


def test_one_score_and_one_advantage_per_leaf_are_needed(tree: RolloutTree) -> None:
    with pytest.raises(ValueError, match="1 advantages for 2 leaves"):
        annotate(tree, bytes_to_text, scores=[1.0, 0.0], advantages=[0.5])
