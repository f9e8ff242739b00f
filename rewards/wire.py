"""What crosses the border between the training process and a worker, and how it is checked.

Towards a worker: the pickled reward (the parent is trusted) and samples as JSON. From a worker: JSON
only, and every field is checked, because user code runs there and may write into the pipe.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from typing import Any

from rewards.base import Reward, Sample, Score, Verdict


class NotAScore(ValueError):
    """A reply has the wrong shape."""


def plain_sample(sample: Sample) -> dict[str, Any]:  # JSON object
    """The sample as JSON; the worker sees columns as JSON would store them."""
    return {
        "completion": sample.completion,
        "reference": _plain(dict(sample.reference)),
        "prompt": sample.prompt,
        "num_tokens": sample.num_tokens,
        "truncated": sample.truncated,
    }


def dedup_key(reward: Reward, sample: Sample) -> str:
    """Samples with equal keys get equal scores; without the reward's own key, all fields count."""
    own = getattr(reward, "dedup_key", None)
    text = own(sample) if own else repr(sorted(plain_sample(sample).items()))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def pickled_reward(reward: Reward) -> bytes:
    """The reward for `pickle.loads` in a worker.

    Raises:
        ValueError: Its class lives in the running script, or it cannot be pickled.
    """
    module = type(reward).__module__
    if module == "__main__":
        raise ValueError(
            f"reward {reward.name!r} is defined in the script that is being run; move the class to a "
            "module of its own and name it my_pkg.my_module:MyReward, workers import it from there"
        )
    try:
        return pickle.dumps(reward)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"reward {reward.name!r} cannot be pickled ({error}); open files, connections and models "
            "in warm_up() or on first use, not in the constructor"
        ) from error


def score_from_reply(reply: Any, failure_value: float, seconds: float) -> Score:
    """Builds the score that a worker reported.

    Args:
        reply: Decoded JSON.
        failure_value: Value of a score whose verdict is CRASHED.
        seconds: Wall-clock seconds to note in the score.

    Raises:
        NotAScore: The reply has the wrong shape.
    """
    try:
        value, verdict = reply["value"], Verdict(reply["verdict"])
        parts = {str(name): float(part) for name, part in reply["parts"].items()}
        detail = str(reply["detail"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise NotAScore("not a score") from error
    if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
        verdict, detail = Verdict.CRASHED, f"value:{value}"[:80]
    if verdict is Verdict.CRASHED:
        value, parts = failure_value, {}
    return Score(value=value, verdict=verdict, parts=parts, detail=detail, seconds=seconds)


def _plain(value: Any) -> Any:  # any column value to its JSON form
    """Column values as JSON would store them: arrays become lists, dates and others text."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
