from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.server.text import IncrementalDecoder, StopStrings, TextStream


def decode_bytes(token_ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are bytes; 256 is a special token without text."""
    return bytes(token for token in token_ids if token < 256).decode(errors="replace")


def decode_words(token_ids: Sequence[int]) -> str:
    """A tokenizer that drops the space before the first word of what it decodes."""
    return "".join(f" w{token}" for token in token_ids).removeprefix(" ")


def test_a_character_of_three_tokens_comes_out_whole() -> None:
    decoder = IncrementalDecoder(decode_bytes)
    assert [decoder.push(byte) for byte in "a\u20acb".encode()] == ["a", "", "", "\u20ac", "b"]


def test_the_bytes_of_an_incomplete_character_come_at_the_end() -> None:
    decoder = IncrementalDecoder(decode_bytes)
    assert [decoder.push(byte) for byte in b"a\xe2\x82"] == ["a", "", ""]
    assert decoder.finish() == "\ufffd"


def test_spaces_between_words_survive_although_each_window_drops_its_first() -> None:
    decoder = IncrementalDecoder(decode_words)
    assert [decoder.push(token) for token in (1, 2, 3)] == ["w1", " w2", " w3"]


@given(st.lists(st.integers(0, 256), max_size=30))
def test_joined_pieces_equal_the_decoding_of_all_tokens(token_ids: list[int]) -> None:
    decoder = IncrementalDecoder(decode_bytes)
    pieces = [decoder.push(token) for token in token_ids]
    assert "".join(pieces) + decoder.finish() == decode_bytes(token_ids)


@given(st.text(max_size=20))
def test_no_piece_of_valid_text_holds_a_broken_character(text: str) -> None:
    decoder = IncrementalDecoder(decode_bytes)
    pieces = [decoder.push(byte) for byte in text.encode()]
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


def first_complete_stop(text: str, stop: list[str]) -> tuple[str, bool]:
    """Slow oracle: try every prefix of the text, shortest first."""
    for end in range(1, len(text) + 1):
        ends = [s for s in stop if text[:end].endswith(s)]
        if ends:
            return text[: end - max(map(len, ends))], True
    return text, False


@given(
    st.lists(st.text("abc", max_size=4), max_size=8),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
)
def test_stop_strings_agree_with_the_search_of_every_prefix(
    pieces: list[str], stop: list[str]
) -> None:
    matcher = StopStrings(stop)
    released = "".join(matcher.push(piece) for piece in pieces) + matcher.finish()
    assert (released, matcher.has_matched) == first_complete_stop("".join(pieces), stop)


def test_text_that_may_begin_a_stop_string_is_held_back() -> None:
    matcher = StopStrings(["END", "ENTER"])
    assert [matcher.push(c) for c in "xENTy"] == ["x", "", "", "", "ENTy"]


def test_a_stop_string_may_span_tokens_and_cuts_what_follows() -> None:
    stream = TextStream(decode_bytes, ["st\u00f6p"])
    text = "".join(stream.push(byte) for byte in "go st\u00f6p on".encode())
    assert (text, stream.has_stopped) == ("go ", True)


@pytest.mark.parametrize(("stop", "text"), [((), "ab\ufffd"), (("b\ufffd",), "a")])
def test_finish_releases_the_rest_and_still_sees_a_stop_string(
    stop: tuple[str, ...], text: str
) -> None:
    stream = TextStream(decode_bytes, stop)
    pushed = "".join(stream.push(byte) for byte in b"ab\xe2")
    assert pushed + stream.finish() == text
