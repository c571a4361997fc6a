"""The text forms, held against the examples in Appendix A of the paper."""

from dataclasses import replace

import pytest

from langptune.domain import Interaction, Item
from langptune.text import affirmed, fit_history, fitted_text, history_text, item_text, prompt_text, states_dislike

MARTIAN = Item(
    item_id="B018",
    title="The Martian",
    description="From legendary director Ridley Scott comes a gripping tale.",
    categories=("Science Fiction", "Drama"),
    average_rating=4.8,
    price=4.99,
)
BARE = Item(item_id="B019", title="Metal Mage 2")


def test_an_item_reads_as_in_the_paper() -> None:
    assert item_text(MARTIAN) == (
        "Title: The Martian\n"
        "Description: (average rating: 4.8) From legendary director Ridley Scott comes a gripping tale.\n"
        "Category: Science Fiction, Drama\n"
        "Price: 4.99"
    )


def test_missing_values_print_none() -> None:
    assert item_text(BARE) == "Title: Metal Mage 2\nDescription: (average rating: None) \nCategory: None\nPrice: None"


def test_a_prompt_is_one_instruction_then_the_entries_oldest_first() -> None:
    history = [Interaction(MARTIAN, 5, "A really good movie."), Interaction(BARE, 3.5)]
    paragraphs = prompt_text(history, "books").split("\n\n")
    assert paragraphs[0].startswith("The user has rated (out of 5.0) and reviewed following books arranged chronologically")
    assert paragraphs[1].endswith("Price: 4.99\nReview from the user: (rating: 5.0) A really good movie.")
    assert paragraphs[2].endswith("Review from the user: (rating: 3.5) ")
    assert prompt_text(history).split("\n\n", 1)[1] == history_text(history)


def _words(history: object) -> int:
    return len(history_text(history).split())  # type: ignore[arg-type]


def _count(text: str) -> int:
    return len(text.split())


def test_a_history_that_fits_is_left_alone() -> None:
    history = [Interaction(MARTIAN, 5), Interaction(BARE, 3)]
    fitted = fit_history(history, _words(history), _words)
    assert fitted is not None
    assert (fitted.history, fitted.coverage) == (tuple(history), 1.0)


def test_the_oldest_description_goes_first_then_the_oldest_entry() -> None:
    history = [Interaction(MARTIAN, 5), Interaction(replace(MARTIAN, item_id="B020"), 4)]
    full, without_description = _words(history), _words([replace(history[0], item=replace(MARTIAN, description=""))])
    shortened = fit_history(history, full - 1, _words)
    assert shortened is not None
    assert [bool(entry.item.description) for entry in shortened.history] == [False, True]
    assert shortened.coverage == 1.0
    one_left = fit_history(history, without_description, _words)
    assert one_left is not None
    assert [entry.item.item_id for entry in one_left.history] == ["B020"]
    assert (one_left.dropped_entries, one_left.coverage) == (1, 0.5)


def test_what_cannot_fit_is_none_and_drop_cuts_nothing() -> None:
    history = [Interaction(MARTIAN, 5), Interaction(BARE, 4)]
    assert fit_history(history, 3, _words) is None
    assert fit_history(history, _words(history) - 1, _words, "drop") is None


def test_an_embedder_is_given_the_newest_entries_that_it_reads() -> None:
    history = [Interaction(MARTIAN, 5), Interaction(BARE, 4)]
    newest = history_text(history[1:])
    limit = len(newest.split())
    assert fitted_text(history, 10_000, _count) == history_text(history)
    assert fitted_text(history, limit, _count) == newest
    assert fitted_text(history, 1, _count) == newest, "its end is the model's to cut: nothing newer is left to keep"


def test_cutting_a_long_history_counts_its_tokens_only_a_few_times() -> None:
    """1,000 entries, every second with a description; one entry more would not have fitted."""
    described = replace(MARTIAN, description="word " * 30)
    history = [Interaction(replace(described if at % 2 else BARE, item_id=f"i{at}"), 4) for at in range(1_000)]
    counted = []

    def count(entries: object) -> int:
        counted.append(entries)
        return _words(entries)

    fitted = fit_history(history, 300, count)
    assert fitted is not None
    assert len(counted) <= 13  # one for the whole, and log2(1,500)
    assert _words(fitted.history) <= 300
    assert fitted.dropped_entries == 1_000 - len(fitted.history)
    assert fitted.shortened_entries == sum(entry.item.title == MARTIAN.title for entry in fitted.history)
    one_more = [
        replace(history[fitted.dropped_entries - 1], item=replace(history[fitted.dropped_entries - 1].item, description=""))
    ]
    assert _words([*one_more, *fitted.history]) > 300


@pytest.mark.parametrize(
    ("sentence", "meant"),
    [
        ("The user dislikes horror films.", "The user likes horror films."),
        ("They don't enjoy war.", "They likes war."),
        ("This viewer avoids boats, and skips trains.", "This viewer likes boats, and likes trains."),
        ("They never want clowns.", "They likes clowns."),
    ],
)
def test_a_dislike_is_put_as_a_liking_of_the_same(sentence: str, meant: str) -> None:
    """Grammar does not matter to an embedder; what the sentence is about does."""
    assert states_dislike(sentence)
    assert affirmed(sentence) == meant


@pytest.mark.parametrize("sentence", ["They like boats.", "Set in a likeness of Hatesville.", "Unlikely heroes."])
def test_other_sentences_are_left_alone(sentence: str) -> None:
    assert not states_dislike(sentence)
    assert affirmed(sentence) == sentence
