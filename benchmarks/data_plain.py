"""The preparation as one would first write it in pandas: whole files in memory, one row after another. A baseline and a twin.

    python -m benchmarks.data_plain --reviews R.jsonl --metadata M.jsonl --json PATH

The steps of `langptune data prepare` with its defaults (split first-4), in its order, on plain files of well-formed lines; a
test holds the results of both against each other. Cleaning, text forms and token estimate are the shared ones, so what is
compared is how the rows are read, filtered, joined and cut.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from langptune.data.clean import plain_list, plain_text, price
from langptune.data.options import PrepareOptions
from langptune.data.tokens import WordEstimate
from langptune.domain import Interaction, Item
from langptune.text import item_text, prompt_text

_FIELDS = ("user_id", "parent_asin", "rating", "timestamp", "text")


@dataclass(frozen=True)
class Plain:
    """What was prepared, as plain rows in the order of the Parquet files."""

    items: list[Item]
    interactions: list[tuple[str, Interaction]]
    sessions: list[tuple[str, str, list[int], list[str]]]  # user, split, rows of the history, targets


def prepare_plain(reviews: Path, metadata: Path, options: PrepareOptions | None = None) -> Plain:
    """Prepare two plain JSON-lines files; of `options`, the split must be first-4 and texts over a limit drop."""
    options = options or PrepareOptions()
    items = read_items(metadata)
    frame = read_reviews(reviews)
    order = {user: at for at, user in enumerate(frame["user_id"].drop_duplicates())}
    frame = keep(frame, lambda row: row["parent_asin"] in items)
    frame = k_core(first_reviews(frame), options.min_interactions)
    frame["review"] = frame.apply(lambda row: plain_text(row["text"] if isinstance(row["text"], str) else None), axis=1)
    frame["order"] = frame.apply(lambda row: order[row["user_id"]], axis=1)
    frame = frame.sort_values(["order", "timestamp", "line"])
    frame = drop_long_items(frame, items, options)
    frame = drop_long_prompts(frame, items, options)
    frame = k_core(frame, options.min_interactions)
    counts = frame.groupby("user_id").size()
    frame = keep(frame, lambda row: counts[row["user_id"]] > options.history_length)
    return cut_sessions(frame, items, options)


def read_items(path: Path) -> dict[str, Item]:
    """Items with a title, by id, in file order."""
    items: dict[str, Item] = {}
    with path.open() as lines:
        for raw in map(json.loads, lines):
            if raw["parent_asin"] and plain_text(raw["title"]) and raw["parent_asin"] not in items:
                items[raw["parent_asin"]] = Item(
                    item_id=raw["parent_asin"],
                    title=plain_text(raw["title"]),
                    description=" ".join(plain_list(raw["description"])),
                    categories=tuple(plain_list(raw["categories"])),
                    average_rating=raw["average_rating"],
                    price=price(raw["price"]),
                )
    return items


def read_reviews(path: Path) -> pd.DataFrame:
    """Complete reviews, with the number of their line."""
    with path.open() as lines:
        rows = [{name: raw.get(name) for name in _FIELDS} for raw in map(json.loads, lines)]
    frame = pd.DataFrame(rows, columns=list(_FIELDS))
    frame["line"] = range(1, len(frame) + 1)
    return keep(frame, _is_whole)


def _is_whole(row: Any) -> bool:
    ids = row["user_id"], row["parent_asin"]
    return all(isinstance(name, str) and name for name in ids) and not pd.isna(row["rating"]) and not pd.isna(row["timestamp"])


def keep(frame: pd.DataFrame, wanted: Callable[[Any], bool]) -> pd.DataFrame:
    """The rows that are wanted."""
    return frame if frame.empty else frame[frame.apply(wanted, axis=1).astype(bool)]


def first_reviews(frame: pd.DataFrame) -> pd.DataFrame:
    """Each user's first review of an item, by time."""
    seen: set[tuple[str, str]] = set()
    lines = set()
    for _, row in frame.sort_values(["timestamp", "line"]).iterrows():
        if (row["user_id"], row["parent_asin"]) not in seen:
            seen.add((row["user_id"], row["parent_asin"]))
            lines.add(row["line"])
    return keep(frame, lambda row: row["line"] in lines)


def k_core(frame: pd.DataFrame, k: int) -> pd.DataFrame:
    """Drop rows of rare users and items until there are none."""
    before = -1
    while len(frame) != before:
        before = len(frame)
        frame = keep(frame, _is_common(frame.groupby("user_id").size(), frame.groupby("parent_asin").size(), k))
    return frame


def _is_common(users: pd.Series, items: pd.Series, k: int) -> Callable[[Any], bool]:
    return lambda row: bool(users[row["user_id"]] >= k and items[row["parent_asin"]] >= k)


def drop_long_items(frame: pd.DataFrame, items: dict[str, Item], options: PrepareOptions) -> pd.DataFrame:
    """Without users who have an item that is too long."""
    count = WordEstimate().count
    asins = frame["parent_asin"].unique()
    long = {asin for asin in asins if count([item_text(items[asin])])[0] > options.item_tokens}
    touched = {row["user_id"] for _, row in frame.iterrows() if row["parent_asin"] in long}
    return keep(frame, lambda row: row["user_id"] not in touched)


def drop_long_prompts(frame: pd.DataFrame, items: dict[str, Item], options: PrepareOptions) -> pd.DataFrame:
    """Without users whose first history makes too long a prompt."""
    long = {
        user
        for user, rows in frame.groupby("user_id", sort=False)
        if len(rows) > options.history_length and not _fits(rows.head(options.history_length), items, options)
    }
    return keep(frame, lambda row: row["user_id"] not in long)


def _fits(rows: pd.DataFrame, items: dict[str, Item], options: PrepareOptions) -> bool:
    history = [_interaction(row, items) for _, row in rows.iterrows()]
    return WordEstimate().count([prompt_text(history, options.domain)])[0] <= options.prompt_tokens


def _interaction(row: Any, items: dict[str, Item]) -> Interaction:
    return Interaction(items[row["parent_asin"]], row["rating"], row["review"], int(row["timestamp"]))


def cut_sessions(frame: pd.DataFrame, items: dict[str, Item], options: PrepareOptions) -> Plain:
    """Hold the latest users out, drop what only they know, cut one session a user."""
    length = options.history_length
    targets = {user: rows.iloc[length]["timestamp"] for user, rows in frame.groupby("user_id", sort=False)}
    latest = sorted(targets, key=lambda user: targets[user])
    held = set(latest[len(latest) - round(options.held_out * len(latest)) :])
    warm = {row["parent_asin"] for _, row in frame.iterrows() if row["user_id"] not in held}
    frame = keep(frame, lambda row: row["user_id"] not in held or row["parent_asin"] in warm)
    counts = frame.groupby("user_id").size()
    least = max(length + 1, options.min_interactions)
    frame = keep(frame, lambda row: row["user_id"] not in held or counts[row["user_id"]] >= least)
    splits = _splits([user for user in frame["user_id"].unique() if user in held], options.seed)
    interactions: list[tuple[str, Interaction]] = []
    sessions: list[tuple[str, str, list[int], list[str]]] = []
    for user, rows in frame.groupby("user_id", sort=False):
        first = len(interactions)
        interactions += [(user, _interaction(row, items)) for _, row in rows.iterrows()]
        if _fits(rows.head(length), items, options):
            target = rows.iloc[length]["parent_asin"]
            sessions.append((user, splits.get(user, "train"), list(range(first, first + length)), [target]))
    used = set(frame["parent_asin"])
    return Plain([item for asin, item in items.items() if asin in used], interactions, sessions)


def _splits(held: list[str], seed: int) -> dict[str, str]:
    """One seeded half of the held-out users validates, the other tests."""
    salt = f"{seed}\0halves\0"
    drawn = sorted(held, key=lambda user: hashlib.blake2b((salt + user).encode(), digest_size=8).digest())
    return {user: "validation" if at < len(drawn) // 2 else "test" for at, user in enumerate(drawn)}


def main() -> None:
    """Parse the command line, prepare, and write what was prepared as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=Path, required=True)
    parser.add_argument("--metadata", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True, help="where items, interactions and sessions go")
    arguments = parser.parse_args()
    with arguments.json.open("w") as file:
        json.dump(asdict(prepare_plain(arguments.reviews, arguments.metadata)), file)


if __name__ == "__main__":
    main()
