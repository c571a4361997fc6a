"""The text forms: how an item, an interaction and a history are written for the language model and for the embedder.

The one definition in the code base (Appendix A of the paper), used by serving and by training alike. `TEMPLATE_HASH`
goes into the manifest of every weights version, so a model is never served with forms that it was not trained on.
Tokenisation is not here: callers pass a function that counts tokens.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from langptune.domain import Interaction, Item

ITEM_TEMPLATE = (
    "Title: {title}\nDescription: (average rating: {average_rating}) {description}\nCategory: {categories}\nPrice: {price}"
)
REVIEW_TEMPLATE = "{item}\nReview from the user: (rating: {rating}) {review}"
INSTRUCTION_TEMPLATE = (
    "The user has rated (out of 5.0) and reviewed following {domain} arranged chronologically from the oldest (top) to the "
    "newest (bottom). Please provide a high-level summary of the user preference in detail."
)
ENTRY_SEPARATOR = "\n\n"
TEMPLATE_HASH = hashlib.sha256(
    "\0".join((ITEM_TEMPLATE, REVIEW_TEMPLATE, INSTRUCTION_TEMPLATE, ENTRY_SEPARATOR)).encode()
).hexdigest()[:16]

DEFAULT_DOMAIN = "movies and TV shows"

OverLength = Literal["truncate", "drop"]

_LONGEST_TOKEN = 32  # characters; no tokenizer packs more into a token, taken over a text

_DISLIKE = re.compile(
    r"\b(?:(?:do(?:es)?n[’']t|do(?:es)? not|never) (?:like|enjoy|want|care for)s?"
    r"|(?:dislike|avoid|reject|skip|hate|loathe)[sd]?)\b",
    re.IGNORECASE,
)

# A line, or a part of one up to a full stop and the like with white space and no small letter behind it.
_SENTENCE = re.compile(r"\S.*?(?:[.!?…]+[\"'”’)\]]*(?=\s+[^a-z\s]|\s*$)|$)", re.MULTILINE)


def item_text(item: Item) -> str:
    """The metadata d_i as text; missing values print `None`, as in the paper's examples."""
    return ITEM_TEMPLATE.format(
        title=item.title,
        average_rating=item.average_rating,
        description=item.description,
        categories=", ".join(item.categories) or None,
        price=item.price,
    )


def interaction_text(interaction: Interaction) -> str:
    """One entry of a history: the item, then what the user said of it."""
    return REVIEW_TEMPLATE.format(item=item_text(interaction.item), rating=float(interaction.rating), review=interaction.review)


def history_text(history: Sequence[Interaction]) -> str:
    """D(h): the entries, oldest first. Also what NoProfile embeds in place of a profile (Section 4.2)."""
    return ENTRY_SEPARATOR.join(interaction_text(entry) for entry in history)


def prompt_text(history: Sequence[Interaction], domain: str = DEFAULT_DOMAIN) -> str:
    """The whole user message for the profile encoder: one instruction paragraph, then D(h)."""
    return INSTRUCTION_TEMPLATE.format(domain=domain) + ENTRY_SEPARATOR + history_text(history)


def liking_text(phrase: str) -> str:
    """A profile of somebody who wants one thing; how a lone phrase is put to an embedder that knows profiles and items."""
    return f"They like {phrase}."


def states_dislike(sentence: str) -> bool:
    """Whether a sentence of a profile says what the user does not want, by the usual English verbs."""
    return _DISLIKE.search(sentence) is not None


def affirmed(sentence: str) -> str:
    """The sentence with likes in place of dislikes: what it is about, for an embedder."""
    return _DISLIKE.sub("likes", sentence)


def sentences(text: str) -> list[str]:
    """The sentences of a profile in reading order, each a piece of `text`; what lies between them is white space."""
    return _SENTENCE.findall(text)


@dataclass(frozen=True, slots=True)
class FittedHistory:
    """A history cut to a token limit, and how much of it is left."""

    history: tuple[Interaction, ...]
    dropped_entries: int  # oldest entries that are gone altogether
    shortened_entries: int  # entries that lost their description

    @property
    def coverage(self) -> float:
        """Share of the entries that are left, whole or shortened; 0.0 to 1.0."""
        total = len(self.history) + self.dropped_entries
        return len(self.history) / total if total else 1.0


def fit_history(
    history: Sequence[Interaction],
    limit: int,
    count_tokens: Callable[[Sequence[Interaction]], int],
    over_length: OverLength = "truncate",
) -> FittedHistory | None:
    """Cut `history` until `count_tokens(history) <= limit` (tokens of the rendered prompt).

    `drop` is the research code's rule: too long is None. `truncate` removes the oldest entries' descriptions first, then
    the oldest entries; None only if not even the newest entry fits. It asks `count_tokens` O(log n) times, taking for granted
    that less text is not more tokens.
    """
    if count_tokens(history) <= limit:
        return FittedHistory(tuple(history), 0, 0)
    if over_length == "drop":
        return None
    described = [position for position, entry in enumerate(history) if entry.item.description]
    steps = range(1, len(described) + len(history))  # the k-th cut: k descriptions gone, then also entries
    place = bisect_left(steps, True, key=lambda step: count_tokens(_cut(history, described, step).history) <= limit)
    return _cut(history, described, steps[place]) if place < len(steps) else None


def fitted_text(history: Sequence[Interaction], limit: int, count_tokens: Callable[[str], int]) -> str:
    """D(h) for an embedder that reads `limit` tokens: the newest entries that fit; of one that does not, its beginning."""
    room = limit * _LONGEST_TOKEN  # beyond it no text is read: what nobody reads is not counted either
    readable = [_shortened(entry, room) for entry in history]
    fitted = fit_history(readable, limit, lambda entries: count_tokens(history_text(entries)))
    return history_text(fitted.history if fitted else readable[-1:])


def _shortened(entry: Interaction, room: int) -> Interaction:
    item = replace(entry.item, description=entry.item.description[:room])
    return replace(entry, item=item, review=entry.review[:room])


def _cut(history: Sequence[Interaction], described: Sequence[int], step: int) -> FittedHistory:
    bare = frozenset(described[:step])
    dropped = max(0, step - len(described))
    kept = range(dropped, len(history))
    entries = tuple(
        replace(history[at], item=replace(history[at].item, description="")) if at in bare else history[at] for at in kept
    )
    return FittedHistory(entries, dropped, sum(at in bare for at in kept))
