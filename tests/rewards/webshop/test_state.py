from __future__ import annotations

import dataclasses
import json

import pytest

from rewards.webshop.state import state_from_json, state_to_json
from tests.rewards.webshop.toy_shop import LOTION, toy_shop, walk

STATE = walk(toy_shop(), "search[lotion]", f"click[{LOTION}]", "click[lavender]", 'click[52"w]')


def test_a_state_survives_json() -> None:
    assert state_from_json(state_to_json(STATE)) == STATE
    assert hash(state_from_json(state_to_json(STATE))) == hash(STATE)


def test_a_state_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        STATE.asin = "B2"  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", json.dumps(json.loads(state_to_json(STATE)) | {"page": "cart"}),
             json.dumps(json.loads(state_to_json(STATE)) | {"more": 1})]
)  # fmt: skip
def test_a_text_that_is_no_state_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a shop state"):
        state_from_json(text)
