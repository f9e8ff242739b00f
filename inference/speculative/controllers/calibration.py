"""Online calibration of acceptance estimates: mean acceptance per tenth of the draft probability.

The draft probability of a token underestimates its acceptance when the draft law is flat but aligned with the
target: what counts is the overlap of the two laws, not the height of the drawn token. After a target
forward the acceptance probability of every node of the tree is known (`node_accept_probs`), so the
means need no extra work. Lossless: the estimate shapes the tree by tokens that were already drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.speculative.draft_tree import DraftTree


@dataclass(slots=True, eq=False)
class Calibration:
    """Running means of the acceptance probability in bins of the drafter's confidence.

    An instance is an `Estimate`. It belongs to one drafter and one policy version.
    """

    num_bins: int = 10
    _sums: list[float] = field(init=False)
    _counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.num_bins < 1:
            raise ValueError(f"num_bins={self.num_bins} must be at least 1; the usual value is 10")
        self.reset()

    def reset(self) -> None:
        """Forget everything: the weights changed."""
        self._sums = [0.0] * self.num_bins
        self._counts = [0] * self.num_bins

    def update(self, tree: DraftTree, accept_probs: list[float], source: str) -> None:
        """Learn from the nodes of one drafter.

        Args:
            tree: The draft tree of a finished step.
            accept_probs: [N] what `node_accept_probs` returned for it.
            source: Name of the drafter; nodes of others are ignored.
        """
        for node, prob in enumerate(accept_probs):
            if tree.source[node] == source:
                index = self._bin(tree.confidence[node])
                self._sums[index] += prob
                self._counts[index] += 1

    def __call__(self, tree: DraftTree, node: int) -> float:
        """Return the mean of the node's bin; the confidence itself as long as the bin is empty."""
        confidence = tree.confidence[node]
        index = self._bin(confidence)
        count = self._counts[index]
        return self._sums[index] / count if count else confidence

    def curve(self) -> list[float | None]:
        """Return the mean of each bin, None for empty ones."""
        return [s / n if n else None for s, n in zip(self._sums, self._counts, strict=True)]

    def _bin(self, confidence: float) -> int:
        return min(self.num_bins - 1, int(confidence * self.num_bins))
