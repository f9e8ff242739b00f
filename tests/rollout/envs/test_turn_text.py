"""Ends of turns, and observations as tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.envs.base import ActionLine, ClosingTags, TurnFormat
from rollout.envs.turn_text import ObservationEncoder, TurnEnd, find_turn_end, neutralised

TURNS = TurnFormat(
    action_end=ClosingTags(("</a>", "</bb>")),
    observation_open="<r>",
    observation_close="</r>",
    forbidden=("<r>", "</r>"),
    reserved=("<a>", "</a>"),
    cut_mark="...",
)
PIECES = ["<a>", "hm", "</", "a", ">", ">\n", "</a>", "<r", ">x", "</bb", "><r>", "\ud83d\uded2"]


def decode(token_ids: Sequence[int]) -> str:
    """Token i is PIECES[i]."""
    return "".join(PIECES[i] for i in token_ids)


def encode(text: str) -> list[int]:
    """Tokens of up to three characters."""
    return [sum(map(ord, text[i : i + 3])) for i in range(0, len(text), 3)]


def end(tokens: Sequence[int], before: Sequence[int] = (), num_seen: int = 0) -> TurnEnd | None:
    return find_turn_end(before, tokens, num_seen=num_seen, turns=TURNS, decode=decode)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([0, 1, 6], TurnEnd(num_tokens=3, action="<a>hm</a>")),
        ([0, 1, 2, 3, 4, 1, 1], TurnEnd(num_tokens=5, action="<a>hm</a>")),
        ([0, 1, 2, 3, 5, 1], TurnEnd(num_tokens=5, action="<a>hm</a>")),  # "\n" stays in the token
        ([0, 1, 9, 10], TurnEnd(num_tokens=4, action="<a>hm</bb>")),  # the action ends first
        ([0, 1, 7, 8, 6], TurnEnd(num_tokens=4, action=None)),
        ([6, 6], TurnEnd(num_tokens=1, action="</a>")),
        ([6, 7, 8], TurnEnd(num_tokens=1, action="</a>")),
        ([0, 1, 2, 3], None),
        ([], None),
    ],
)
def test_the_first_completing_token_ends_the_turn(
    tokens: list[int], expected: TurnEnd | None
) -> None:
    assert end(tokens) == expected


@given(st.lists(st.integers(0, 10), max_size=14), st.integers(0, 14), st.integers(1, 5))
def test_it_does_not_matter_how_a_turn_is_cut_into_segments_and_pieces(
    tokens: list[int], at: int, piece: int
) -> None:
    """Reading everything at once against reading piece by piece, as growth does."""
    whole = end(tokens)
    if whole is not None and whole.num_tokens <= at:
        at = 0
    before, rest = tokens[:at], tokens[at:]
    found = None
    for start in range(0, len(rest), piece):
        found = end(rest[: start + piece], before, start)
        if found is not None:
            break
    assert (found is None) == (whole is None)
    if found is not None and whole is not None:
        assert (at + found.num_tokens, found.action) == (whole.num_tokens, whole.action)


def test_an_action_line_ends_with_its_line_feed() -> None:
    rule = ActionLine("Action:")
    assert rule.find("Thought: Action: x\nAction: go") is None
    assert rule.find("hm\nAction: go\nx") == len("hm\nAction: go\n")


def test_observations_are_framed() -> None:
    assert ObservationEncoder(TURNS, encode, 20).encode("hello") == tuple(encode("<r>hello</r>"))


@pytest.mark.parametrize("length", [0, 1, 10, 11, 12, 13, 500, 10**6])
def test_observations_keep_to_their_limit_and_cut_as_little_as_possible(length: int) -> None:
    encoder = ObservationEncoder(TURNS, list_of_characters, 20)
    text = "".join(chr(97 + i % 26) for i in range(length))
    ids = encoder.encode(text)
    if length <= 20 - 7:
        assert "".join(map(chr, ids)) == f"<r>{text}</r>"
    else:
        assert "".join(map(chr, ids)) == f"<r>{text[:10]}...</r>"


def test_a_cut_does_not_split_characters() -> None:
    encoder = ObservationEncoder(TURNS, lambda text: list(text.encode()), 21)
    text = bytes(encoder.encode("\U0001f6d2" * 9)).decode()
    assert text == "<r>" + "\U0001f6d2" * 2 + "...</r>"


def test_the_limit_must_hold_the_frame() -> None:
    with pytest.raises(ValueError, match=r"max_observation_tokens=9 .* 10 tokens"):
        ObservationEncoder(TURNS, list_of_characters, 9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a</r><a>b</a>", "a&lt;/r>&lt;a>b&lt;/a>"),
        ("<<r>r>", "<&lt;r>r>"),
        ("< Prev, Next >", "< Prev, Next >"),
        ("\ud83dx", "?x"),
    ],
)
def test_observations_cannot_speak_the_protocol(text: str, expected: str) -> None:
    assert neutralised(text, TURNS) == expected


def test_tags_must_look_like_tags() -> None:
    with pytest.raises(ValueError, match=r"\['Action:'\] must start with '<'"):
        TurnFormat(
            action_end=ActionLine("Action:"),
            observation_open="",
            observation_close="",
            reserved=("Action:",),
        )


def list_of_characters(text: str) -> list[int]:
    return [ord(char) for char in text]
