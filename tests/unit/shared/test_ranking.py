"""Ranking quality: numbers derived by hand, and agreement with scikit-learn on random rankings with ties and many targets."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from langptune.ranking import exact_ranks, ranking_quality


def test_one_target_at_rank_three() -> None:
    """ndcg = 1/log2(1+3) = 0.5, recall = 1, mrr = 1/3."""
    quality = ranking_quality([3], cutoff=20)
    assert quality.ndcg == pytest.approx(0.5)
    assert quality.recall == 1.0
    assert quality.mrr == pytest.approx(1 / 3)


def test_a_target_behind_the_cutoff_counts_nothing() -> None:
    quality = ranking_quality([21], cutoff=20)
    assert (quality.ndcg, quality.recall, quality.mrr) == (0.0, 0.0, 0.0)


def test_two_targets_one_within_the_cutoff() -> None:
    """Places 2 and 9, cutoff 5: gain 1/log2(3), ideal 1/log2(2) + 1/log2(3); recall 1/2; mrr 1/2."""
    quality = ranking_quality([9, 2], cutoff=5)
    assert quality.ndcg == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))
    assert quality.recall == 0.5
    assert quality.mrr == 0.5


def test_two_targets_of_equal_similarity_take_two_places() -> None:
    """Both stand first by counting; together they fill places 1 and 2, which is the ideal ranking."""
    assert ranking_quality([1, 1]).ndcg == pytest.approx(1.0)


@pytest.mark.parametrize("ranks", [[], [0], [-3, 2]])
def test_ranks_that_are_none_are_refused(ranks: list[int]) -> None:
    with pytest.raises(ValueError, match="from 1"):
        ranking_quality(ranks)


def test_exact_ranks_count_what_is_above_and_not_excluded() -> None:
    """Similarities .9 .5 .7 .5 .1: target 3 (.5) has .9 and .7 above it, and its equal behind it; without item 0 only .7."""
    similarities = np.array([0.9, 0.5, 0.7, 0.5, 0.1])
    assert exact_ranks(similarities, [3]) == [3]
    assert exact_ranks(similarities, [3, 4], excluded=[0]) == [2, 4]


def test_an_excluded_target_is_refused() -> None:
    with pytest.raises(ValueError, match="excluded"):
        exact_ranks(np.zeros(3), [1], excluded=[1])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_agrees_with_scikit_learn(data: st.DataObject) -> None:
    """Full and cut NDCG and the reciprocal rank of distinct similarities, 1 to 6 targets among up to 40 items."""
    items = data.draw(st.integers(2, 40))
    order = data.draw(st.permutations(range(items)))
    similarities = np.array(order, dtype=float)
    targets = data.draw(st.lists(st.integers(0, items - 1), min_size=1, max_size=6, unique=True))
    cutoff = data.draw(st.integers(1, items))
    relevant = np.zeros(items)
    relevant[targets] = 1.0
    ranks = exact_ranks(similarities, targets)
    assert ranking_quality(ranks).ndcg == pytest.approx(ndcg_score([relevant], [similarities]))
    assert ranking_quality(ranks, cutoff).ndcg == pytest.approx(ndcg_score([relevant], [similarities], k=cutoff))
    first = np.zeros(items)
    first[targets[int(np.argmin(ranks))]] = 1.0
    assert ranking_quality(ranks).mrr == pytest.approx(label_ranking_average_precision_score([first], [similarities]))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_ties_many_targets_and_left_out_items_agree_with_scikit_learn(data: st.DataObject) -> None:
    """Four levels of similarity over up to 40 items, so nearly all tie; up to 10 targets; others left out of the ranking.

    A tie is settled in the target's favour: scikit-learn is given the targets a quarter of a level higher, and no item left out.
    Recall is checked by its definition: targets with fewer than `cutoff` items before them.
    """
    items = data.draw(st.integers(2, 40))
    similarities = np.array(data.draw(st.lists(st.integers(0, 3), min_size=items, max_size=items)), dtype=float)
    targets = data.draw(st.lists(st.integers(0, items - 1), min_size=1, max_size=min(10, items - 1), unique=True))
    others = [at for at in range(items) if at not in targets]
    excluded = data.draw(st.lists(st.sampled_from(others), max_size=len(others) - 1))
    kept = [at for at in range(items) if at not in excluded]
    cutoff = data.draw(st.integers(1, len(kept)))
    relevant = np.isin(kept, targets).astype(float)
    settled = similarities[kept] + 0.25 * relevant
    quality = ranking_quality(exact_ranks(similarities, targets, excluded), cutoff)
    assert quality.ndcg == pytest.approx(ndcg_score([relevant], [settled], k=cutoff))
    order = np.lexsort((-settled,))
    places = 1 + np.flatnonzero(relevant[order])
    assert quality.recall == pytest.approx(np.mean(places <= cutoff))
    first = np.zeros(len(kept))
    first[order[places[0] - 1]] = 1.0
    reciprocal = label_ranking_average_precision_score([first], [settled + 0.1 * first])
    assert quality.mrr == pytest.approx(reciprocal if places[0] <= cutoff else 0.0)
