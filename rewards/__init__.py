"""Text in, Score out: verifiers that run in killable worker processes."""

RAMIFY_PACKAGE = "rewards"
