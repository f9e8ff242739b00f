"""A verifier that can be made to hang, in a module that workers can import."""

from __future__ import annotations

from rewards.base import Sample, Score
from rewards.math_answer import MathAnswer

HANG = "<hang>"
TIMEOUT_S = 1.0


class HangingAnswer(MathAnswer):
    """MathAnswer whose verifier never returns on marked completions."""

    def __init__(self) -> None:
        super().__init__()
        self.timeout_s = TIMEOUT_S

    def quick_score(self, sample: Sample) -> Score | None:
        """Marked samples go to a worker, like answers that need algebra."""
        return None if HANG in sample.completion else super().quick_score(sample)

    def dedup_key(self, sample: Sample) -> str:
        """Marked samples stay apart."""
        return sample.completion if HANG in sample.completion else super().dedup_key(sample)

    def score(self, sample: Sample) -> Score:
        """Loop for ever where marked."""
        while HANG in sample.completion:
            pass
        return super().score(sample)
