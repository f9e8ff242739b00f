"""Bodies of the two generating addresses, checked strictly: nothing is ignored in silence.

A known field of the OpenAI API that this server does not implement is accepted only with a value
that asks for nothing (`frequency_penalty: 0`, `tools: []`, null); anything else is refused.
Fields that only label a request (`user`, `metadata`, `safety_identifier`) are accepted.
Extra fields of this server: `top_k`, `min_p`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_STOP_STRINGS = 4
_MAX_CHOICES = 128

_LABELS = frozenset({"user", "metadata", "safety_identifier"})
# Field -> values that ask for nothing.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_cache_key": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning_effort": (),
    "refusal": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_calls": ([],),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}


def _bad(message: str, **values: object) -> PydanticCustomError:
    return PydanticCustomError("bad_value", message, values)


def _unsupported(param: str, what: str) -> PydanticCustomError:
    message = "{param}: {what} is not supported by this server; leave it out"
    return PydanticCustomError("unsupported", message, {"param": param, "what": what})


def _as_prompts(value: object) -> object:
    """Four spellings of a prompt as one list of prompts."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise _bad("prompt must be a string, a list of strings, token ids or lists of token ids")
    if all(_is_token(item) for item in value):
        return [value]
    if all(isinstance(item, str) for item in value) or all(_is_token_list(item) for item in value):
        return value
    raise _bad("prompt must hold either only strings, only token ids, or only lists of token ids")


def _is_token(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _is_token_list(item: object) -> bool:
    return isinstance(item, list) and all(_is_token(token) for token in item)


def _as_stop(value: object) -> object:
    """One stop string or a list of them as a list."""
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(item, str) for item in strings):
        raise _bad("stop must be a string or a list of strings")
    if len(strings) > MAX_STOP_STRINGS:
        raise _bad("stop has {given} strings; at most {most}", given=len(strings), most=4)
    if "" in strings:
        raise _bad("stop holds an empty string, which would end every answer at once")
    return strings


def _as_text(value: object) -> object:
    """Content given as a list of text parts, joined with line breaks."""
    if not isinstance(value, list):
        return value
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" and isinstance(kind, str):
            raise _unsupported("messages", f"content of type {kind!r}")
        if kind != "text" or not isinstance(part.get("text"), str):
            raise _bad('a part of a content list must be {"type": "text", "text": "..."}')
    return "\n".join(part["text"] for part in value)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_supported(cls, body: Any) -> Any:  # whatever JSON the client sent
        if not isinstance(body, dict):
            return body
        for name in body.keys() & _UNSUPPORTED.keys():
            if body[name] is not None and body[name] not in _UNSUPPORTED[name]:
                raise _unsupported(name, "this")
        dropped = _UNSUPPORTED.keys() | _LABELS
        return {name: body[name] for name in body if name not in dropped and body[name] is not None}


class StreamOptions(_Body):
    """What a stream tells besides the text."""

    include_usage: bool = False
    """Send token counts in a last event of their own."""
    include_obfuscation: Literal[False] = False
    """Padding of events is not supported."""


class GenerationFields(_Body):
    """What both addresses have in common."""

    model: str
    """Name of the served model, see /v1/models."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens to draw at most, the one that ends the answer included."""
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    """Logits are divided by it; 0 is greedy."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Keep the smallest set of tokens whose probability reaches it."""
    top_k: int = Field(default=0, ge=0)
    """Keep the k most probable tokens; 0 = off."""
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Drop tokens less probable than min_p times the most probable one."""
    n: int = Field(default=1, ge=1, le=_MAX_CHOICES)
    """Answers per prompt; the prompt is computed once."""
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    """The same seed gives the same answers; None: one is drawn and returned."""
    stop: Annotated[list[str], BeforeValidator(_as_stop)] = Field(default_factory=list)
    """Up to four strings that end an answer; the text is cut before them."""
    stream: bool = False
    """Send the answer piece by piece as server-sent events."""
    stream_options: StreamOptions | None = None
    """Only together with `stream`."""

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            message = "stream_options has an effect only with stream: true"
            raise PydanticCustomError("bad_value", message, {"param": "stream_options"})
        return self


class CompletionBody(GenerationFields):
    """Body of POST /v1/completions."""

    prompt: Annotated[list[str | list[int]], BeforeValidator(_as_prompts)]
    """A string, a list of strings, token ids, or a list of lists of token ids."""
    logprobs: int | None = Field(default=None, ge=0, le=1)
    """0 or 1: also return the log-prob of every drawn token."""


class ChatMessage(_Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    """Who speaks; the chat template decides which roles it knows."""
    content: Annotated[str, BeforeValidator(_as_text)]
    """Text, or a list of text parts."""
    name: str | None = None
    """Handed to the chat template."""


class ChatBody(GenerationFields):
    """Body of POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    """The conversation so far."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The newer name of max_tokens."""
    logprobs: bool = False
    """Also return the log-prob of every drawn token."""

    @model_validator(mode="after")
    def _use_one_limit(self) -> Self:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            message = "max_tokens and max_completion_tokens differ; give one of them"
            raise PydanticCustomError("bad_value", message, {"param": "max_tokens"})
        self.max_tokens = next(iter(limits), None)
        return self
