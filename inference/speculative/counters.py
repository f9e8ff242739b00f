"""What speculation did: counters, and the rates derived from them.

A bonus or residual token counts as emitted, never as accepted; acceptance is accepted / drafted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from inference.speculative.accept.base import Acceptance
from inference.speculative.draft_tree import DraftTree


@dataclass(slots=True, eq=False)
class SpeculationCounters:
    """Sums over decode steps; add those of several requests with `merge`."""

    steps: int = 0
    """Steps of single requests; each used one target row or more."""
    emitted_tokens: int = 0
    drafted_tokens: int = 0
    """Nodes of the draft trees, all of which the target verified."""
    accepted_tokens: int = 0
    draft_forwards: int = 0
    proposed_at_depth: Counter[int] = field(default_factory=Counter)
    accepted_at_depth: Counter[int] = field(default_factory=Counter)
    drafted_by: Counter[str] = field(default_factory=Counter)
    """Nodes per drafter."""
    accepted_by: Counter[str] = field(default_factory=Counter)

    def count(self, tree: DraftTree, acceptance: Acceptance, draft_forwards: int = 0) -> None:
        """Add one step of one request."""
        self.steps += 1
        self.emitted_tokens += len(acceptance.token_ids)
        self.drafted_tokens += len(tree)
        self.accepted_tokens += len(acceptance.nodes)
        self.draft_forwards += draft_forwards
        self.proposed_at_depth.update(tree.depth)
        self.accepted_at_depth.update(tree.depth[node] for node in acceptance.nodes)
        self.drafted_by.update(tree.source)
        self.accepted_by.update(tree.source[node] for node in acceptance.nodes)

    def merge(self, other: SpeculationCounters) -> None:
        """Add the counts of `other`."""
        self.steps += other.steps
        self.emitted_tokens += other.emitted_tokens
        self.drafted_tokens += other.drafted_tokens
        self.accepted_tokens += other.accepted_tokens
        self.draft_forwards += other.draft_forwards
        self.proposed_at_depth.update(other.proposed_at_depth)
        self.accepted_at_depth.update(other.accepted_at_depth)
        self.drafted_by.update(other.drafted_by)
        self.accepted_by.update(other.accepted_by)

    @property
    def tokens_per_step(self) -> float:
        """Emitted tokens per request and target forward, bonus included; 0 before the first step."""
        return self.emitted_tokens / self.steps if self.steps else 0.0

    @property
    def accepted_frac(self) -> float:
        """Accepted / drafted tokens; 0 if nothing was drafted."""
        return self.accepted_tokens / self.drafted_tokens if self.drafted_tokens else 0.0

    @property
    def drafted_per_emitted(self) -> float:
        """Drafted / emitted tokens."""
        return self.drafted_tokens / self.emitted_tokens if self.emitted_tokens else 0.0

    @property
    def wasted_frac(self) -> float:
        """Share of verified draft tokens that were rejected; 0 if nothing was drafted."""
        return 1.0 - self.accepted_frac if self.drafted_tokens else 0.0
