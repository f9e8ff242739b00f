"""From a checked request body to jobs of the scheduler."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import jinja2
from transformers import PreTrainedTokenizerBase

from inference.philox import path_key
from inference.requests import SamplingParams
from inference.server.errors import ApiError
from inference.server.scheduler import Delta, Failure, Job
from inference.server.schema import ChatBody, CompletionBody, GenerationFields

DEFAULT_COMPLETION_TOKENS = 16  # the OpenAI API's default for /v1/completions
Send = Callable[[Delta | Failure], None]
"""Takes the events of a request; called in the engine thread."""
_TURN_TOKENS = 8  # between two looks at stop strings and cancellation when nobody reads along
_SEED_BITS = 53  # a drawn seed survives clients whose JSON numbers are doubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may ask for."""

    context_tokens: int | None
    """Positions the model has; None when its config does not say."""
    vocab_size: int
    max_new_tokens: int
    """Tokens per answer at most."""
    max_kv_tokens: int
    """KV tokens that all running requests share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request that is ready to be queued."""

    jobs: tuple[Job, ...]
    seed: int
    """The client's, or the one drawn for it."""
    cancelled: threading.Event
    """Shared by the jobs."""

    @property
    def num_prompt_tokens(self) -> int:
        """Prompt tokens of the request; a prompt with n answers counts once."""
        return sum(len(job.prompt_ids) for job in self.jobs)

    @property
    def num_answers(self) -> int:
        """Answers the client gets."""
        return sum(len(job.keys) for job in self.jobs)


@dataclass(frozen=True, slots=True)
class Planner:
    """Tokenises prompts and applies the limits; refuses with `ApiError`."""

    tokenizer: PreTrainedTokenizerBase
    limits: Limits

    def completion(self, body: CompletionBody, send: Send) -> Plan:
        """One job per prompt."""
        prompts = [self._prompt_ids(prompt) for prompt in body.prompt]
        for prompt_ids in prompts:
            self._check_prompt(prompt_ids, "prompt")
        default = min(DEFAULT_COMPLETION_TOKENS, *(self._room(ids) for ids in prompts))
        return self._plan(body, prompts, body.max_tokens or default, send)

    def chat(self, body: ChatBody, send: Send) -> Plan:
        """One job for the conversation; without a limit the answer may fill what is left."""
        prompt_ids = self._chat_ids(body)
        self._check_prompt(prompt_ids, "messages")
        return self._plan(body, [prompt_ids], body.max_tokens or self._room(prompt_ids), send)

    def _plan(
        self, body: GenerationFields, prompts: Sequence[list[int]], max_tokens: int, send: Send
    ) -> Plan:
        for prompt_ids in prompts:
            self._check_length(len(prompt_ids), max_tokens, body.n)
        seed = secrets.randbits(_SEED_BITS) if body.seed is None else body.seed
        cancelled = threading.Event()
        jobs = tuple(
            Job(
                prompt_ids=tuple(prompt_ids),
                keys=tuple(path_key(seed, first + i) for i in range(body.n)),
                first_index=first,
                max_new_tokens=max_tokens,
                sampling=_sampling(body),
                stop=tuple(body.stop),
                turn_tokens=1 if body.stream else _TURN_TOKENS,
                send=send,
                cancelled=cancelled,
            )
            for first, prompt_ids in zip(count(0, body.n), prompts, strict=False)
        )
        return Plan(jobs=jobs, seed=seed, cancelled=cancelled)

    def _prompt_ids(self, prompt: str | list[int]) -> list[int]:
        """Text gets the special tokens of the tokenizer; ids are taken as they are."""
        return list(self.tokenizer(prompt).input_ids) if isinstance(prompt, str) else prompt

    def _chat_ids(self, body: ChatBody) -> list[int]:
        if not self.tokenizer.chat_template:
            message = (
                "the tokenizer of this model has no chat template; use /v1/completions, or add a "
                "chat_template.jinja to the checkpoint and start the server again"
            )
            raise ApiError(400, message, param="messages", code="no_chat_template")
        messages = [message.model_dump(exclude_none=True) for message in body.messages]
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except jinja2.TemplateError as error:
            message = f"the chat template of this model refuses the messages: {error}"
            raise ApiError(400, message, param="messages") from error
        # The template wrote the special tokens already.
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _check_prompt(self, prompt_ids: Sequence[int], param: str) -> None:
        if not prompt_ids:
            raise ApiError(400, f"{param} has no tokens; give at least one", param=param)
        size = self.limits.vocab_size
        wrong = next((token for token in prompt_ids if not 0 <= token < size), None)
        if wrong is not None:
            message = f"{param} holds token id {wrong}; the model has ids 0 to {size - 1}"
            raise ApiError(400, message, param=param)
        context = self.limits.context_tokens
        if context is not None and len(prompt_ids) >= context:
            message = (
                f"{param} has {len(prompt_ids)} tokens and the model has a context of {context} "
                "tokens, of which at least one must be left for the answer; shorten it"
            )
            raise ApiError(400, message, param=param, code="context_length_exceeded")

    def _room(self, prompt_ids: Sequence[int]) -> int:
        """Tokens an answer to this prompt may have."""
        most = self.limits.max_new_tokens
        if self.limits.context_tokens is None:
            return most
        return min(most, self.limits.context_tokens - len(prompt_ids))

    def _check_length(self, num_prompt: int, max_tokens: int, num_answers: int) -> None:
        limits = self.limits
        if max_tokens > limits.max_new_tokens:
            message = (
                f"max_tokens={max_tokens} is above this server's limit {limits.max_new_tokens}"
            )
            raise ApiError(400, message, param="max_tokens")
        if limits.context_tokens is not None and num_prompt + max_tokens > limits.context_tokens:
            message = (
                f"{num_prompt} prompt tokens and max_tokens={max_tokens} do not fit into the "
                f"model's context of {limits.context_tokens} tokens; lower one of them"
            )
            raise ApiError(400, message, param="max_tokens", code="context_length_exceeded")
        needed = num_prompt + num_answers * max_tokens
        if needed > limits.max_kv_tokens:
            message = (
                f"the prompt and n={num_answers} answers of {max_tokens} tokens need {needed} KV "
                f"tokens and this server has {limits.max_kv_tokens}; lower n or max_tokens"
            )
            raise ApiError(400, message, param="max_tokens", code="kv_exceeded")


def _sampling(body: GenerationFields) -> SamplingParams:
    return SamplingParams(
        temperature=body.temperature, top_p=body.top_p, top_k=body.top_k, min_p=body.min_p
    )
