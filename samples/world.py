"""The catalogue: films drawn from a few latent attributes and written up in plain English.

Deterministic in (size, seed). Titles are unique by construction (a seeded permutation of all two-word titles). Users and
their choices are in `samples.users`; nothing here trains or reads a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from langptune.domain import Item
from langptune.errors import InvalidArgument
from samples.lexicon import ATTRIBUTES, HEROES, KIND_OF, KINDS, PRICES, TITLE_FIRST, TITLE_SECOND, attributes_in

DEFAULT_ITEMS = 1_200
MAX_ITEMS = len(TITLE_FIRST) * len(TITLE_SECOND)
THEMES_PER_FILM = 2
COLUMN = {word: at for at, word in enumerate(ATTRIBUTES)}  # attribute -> column of the attribute matrices

DESCRIPTIONS = (
    "{a_tone} {genre} film about {theme} and {other} in the {setting}.",
    "In the {setting}, a {hero} learns about {theme} and {other}. {a_tone} {genre} film.",
    "{a_tone} tale of {theme} and {other}, set in the {setting}.",
    "A {hero} faces {theme} and {other} in a {setting}. It stays {tone} to the end.",
    "This {tone} {genre} film takes a {hero} to the {setting}. It is about {theme} and {other}.",
    "How {theme} leads to {other}, told by a {hero} from the {setting}. {a_tone} picture.",
)


@dataclass(frozen=True)
class Catalogue:
    """Films and their latent attributes; row i of `attributes` belongs to `items[i]`."""

    items: tuple[Item, ...]
    attributes: np.ndarray  # [items, attributes] of 0/1, columns as in ATTRIBUTES
    quality: np.ndarray  # [items], standard normal; what critics agree on


def make_catalogue(size: int = DEFAULT_ITEMS, seed: int = 0) -> Catalogue:
    """`size` films. Raises InvalidArgument beyond MAX_ITEMS, the number of distinct titles."""
    if not 1 <= size <= MAX_ITEMS:
        raise InvalidArgument("items", f"must be between 1 and {MAX_ITEMS}, not {size}")
    rng = np.random.default_rng([seed, 1])
    titles = rng.permutation(MAX_ITEMS)[:size]
    quality = rng.standard_normal(size)
    attributes = np.zeros((size, len(ATTRIBUTES)), dtype=np.float32)
    items = []
    for at in range(size):
        traits = _draw_traits(rng)
        attributes[at, [COLUMN[word] for word in traits]] = 1
        first, second = divmod(int(titles[at]), len(TITLE_SECOND))
        items.append(
            Item(
                item_id=f"film-{at:04d}",
                title=f"{TITLE_FIRST[first]} {TITLE_SECOND[second]}",
                description=_describe(traits, rng),
                categories=(traits[0],),
                average_rating=round(float(np.clip(3.7 + 0.5 * quality[at], 1.5, 4.9)), 1),
                price=float(rng.choice(PRICES)),
            )
        )
    return Catalogue(tuple(items), attributes, quality)


def _draw_traits(rng: np.random.Generator) -> tuple[str, ...]:
    """(genre, theme, other theme, setting, tone)."""
    return tuple(
        str(word)
        for kind, words in KINDS.items()
        for word in rng.choice(words, THEMES_PER_FILM if kind == "theme" else 1, replace=False)
    )


def _describe(traits: tuple[str, ...], rng: np.random.Generator) -> str:
    genre, theme, other, setting, tone = traits
    template = DESCRIPTIONS[rng.integers(len(DESCRIPTIONS))]
    return template.format(
        genre=genre,
        theme=theme,
        other=other,
        setting=setting,
        tone=tone,
        a_tone=f"{'An' if tone[0] in 'aeiou' else 'A'} {tone}",
        hero=rng.choice(HEROES),
    )


def attributes_of(item: Item) -> frozenset[str]:
    """What an item's text says of it: the attribute words of its description and its categories."""
    return frozenset(attributes_in(f"{item.description} {' '.join(item.categories)}"))


def kind_weights(weights: dict[str, float]) -> np.ndarray:
    """Per-kind weights spread over the attribute columns; [attributes]."""
    return np.array([weights[KIND_OF[word]] for word in ATTRIBUTES], dtype=np.float32)
