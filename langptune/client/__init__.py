"""The typed Python client of a LangPTune gateway: async, with a deadline on every call and the errors of `langptune.errors`.

async with LangPTune("localhost:50051") as lp:
    recommendation = await lp.recommend("u1", k=10)
    for place in recommendation.items:
        ...
"""

from langptune.client.sdk import LangPTune
from langptune.client.values.accounts import DeletedUserData
from langptune.client.values.events import CandidateMade, GuardFired, StateChanged, StepDone, TrainingEvent, ValidationDone
from langptune.client.values.evidence import EvidenceBasis, ProfileEvidence, SentenceEvidence, Support
from langptune.client.values.filters import AnyOf, Between, Condition, Flag, ItemFilter
from langptune.client.values.imports import ImportedInteractions, ImportedItems, Rejection
from langptune.client.values.interactions import NewInteraction, Recorded
from langptune.client.values.metrics import RankingMetrics
from langptune.client.values.profiles import (
    DiffKind,
    DiffPart,
    Profile,
    ProfileOrigin,
    ProfilePage,
    ProfileSuggestion,
    SentenceMark,
)
from langptune.client.values.publishing import (
    Gate,
    GateVerdict,
    Pruned,
    Publish,
    Published,
    PublishStep,
    ReadabilityMetrics,
    ReplicaCheck,
    Verified,
)
from langptune.client.values.recommendations import Preview, PreviewedItem, RankedItem, RankingBasis, Reason, Recommendation
from langptune.client.values.refresh_queue import DeadRefresh, RefreshQueueDepth
from langptune.client.values.releases import Release, ReleaseMove
from langptune.client.values.training import JobState, ProfileSource, TrainingJob, TrainingPlan, TrainingSpec
from langptune.client.values.versions import Versions
from langptune.domain import Interaction, Item
from langptune.rpc.tls import Tls

__all__ = [
    "AnyOf",
    "Between",
    "CandidateMade",
    "Condition",
    "DeadRefresh",
    "DeletedUserData",
    "DiffKind",
    "DiffPart",
    "EvidenceBasis",
    "Flag",
    "Gate",
    "GateVerdict",
    "GuardFired",
    "ImportedInteractions",
    "ImportedItems",
    "Interaction",
    "Item",
    "ItemFilter",
    "JobState",
    "LangPTune",
    "NewInteraction",
    "Preview",
    "PreviewedItem",
    "Profile",
    "ProfileEvidence",
    "ProfileOrigin",
    "ProfilePage",
    "ProfileSource",
    "ProfileSuggestion",
    "Pruned",
    "Publish",
    "PublishStep",
    "Published",
    "RankedItem",
    "RankingBasis",
    "RankingMetrics",
    "ReadabilityMetrics",
    "Reason",
    "Recommendation",
    "Recorded",
    "RefreshQueueDepth",
    "Rejection",
    "Release",
    "ReleaseMove",
    "ReplicaCheck",
    "SentenceEvidence",
    "SentenceMark",
    "StateChanged",
    "StepDone",
    "Support",
    "Tls",
    "TrainingEvent",
    "TrainingJob",
    "TrainingPlan",
    "TrainingSpec",
    "ValidationDone",
    "Verified",
    "Versions",
]
