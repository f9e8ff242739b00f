"""Bodies of the answers: events of the scheduler as the JSON of the OpenAI API.

The log-prob of a token is that of the model's full law at the request's temperature (nats; at
temperature 1 for greedy decoding), before top-p, top-k and min-p. Log-probs cover all drawn tokens,
also the one that ended the answer and those of a stop string, which the text does not show.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from inference.server.scheduler import Delta, DrawnToken, Finish
from inference.server.text import Decode

Json = dict[str, Any]  # a JSON object


@dataclass(slots=True)
class Answer:
    """Everything that came for one answer, or for one event of a stream."""

    text: str = ""
    tokens: list[DrawnToken] = field(default_factory=list)
    finish: Finish | None = None

    def add(self, delta: Delta) -> None:
        """Append what one turn brought."""
        self.text += delta.text
        self.tokens.extend(delta.tokens)
        self.finish = delta.finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Fields that all bodies of one request share."""

    id: str
    model: str
    seed: int
    created: int = field(default_factory=lambda: int(time.time()))

    def body(self, kind: str, choices: Sequence[Json], usage: Json | None = None) -> Json:
        """A whole body; `usage` is left out when None."""
        body = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        extra = {} if usage is None else {"usage": usage}
        return {**body, "choices": list(choices), "seed": self.seed, **extra}


class Format(Protocol):
    """How one address spells its answers."""

    whole: ClassVar[str]
    """`object` of a complete body."""
    chunk: ClassVar[str]
    """`object` of an event of a stream."""

    def new_id(self) -> str:
        """An id for a request."""
        ...

    def choice(self, index: int, answer: Answer) -> Json:
        """A complete answer."""
        ...

    def opening(self, index: int) -> Json | None:
        """What a stream says before the first text, None for nothing."""
        ...

    def delta(self, index: int, answer: Answer) -> Json:
        """A piece of an answer."""
        ...


@dataclass(frozen=True, slots=True)
class CompletionFormat:
    """/v1/completions."""

    decode: Decode
    logprobs: int | None
    """As in the request."""
    whole: ClassVar[str] = "text_completion"
    chunk: ClassVar[str] = "text_completion"

    def new_id(self) -> str:
        """An id for a request."""
        return f"cmpl-{secrets.token_hex(12)}"

    def choice(self, index: int, answer: Answer) -> Json:
        """A complete answer."""
        logprobs = None if self.logprobs is None else self._logprobs(answer.tokens)
        return {
            "index": index,
            "text": answer.text,
            "logprobs": logprobs,
            "finish_reason": answer.finish,
        }

    def opening(self, index: int) -> Json | None:
        """Nothing."""
        return None

    def delta(self, index: int, answer: Answer) -> Json:
        """A piece looks like the whole."""
        return self.choice(index, answer)

    def _logprobs(self, tokens: Sequence[DrawnToken]) -> Json:
        texts = [self.decode([token.id]) for token in tokens]
        values = [token.logprob for token in tokens]
        pairs = [{text: value} for text, value in zip(texts, values, strict=True)]
        return {
            "tokens": texts,
            "token_logprobs": values,
            "top_logprobs": pairs if self.logprobs else None,
            "text_offset": [token.offset for token in tokens],
        }


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """/v1/chat/completions."""

    decode: Decode
    logprobs: bool
    """As in the request."""
    whole: ClassVar[str] = "chat.completion"
    chunk: ClassVar[str] = "chat.completion.chunk"

    def new_id(self) -> str:
        """An id for a request."""
        return f"chatcmpl-{secrets.token_hex(12)}"

    def choice(self, index: int, answer: Answer) -> Json:
        """A complete answer."""
        message = {"role": "assistant", "content": answer.text}
        return {"index": index, "message": message, **self._rest(answer)}

    def opening(self, index: int) -> Json | None:
        """The role."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, **self._rest(Answer())}

    def delta(self, index: int, answer: Answer) -> Json:
        """A piece of text, or an empty delta that only tells why the answer ended."""
        delta = {"content": answer.text} if answer.text else {}
        return {"index": index, "delta": delta, **self._rest(answer)}

    def _rest(self, answer: Answer) -> Json:
        wanted = self.logprobs and answer.tokens
        logprobs = {"content": [self._logprob(token) for token in answer.tokens]}
        return {"logprobs": logprobs if wanted else None, "finish_reason": answer.finish}

    def _logprob(self, token: DrawnToken) -> Json:
        text = self.decode([token.id])
        # A part of a character has no text of its own.
        spelled = None if "\ufffd" in text else list(text.encode())
        return {"token": text, "logprob": token.logprob, "bytes": spelled, "top_logprobs": []}


def usage(num_prompt_tokens: int, num_drawn_tokens: int) -> Json:
    """Token counts of a request; a prompt with n answers counts once."""
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_drawn_tokens,
        "total_tokens": num_prompt_tokens + num_drawn_tokens,
    }
