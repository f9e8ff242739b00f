from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trainers.tasks.char_tokenizer import char_tokenizer

TEXTS = [
    r"97+08=05;\boxed{01}",
    "",
    "  two  spaces , and . punctuation\n\n",
    r"\boxed \boxed{{ }",
    "~!",
]


@pytest.fixture(params=["built", "loaded"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> PreTrainedTokenizerFast:
    built = char_tokenizer()
    if request.param == "built":
        return built
    built.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_gives_the_text_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_box_is_one_token_and_all_else_is_single_characters(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    ids = tokenizer(r"5;\boxed{01}")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["5", ";", r"\boxed{", "0", "1", "}"]


def test_no_token_is_added_around_a_text(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer("12")["input_ids"]) == 2


def test_the_special_tokens_differ(tokenizer: PreTrainedTokenizerFast) -> None:
    special = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id]
    assert special == [0, 1, 2]
    assert tokenizer.decode([0, 1, 40, 2], skip_special_tokens=True) == tokenizer.decode([40])


def test_other_characters_become_unknown(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("1\u00e92")["input_ids"][1] == tokenizer.unk_token_id


def test_the_chat_template_writes_one_user_message_as_the_plain_prompt(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+2="}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "1+2="


def test_left_padding_is_the_default(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer(["1", "123"], padding=True)["input_ids"][0][:2] == [0, 0]


def test_of_several_words_the_longest_is_taken() -> None:
    tokenizer = char_tokenizer(("max", "maximum", " max", "(a|b)"))
    ids = tokenizer("maximum max(a|b)ma")["input_ids"]
    expected = ["maximum", " max", "(a|b)", "m", "a"]
    assert tokenizer.convert_ids_to_tokens(ids) == expected
