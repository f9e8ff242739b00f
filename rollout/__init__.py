"""Which rollout tree to grow: segments, branching, stopping, fallback."""

RAMIFY_PACKAGE = "rollout"
