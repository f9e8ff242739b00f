"""The learning curve as a picture: training reward and held-out accuracy against the step."""

from __future__ import annotations

from pathlib import Path

from trainers.monitoring.metrics_file import FILE, read_metrics

PICTURE = "learning_curve.png"


def draw_learning_curve(run_dir: Path, title: str) -> Path | None:
    """Draw learning_curve.png from metrics.jsonl; None when there is nothing to draw yet."""
    rows = read_metrics(run_dir / FILE)
    rewards = [(row["step"], row["reward"]) for row in rows if "reward" in row]
    if not rewards:
        return None
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.plot(*zip(*rewards, strict=True), color="#9db8d9", linewidth=1, label="rollout batch")
    left.plot(
        *zip(*_running_mean(rewards), strict=True), color="#1f4e8c", label="mean of 5 batches"
    )
    left.set(xlabel="optimizer step", ylabel="training reward", title="reward")
    left.legend()
    for key in sorted({k for row in rows for k in row if k.startswith("eval/") and "_at_" in k}):
        points = [(row["step"], row[key]) for row in rows if key in row]
        right.plot(*zip(*points, strict=True), marker="o", markersize=3, label=key[5:])
    right.set(xlabel="optimizer step", ylabel="held-out share", ylim=(0, 1.02), title="held-out")
    if right.lines:
        right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    path = run_dir / PICTURE
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _running_mean(points: list[tuple[float, float]], span: int = 5) -> list[tuple[float, float]]:
    """Mean of up to `span` newest values at each point."""
    values = [value for _, value in points]
    return [
        (step, sum(values[max(0, i - span + 1) : i + 1]) / min(i + 1, span))
        for i, (step, _) in enumerate(points)
    ]
