"""The typed Python client of a LangPTune gateway: async, with a deadline on every call and the errors of `langptune.errors`.

async with LangPTune("localhost:50051") as lp:
    recommendation = await lp.recommend("u1", k=10)
    for place in recommendation.items:
        ...
"""

from langptune.client.sdk import LangPTune
from langptune.client.values import (
    CandidateMade,
    DiffKind,
    DiffPart,
    ImportedInteractions,
    ImportedItems,
    JobState,
    NewInteraction,
    Preview,
    PreviewedItem,
    Profile,
    ProfileOrigin,
    ProfilePage,
    ProfileSource,
    ProfileSuggestion,
    Published,
    RankedItem,
    RankingBasis,
    RankingMetrics,
    Recommendation,
    Recorded,
    Rejection,
    Release,
    SentenceMark,
    StateChanged,
    StepDone,
    TrainingEvent,
    TrainingJob,
    TrainingSpec,
    ValidationDone,
    Versions,
)
from langptune.domain import Interaction, Item

__all__ = [
    "CandidateMade",
    "DiffKind",
    "DiffPart",
    "ImportedInteractions",
    "ImportedItems",
    "Interaction",
    "Item",
    "JobState",
    "LangPTune",
    "NewInteraction",
    "Preview",
    "PreviewedItem",
    "Profile",
    "ProfileOrigin",
    "ProfilePage",
    "ProfileSource",
    "ProfileSuggestion",
    "Published",
    "RankedItem",
    "RankingBasis",
    "RankingMetrics",
    "Recommendation",
    "Recorded",
    "Rejection",
    "Release",
    "SentenceMark",
    "StateChanged",
    "StepDone",
    "TrainingEvent",
    "TrainingJob",
    "TrainingSpec",
    "ValidationDone",
    "Versions",
]
