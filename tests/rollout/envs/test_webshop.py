"""Thoughts and actions in a text simulator."""

from __future__ import annotations

from rollout.envs.webshop import WebShop, WebShopConfig

CONFIG = WebShopConfig(simulator="tests.fake_environments:FakeShop")


def started() -> WebShop:
    shop = WebShop(CONFIG)
    shop.reset({"goal": "red shoe"})
    return shop


def test_the_first_page_is_shown() -> None:
    observation = WebShop(CONFIG).reset({"goal": "red shoe"})
    assert observation is not None
    assert observation.text == "Instruction: [SEP] red shoe [SEP] Search"


def test_a_session_until_the_purchase() -> None:
    shop = started()
    page = shop.step("<think>first</think><action> search[shoe] </action>")
    assert page.text == "shoe [SEP] < Prev [SEP] step 1"
    assert shop.step("<action>click[]</action>").text == "still shoe"
    assert shop.step("no tag</action>").text == "still shoe"
    end = shop.step("<think>that one</think><action>click[buy now]</action>")
    assert end.done
    assert end.detail == {
        "actions": ["search[shoe]", "click[]", "", "click[buy now]"],
        "reward": 0.5,
        "is_done": True,
        "invalid_actions": 2,
        "thoughts": 2,
    }


def test_without_a_purchase_there_is_no_reward() -> None:
    shop = started()
    assert shop.step("<action>search[shoe]</action>").detail["reward"] == 0.0


def test_settings_reach_the_simulator() -> None:
    settings = {"folder": "somewhere"}
    shop = WebShop(WebShopConfig(simulator=CONFIG.simulator, settings=settings))
    shop.reset({})
    assert shop._session is not None
    assert shop._session.folder == "somewhere"  # type: ignore[attr-defined]  # the fake's
