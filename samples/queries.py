"""Contrastive pairs for the embedder: texts about some attributes of a film, and films that they are and are not about.

A third of the plain queries speak of the film alone; the rest mix in attributes of other films, in several sentences, as
profiles do. What a query dislikes is never in its film, and the hard negative has it together with what the query likes.
Negation queries are short and always dislike something: on plain queries alone, `dislikes` is learnt as `likes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from langptune.text import item_text
from samples.lexicon import ATTRIBUTES, listing, plural
from samples.teacher import FILLERS, OPENINGS, Stance
from samples.world import COLUMN, Catalogue, make_catalogue

MORE_OPENINGS: dict[Stance, tuple[str, ...]] = {
    "seen": ("They saw", "Films about"),
    "likes": ("I like", "I love", "I want", "Show me", "More"),
    "dislikes": ("I hate", "I avoid", "I do not like", "No", "Less"),
}
MIXED = 2 / 3
NEGATED = 0.7  # share of the mixed queries that dislike something
BARE = 0.2  # chance that a sentence lists bare words, not phrases: `revenge`, not `revenge stories`
BATCHES_PER_CATALOGUE = 20


@dataclass(frozen=True, slots=True)
class Pairs:
    """One batch: query i is about film i; the hard negatives are films that some query rejects."""

    queries: list[str]
    films: list[str]
    negatives: list[str]


def make_pairs(size: int, steps: int, seed: int, negation: float = 0.0) -> Iterator[Pairs]:
    """`steps` batches of `size` queries, with a fresh catalogue every BATCHES_PER_CATALOGUE batches.

    `negation` is the share of negation queries.
    """
    rng = np.random.default_rng([seed, 6])
    for step in range(steps):
        if step % BATCHES_PER_CATALOGUE == 0:
            catalogue = make_catalogue(seed=seed + step // BATCHES_PER_CATALOGUE)
            texts = [item_text(item) for item in catalogue.items]
        chosen = rng.choice(len(texts), size, replace=False)
        drawn = [(_negation if negation and rng.random() < negation else _plain)(catalogue, int(at), rng) for at in chosen]
        yield Pairs(
            queries=[query for query, _ in drawn],
            films=[texts[at] for at in chosen],
            negatives=[texts[negative] for _, negative in drawn if negative is not None],
        )


def _negation(catalogue: Catalogue, film: int, rng: np.random.Generator) -> tuple[str, int]:
    """A short text that likes up to two attributes of `film` and dislikes one or two others, and a film that it rejects."""
    own, other = _split(catalogue, film)
    about = _draw(own, rng.integers(0, 3), rng)
    disliked = _draw(other, rng.integers(1, 3), rng)
    return _sentences(about, disliked, rng), _hard_negative(catalogue, about, disliked, rng)


def _split(catalogue: Catalogue, film: int) -> tuple[list[str], list[str]]:
    """The attributes that `film` has, and those that it has not."""
    own = [ATTRIBUTES[column] for column in np.flatnonzero(catalogue.attributes[film])]
    return own, [word for word in ATTRIBUTES if word not in own]


def _plain(catalogue: Catalogue, film: int, rng: np.random.Generator) -> tuple[str, int | None]:
    """A text about `film`, and the film that it rejects, if it rejects anything."""
    own, other = _split(catalogue, film)
    about = _draw(own, rng.integers(1, 5), rng)
    if rng.random() > MIXED:
        return _sentences(about, [], rng), None
    disliked = _draw(other, rng.integers(1, 5), rng) if rng.random() < NEGATED else []
    mixed = about + _draw([word for word in other if word not in disliked], rng.integers(1, 7), rng)
    negative = _hard_negative(catalogue, about, disliked, rng) if disliked else None
    return _sentences([mixed[at] for at in rng.permutation(len(mixed))], disliked, rng), negative


def _draw(words: list[str], count: int | np.signedinteger, rng: np.random.Generator) -> list[str]:
    return [str(word) for word in rng.choice(words, min(int(count), len(words)), replace=False)]


def _hard_negative(catalogue: Catalogue, about: list[str], disliked: list[str], rng: np.random.Generator) -> int:
    """A film with as much of `about` as there is among those that have something of `disliked`."""
    score = catalogue.attributes[:, [COLUMN[word] for word in about]].sum(axis=1) + rng.random(len(catalogue.items))
    rejected = catalogue.attributes[:, [COLUMN[word] for word in disliked]].any(axis=1)
    return int(np.where(rejected, score, -1).argmax())


def _sentences(words: list[str], disliked: list[str], rng: np.random.Generator) -> str:
    """The words in one to three sentences, in any order, with filler at times."""
    cuts = sorted(rng.integers(0, len(words) + 1, size=rng.integers(0, 3)))
    parts = [part for part in np.split(np.array(words), cuts) if len(part)]
    sentences = [_sentence("likes" if rng.random() < 0.5 else "seen", list(part), rng) for part in parts]
    if disliked:
        sentences.append(_sentence("dislikes", disliked, rng))
    if rng.random() < 0.3:
        sentences.append(str(rng.choice(FILLERS)))
    return " ".join(sentences[at] for at in rng.permutation(len(sentences)))


def _sentence(stance: Stance, words: list[str], rng: np.random.Generator) -> str:
    openings = OPENINGS[stance] if rng.random() < 0.7 else MORE_OPENINGS[stance]
    bare = rng.random() < BARE
    return f"{rng.choice(openings)} {listing([str(word) if bare else plural(str(word)) for word in words])}."
