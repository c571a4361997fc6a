"""The catalogue: deterministic, unique titles, texts that say what the latent attributes are."""

from __future__ import annotations

import numpy as np
import pytest

from langptune.errors import InvalidArgument
from langptune.text import item_text
from samples.lexicon import (
    ATTRIBUTES,
    BLAME,
    HEROES,
    KIND_OF,
    PRAISE,
    TITLE_FIRST,
    TITLE_SECOND,
    attributes_in,
    listing,
    plural,
    singular,
)
from samples.teacher import FILLERS, OPENINGS
from samples.world import DESCRIPTIONS, MAX_ITEMS, attributes_of, make_catalogue


def test_the_same_seed_gives_the_same_catalogue_and_another_seed_another() -> None:
    first, again, other = make_catalogue(50, 3), make_catalogue(50, 3), make_catalogue(50, 4)
    assert first.items == again.items
    assert np.array_equal(first.attributes, again.attributes)
    assert first.items != other.items


def test_every_possible_title_can_be_used_once_and_no_more() -> None:
    catalogue = make_catalogue(MAX_ITEMS, 0)
    assert len({item.title for item in catalogue.items}) == MAX_ITEMS == len(TITLE_FIRST) * len(TITLE_SECOND)
    assert len({item.item_id for item in catalogue.items}) == MAX_ITEMS


@pytest.mark.parametrize("size", [0, -1, MAX_ITEMS + 1])
def test_a_size_without_enough_titles_is_refused_by_name(size: int) -> None:
    with pytest.raises(InvalidArgument) as error:
        make_catalogue(size)
    assert error.value.field == "items"


def test_the_text_of_every_film_says_its_latent_attributes_and_no_other() -> None:
    catalogue = make_catalogue(300, 1)
    for item, row in zip(catalogue.items, catalogue.attributes, strict=True):
        latent = {ATTRIBUTES[column] for column in np.flatnonzero(row)}
        assert attributes_of(item) == latent == set(attributes_in(item_text(item)))
        assert sorted(KIND_OF[word] for word in latent) == ["genre", "setting", "theme", "theme", "tone"]


def test_films_have_all_metadata_in_range() -> None:
    for item in make_catalogue(300, 2).items:
        assert item.price is not None
        assert item.price > 0
        assert item.average_rating is not None
        assert 1.0 <= item.average_rating <= 5.0
        assert item.categories
        assert item.description.endswith(".")


def test_attribute_words_mean_nothing_else() -> None:
    other = [*TITLE_FIRST, *TITLE_SECOND, *HEROES, *PRAISE, *BLAME, *FILLERS, *DESCRIPTIONS, *sum(OPENINGS.values(), ())]
    assert [text for text in other if attributes_in(text)] == []


def test_phrases() -> None:
    assert (singular("revenge"), plural("revenge")) == ("revenge story", "revenge stories")
    assert (singular("western"), plural("desert")) == ("western film", "desert settings")
    assert [listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
