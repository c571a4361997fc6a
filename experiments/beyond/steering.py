"""Steerability: say one thing more in a profile, and see how far the items move that it is about (docs/metrics.md).

An edit towards an attribute puts "They like X." before the text, an edit away "They dislike X." and takes out the sentences that
mention it. Before, so that no embedder cuts it off the end of a long text; the same edit for every system, raw histories
included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.beyond.attributes import Attributes
from experiments.beyond.reopen import Reopened
from experiments.runs import Result
from langptune.domain import Session
from langptune.text import liking_text, sentences

Kind = Literal["common", "niche", "compound"]
Direction = Literal["towards", "away"]
KINDS: tuple[Kind, ...] = ("common", "niche", "compound")
DIRECTIONS: tuple[Direction, ...] = ("towards", "away")
TOP = 20  # places
_BATCH = 512  # texts embedded at a time


@dataclass(frozen=True, slots=True)
class Edit:
    """One change to one user's text."""

    user: int  # row of the texts
    kind: Kind
    direction: Direction
    attributes: tuple[int, ...]  # one, or the two of a compound


@dataclass(frozen=True, slots=True)
class Moved:
    """What an edit did. Items of the history are not ranked."""

    shift: float  # mean change of the percentile rank of items with the attribute, in the asked direction, -1 to 1
    success: float  # 1.0 if shift > 0
    top_before: float  # share of the first TOP places that such items hold
    top_after: float
    collateral: float  # 1 - Spearman correlation of the ranks of all other items, before and after


def edited(text: str, edit: Edit, attributes: Attributes) -> str:
    """`text` after the edit."""
    phrase = " and ".join(attributes.phrases[at] for at in edit.attributes)
    if edit.direction == "towards":
        return f"{liking_text(phrase)} {text}"
    gone = [attributes.patterns[at] for at in edit.attributes]
    kept = [sentence for sentence in sentences(text) if not any(pattern.search(sentence) for pattern in gone)]
    return " ".join([f"They dislike {phrase}.", *kept])


def draw_edits(attributes: Attributes, users: int, each: int, seed: int) -> list[Edit]:
    """`each` attributes of each kind for each user, both ways. The same for every system on the same data."""
    rng = np.random.default_rng([seed, 0x57])
    pools: dict[Kind, list[tuple[int, ...]]] = {
        "common": [(at,) for at in attributes.common()],
        "niche": [(at,) for at in attributes.niche()],
        "compound": list(attributes.compound()),
    }
    return [
        Edit(user, kind, direction, pool[at])
        for user in range(users)
        for kind, pool in pools.items()
        for at in rng.permutation(len(pool))[:each].tolist()
        for direction in DIRECTIONS
    ]


def moved(
    before: NDArray[np.floating], after: NDArray[np.floating], having: NDArray[np.bool_], direction: Direction
) -> Moved | None:
    """From the scores of the rankable items, [n] each; None if all of them or none have the attribute."""
    if having.all() or not having.any():
        return None
    ranks = [stats.rankdata(-scores, method="average") for scores in (before, after)]  # 1 is best
    change = float((ranks[0][having] - ranks[1][having]).mean()) / len(before)
    shift = change if direction == "towards" else -change
    top = [float(having[np.argsort(-scores, kind="stable")[:TOP]].mean()) for scores in (before, after)]
    others = [rank[~having] for rank in ranks]
    return Moved(shift, float(shift > 0), top[0], top[1], 1.0 - _correlation(*others))


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's; 1.0 where one side has no order to lose."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 1.0
    return float(stats.spearmanr(first, second).statistic)


def steer(result: Result, users: int, each: int) -> dict[str, Any]:
    """A row for each edit of the first `users` test users: user, kind, direction, and what moved."""
    run = Reopened(result)
    sessions, texts = run.sessions[:users], [text.text for text in run.texts[:users]]
    attributes = Attributes.of(run.dataset)
    edits = draw_edits(attributes, len(sessions), each, run.seed)
    before = run.similarities(texts)
    rows = []
    for begin in range(0, len(edits), _BATCH):
        part = edits[begin : begin + _BATCH]
        after = run.similarities([edited(texts[edit.user], edit, attributes) for edit in part])
        for edit, scores in zip(part, after, strict=True):
            found = _of_user(run, sessions[edit.user], edit, attributes, (before[edit.user], scores))
            if found:
                rows.append(
                    {"user": sessions[edit.user].user_id, "kind": edit.kind, "direction": edit.direction, **asdict(found)}
                )
    return {"rows": rows}


def _of_user(
    run: Reopened, session: Session, edit: Edit, attributes: Attributes, scores: Sequence[NDArray[np.floating]]
) -> Moved | None:
    ranked = np.ones(len(run.positions), dtype=bool)
    ranked[[run.positions[entry.item.item_id] for entry in session.history]] = False
    having = attributes.has[ranked][:, list(edit.attributes)]
    return moved(scores[0][ranked], scores[1][ranked], np.all(having, axis=1), edit.direction)
