"""Tables, panels and the reward-curve picture of the demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from langptune.cli.output import console

if TYPE_CHECKING:
    from langptune.client import Interaction, Profile, Recommendation
    from langptune.evaluate import Comparison, Scores

_BARS = "▁▂▃▄▅▆▇█"
_SMOOTHING = 5  # batches in a moving average


def heading(number: int, title: str) -> None:
    """The start of a chapter."""
    console.print()
    console.rule(f"[bold]{number}. {title}", align="left")


def say(text: str) -> None:
    """One line, as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def show_history(history: Sequence[Interaction]) -> None:
    """Oldest first."""
    table = Table(show_edge=False)
    for column in ("film", "what it is", "stars", "review"):
        table.add_column(column, justify="right" if column == "stars" else "left")
    for entry in history:
        table.add_row(Text(entry.item.title), Text(entry.item.description), f"{entry.rating:.0f}", Text(entry.review))
    console.print(table)


def show_profile(profile: Profile) -> None:
    """The text and where it comes from."""
    title = f"revision {profile.revision}, {profile.origin.value}, release {profile.versions.release_id}"
    console.print(Panel(Text(profile.text), title=title, title_align="left"))


def show_moves(before: Recommendation, after: Recommendation, top: int) -> None:
    """The first `top` places of `after` beside where the same items stood in `before`."""
    was = {place.item.item_id: place.position for place in before.items}
    table = Table(show_edge=False)
    for column in ("now", "before", "film", "what it is"):
        table.add_column(column, justify="right" if column in ("now", "before") else "left", no_wrap=column != "what it is")
    for place in after.items[:top]:
        old = was.get(place.item.item_id)
        mark = "" if old == place.position else " ↓" if old and old < place.position else " ↑"
        table.add_row(
            f"{place.position}{mark}", str(old) if old else f">{len(was)}", Text(place.item.title), Text(place.item.description)
        )
    console.print(table)


def show_scores(rows: Sequence[tuple[str, Scores]], cutoff: int) -> None:
    """Means with 95 % confidence intervals."""
    table = Table(show_edge=False)
    table.add_column("")
    for name in (f"Recall@{cutoff}", f"MRR@{cutoff}", f"NDCG@{cutoff}"):
        table.add_column(name, justify="right")
    for label, scores in rows:
        found = scores.estimates()
        cells = (found[name] for name in ("recall", "mrr", "ndcg"))
        table.add_row(label, *(f"{cell.mean:.4f} ± {cell.high - cell.mean:.4f}" for cell in cells))
    console.print(table)


def show_comparison(comparison: dict[str, Comparison], cutoff: int) -> None:
    """Before, after, ratio and p."""
    for name in ("recall", "mrr", "ndcg"):
        found = comparison[name]
        figures = f"{found.before:.4f} -> {found.after:.4f}, x{found.ratio:.2f}, paired t-test p = {found.p_value:.2g}"
        say(f"{name.upper():>6}@{cutoff}: {figures}")


def sparkline(values: Sequence[float], width: int = 30) -> str:
    """The last `width` values, smoothed, as a row of bars; empty for none."""
    recent = moving_average(values)[-width:]
    if not recent:
        return ""
    low, span = min(recent), max(recent) - min(recent)
    return "".join(_BARS[int((value - low) / span * (len(_BARS) - 1)) if span else 0] for value in recent)


def moving_average(values: Sequence[float]) -> list[float]:
    """Each value averaged with those before it, at most _SMOOTHING of them."""
    parts = [values[max(0, at - _SMOOTHING + 1) : at + 1] for at in range(len(values))]
    return [sum(part) / len(part) for part in parts]


def draw_rewards(path: Path, rewards: Sequence[tuple[int, float]]) -> None:
    """The reward of each RLSO batch, (step, mean NDCG of its rollouts), as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps, values = [step for step, _ in rewards], [value for _, value in rewards]
    axes.plot(steps, values, "o", alpha=0.4, label="one batch")
    axes.plot(steps, moving_average(values), label=f"mean of {_SMOOTHING} batches")
    axes.set_title("Reward of sampled profiles during RLSO")
    axes.set_xlabel("training step (batches)")
    axes.set_ylabel("reward: mean NDCG over the whole catalogue")
    axes.grid(alpha=0.3)
    if rewards:
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
