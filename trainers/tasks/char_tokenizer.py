r"""A character-level tokenizer for the embedded tasks, in the format of transformers.

Printable ASCII and the line feed are one token each, and so are the words that a task names (of
several that fit, the longest); anything else becomes `<unk>`. Decoding joins the tokens without spaces. No token is added around a text. The chat
template writes the messages of user and assistant one after the other and leaves out all others,
so one user message is the plain prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK, BOX = "<pad>", "<bos>", "<eos>", "<unk>", r"\boxed{"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] in ('user', 'assistant') %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)
_CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))


def char_tokenizer(words: Sequence[str] = (BOX,)) -> PreTrainedTokenizerFast:
    """Builds the tokenizer; `save_pretrained` and AutoTokenizer round-trip it.

    Args:
        words: Texts of several characters that are one token each.
    """
    tokens = [PAD, BOS, EOS, UNK, *words, *_CHARACTERS]
    model = models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=UNK)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_pattern(words)), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def _pattern(words: Sequence[str]) -> str:
    """Any word, longer ones first, or else one character."""
    longest_first = sorted(words, key=len, reverse=True)
    return "|".join([*map(re.escape, longest_first), r"[\s\S]"])
