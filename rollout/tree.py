"""Segment, RolloutTree and Trajectory: what a rollout is, without any engine.

    prompt (segment 0, not sampled)
      +-- 1 --+-- 3 (leaf)
      |       +-- 4 (leaf)
      +-- 2 ------ 5 (leaf, finished)

Invariant: concatenating a path gives exactly the ids that the model saw; text is never re-tokenised.
"""

from __future__ import annotations
