"""Rewards for tests, in a module that workers can import without torch."""

from __future__ import annotations

from rewards.base import Sample, Score, Verdict


class CountDigits:
    """Number of digits in the completion; cheap, varied, deterministic."""

    name = "count_digits"

    def score(self, sample: Sample) -> Score:
        """One point per digit."""
        value = float(sum(c.isdigit() for c in sample.completion))
        return Score(value=value, verdict=Verdict.CORRECT if value else Verdict.WRONG)


class PartlyUnusable:
    """Cannot judge the prompts sum-0 and sum-1."""

    name = "partly_unusable"

    def score(self, sample: Sample) -> Score:
        """None for two references, else something that varies."""
        if sample.reference["prompt_id"] in ("sum-0", "sum-1"):
            return Score(value=None, verdict=Verdict.BAD_REFERENCE)
        return Score(value=float(len(sample.completion) % 3), verdict=Verdict.CORRECT)


class StartsHigh:
    """1 if the first character is a digit of at least 5: often equal for all leaves of a prompt."""

    name = "starts_high"

    def score(self, sample: Sample) -> Score:
        """One point or none."""
        value = float(sample.completion[:1] in tuple("56789"))
        return Score(value=value, verdict=Verdict.CORRECT if value else Verdict.WRONG)
