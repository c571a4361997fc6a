"""Rank 0's learners: nothing that all processes must do together is done by rank 0 alone."""

import inspect

import pytest

from services.trainer.learning.embedder import EmbedderLearner
from services.trainer.learning.policy_learner import PolicyLearner
from services.trainer.learning.team import LeadingEmbedder, LeadingPolicy


@pytest.mark.parametrize(("learner", "leading"), [(PolicyLearner, LeadingPolicy), (EmbedderLearner, LeadingEmbedder)])
def test_every_call_of_a_learner_is_told_to_the_others(learner: type, leading: type) -> None:
    """A method that rank 0 inherits as it is would wait for ever in its first collective operation."""
    public = {name for name, _ in inspect.getmembers(learner, inspect.isfunction) if not name.startswith("_")}
    assert public - set(vars(leading)) == set()
