"""What the client gives and takes: frozen values without behaviour. `langptune.client.convert` maps them to and from the protos,
whose comments (protos/langptune/v1) hold the full definitions. Times are milliseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from langptune.domain import Interaction, Item


@dataclass(frozen=True, slots=True)
class Versions:
    """The pair of weights versions that made something, and the release that pins it."""

    encoder_version: str = ""
    decoder_version: str = ""
    release_id: str = ""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The item has at least one of the texts in the field, letter for letter."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """The field's number lies in low..high, both included; None leaves an end open."""

    field: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """The field is just so."""

    field: str
    value: bool


Condition = AnyOf | Between | Flag


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items count: all of the one hold and none of the other. A condition does not hold for an item without the field."""

    all: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One place in a ranking."""

    item: Item
    position: int  # 1 is best
    score: float  # cosine similarity, -1.0 to 1.0; by popularity: the share of users who chose the item


class RankingBasis(StrEnum):
    """What a ranking was made from."""

    PROFILE = "profile"
    HISTORY = "history"
    POPULARITY = "popularity"


@dataclass(frozen=True, slots=True)
class Reason:
    """The sentence of the profile that speaks most for an item."""

    sentence: str  # empty when none does
    contribution: float  # what the similarity of profile and item would lose without it


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A user's ranking."""

    items: tuple[RankedItem, ...]
    basis: RankingBasis
    basis_reason: str  # why it is not the profile; empty when it is
    versions: Versions
    profile_revision: int  # 0 without a profile
    reasons: tuple[Reason, ...] = ()  # one per item where they were asked for and the basis is the profile


class ProfileOrigin(StrEnum):
    """Who wrote a revision."""

    GENERATED = "generated"
    EDITED = "edited"
    RESTORED = "restored"
    SUGGESTED = "suggested"


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's profile at one revision."""

    user_id: str
    text: str
    revision: int  # from 1
    etag: str  # to be given with the next change
    origin: ProfileOrigin
    versions: Versions  # that wrote it; for edited text those that were live
    create_time_ms: int
    interactions: int  # that the text was written from; 0 for edited text


class EvidenceBasis(StrEnum):
    """Which interactions the sentences of a profile were held against."""

    WRITTEN_FROM = "written_from"  # those that the text was written from
    HISTORY = "history"  # the user's newest at the time: the text is the user's own


@dataclass(frozen=True, slots=True)
class Support:
    """An interaction that speaks for a sentence."""

    interaction: Interaction
    score: float  # how much nearer it is to the sentence than the catalogue on average, in standard deviations


@dataclass(frozen=True, slots=True)
class SentenceEvidence:
    """What one sentence of a profile rests on."""

    sentence: str
    support: tuple[Support, ...]  # the strongest first; empty: nothing supports the sentence
    nearest_score: float | None  # of the nearest interaction, support or not


@dataclass(frozen=True, slots=True)
class ProfileEvidence:
    """What a revision of a profile rests on."""

    revision: int
    sentences: tuple[SentenceEvidence, ...]  # in reading order
    basis: EvidenceBasis
    interactions: int  # that the sentences were held against
    missing_interactions: int  # that belong to them and are not kept any more
    threshold: float  # the score from which on an interaction is support
    versions: Versions  # that compared


class SentenceMark(StrEnum):
    """What a user says of a sentence."""

    PINNED = "pinned"  # it stays when the profile is written again
    NOT_TRUE = "not_true"  # it is left out when the profile is written again
    NONE = "none"  # no mark any more


@dataclass(frozen=True, slots=True)
class ProfileSuggestion:
    """What the encoder would write now, beside a profile in the user's own words."""

    text: str
    versions: Versions  # that wrote it
    create_time_ms: int
    interactions: int  # that it was written from


@dataclass(frozen=True, slots=True)
class ProfilePage:
    """A profile with what lies beside it."""

    profile: Profile
    suggestion: ProfileSuggestion | None
    marks: Mapping[str, SentenceMark]  # by sentence
    avoid: tuple[str, ...] = ()  # what the user never wants
    new_interactions: int = 0  # recorded since the profile was last written from the history
    refresh_pending: bool = False  # whether the writing of a profile waits or is under way


class DiffKind(StrEnum):
    """What became of a piece of text."""

    KEPT = "kept"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class DiffPart:
    """Neighbouring words with the same fate."""

    kind: DiffKind
    text: str


@dataclass(frozen=True, slots=True)
class PreviewedItem:
    """An item under an unsaved text and as it is now."""

    item: Item
    position: int  # by the unsaved text; 1 is best
    previous_position: int  # now; 0 when there is nothing to compare with
    score: float  # cosine similarity with the unsaved text; 0.0 for an item that leaves


@dataclass(frozen=True, slots=True)
class Preview:
    """What an edit would do."""

    items: tuple[PreviewedItem, ...]  # best first, by the unsaved text
    leaving: tuple[PreviewedItem, ...]  # among the first now, and no longer
    basis: RankingBasis  # what the ranking comes from now
    versions: Versions
    profile_revision: int  # that the text was held against; 0 without a profile


@dataclass(frozen=True, slots=True)
class NewInteraction:
    """An interaction to be recorded; the item is named by its id alone."""

    item_id: str
    rating: float  # stars, 0.0 to 5.0
    review: str = ""
    time_ms: int | None = None  # None is now


@dataclass(frozen=True, slots=True)
class DeletedUserData:
    """What there was of a user; zeros when it was gone already."""

    interactions: int
    revisions: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of recorded interactions."""

    recorded: int
    unchanged: int  # were there already
    history_size: int
    refresh_pending: bool = False  # whether a refresh of the profile waits or is under way


@dataclass(frozen=True, slots=True)
class RefreshQueueDepth:
    """How many profiles are to be written again, and for how long they have waited."""

    queued: int
    running: int
    delayed: int  # have failed and wait for their next attempt
    dead: int  # were given up
    lag: float  # seconds; age of the oldest that is queued or running


@dataclass(frozen=True, slots=True)
class DeadRefresh:
    """A refresh that was given up."""

    user_id: str
    code: str  # name of the gRPC status of the last failure
    message: str
    attempts: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """A problem with one element of an import that was otherwise taken."""

    index: int  # place in the import, from 0
    id: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportedItems:
    """The outcome of an import into the catalogue."""

    imported: int  # new or changed
    unchanged: int
    rejected: int
    rejections: tuple[Rejection, ...]  # the first 1,000
    catalogue_size: int


@dataclass(frozen=True, slots=True)
class ImportedInteractions:
    """The outcome of an import of histories."""

    recorded: int
    unchanged: int
    rejected: int
    rejections: tuple[Rejection, ...]  # the first 1,000
    users: int


class ProfileSource(StrEnum):
    """What stands for the user in the decoder while it is trained."""

    PROFILE = "profile"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """What to train, on what, and how; None means the preset's value."""

    dataset_uri: str  # folder of a prepared data set that the trainer can read
    preset: str = ""  # "sample" if empty
    seed: int = 0
    outer_iterations: int | None = None  # K of Algorithm 1
    cl_batches: int | None = None  # J
    rlso_batches: int | None = None  # T
    final_cl_batches: int | None = None
    profile_source: ProfileSource | None = None
    parent_release_id: str = ""  # the live one if empty
    validation_users: int | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)  # other hyperparameters by name
    processes: int | None = None  # that train together, one to a GPU


@dataclass(frozen=True, slots=True)
class StageMemory:
    """Bytes in one process under one ZeRO stage."""

    zero_stage: int
    weights_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a job would take; of a model that does not learn all is 0."""

    resolved: Mapping[str, str]  # every hyperparameter by name
    encoder_parameters: int
    encoder_trainable_parameters: int
    decoder_parameters: int
    decoder_trainable_parameters: int
    memory: Sequence[StageMemory]  # of ZeRO stages 0 to 3
    tokens_per_update: int  # that an RLSO batch passes through the encoder, at most
    cl_updates: int
    rlso_updates: int
    total_flops: float
    estimated_seconds: float  # at the assumed rate, generation left out
    assumed_flops_per_second: float  # of one process


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A training job as it stands."""

    job_id: str
    spec: TrainingSpec
    state: JobState
    error: str  # why it failed
    create_time_ms: int
    start_time_ms: int | None
    end_time_ms: int | None
    release_id: str  # the candidate that it made; empty until it has succeeded
    steps_done: int
    steps_total: int
    resolved: Mapping[str, str]  # all hyperparameters
    attempts: int  # starts of a worker so far
    restarts: int  # of these, after a worker had died, since the job was created or resumed
    last_interruption: str  # why a worker was last replaced or the job handed back; empty if that never happened


@dataclass(frozen=True, slots=True)
class RankingMetrics:
    """Ranking quality, means over `users`; each 0.0 to 1.0."""

    ndcg: float
    recall: float
    mrr: float
    cutoff: int  # 0 is the whole catalogue
    users: int


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The job entered a state."""

    state: JobState
    message: str


@dataclass(frozen=True, slots=True)
class StepDone:
    """One batch of Algorithm 1."""

    phase: str  # "cl" or "rlso"
    outer_iteration: int
    step: int
    steps_total: int
    metrics: Mapping[str, float]  # by name, as docs/metrics.md defines them


@dataclass(frozen=True, slots=True)
class ValidationDone:
    """The models measured on validation users; label "before" is the parent release."""

    label: str
    metrics: RankingMetrics


@dataclass(frozen=True, slots=True)
class CandidateMade:
    """The job's release candidate is stored."""

    release_id: str


@dataclass(frozen=True, slots=True)
class GuardFired:
    """A figure of training has been beyond its limit for several updates."""

    guard: str  # the metric, as docs/metrics.md defines it
    value: float
    limit: float
    stops: bool  # the job is stopped for it; else it is a warning
    message: str


@dataclass(frozen=True, slots=True)
class TrainingEvent:
    """Something that happened in a job."""

    sequence: int  # from 1, without gaps
    time_ms: int
    event: StateChanged | StepDone | ValidationDone | CandidateMade | GuardFired


@dataclass(frozen=True, slots=True)
class Release:
    """A pair of weights versions that can be made live."""

    release_id: str
    encoder_version: str
    decoder_version: str
    parent_release_id: str
    job_id: str
    create_time_ms: int
    validation: RankingMetrics | None  # None for a release that was never measured
    live: bool
    retired: bool = False  # its weights have been removed
