"""Raw Amazon-Reviews-2023 files to a prepared data set: the pipeline of Section 4.1 of the paper, as a stream.

Two passes over each file. The first keeps ids, ratings and times as plain arrays (32 bytes per review) and finds who survives
the k-core; the second reads the texts of the survivors only. So memory is bounded by ids and result, not by the text of the
input. Equal input files and options give equal output, byte for byte (under one version of pyarrow).

One deviation from the authors' code: repeated reviews of an item by a user are dropped before the k-core, so that they do not
count towards it; that makes the items of a session distinct. Not here: how a text that is too long is cut when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from langptune import __version__
from langptune.data.columns import Columns, first_reviews, k_core, largest_core
from langptune.data.dataset import INTERACTION_SCHEMA, SESSION_SCHEMA, SPLITS, Dataset, Tables, item_table, write_tables
from langptune.data.funnel import EmptyResult, FunnelRow
from langptune.data.limits import Limits
from langptune.data.options import SPLIT_RULES, PrepareOptions, Split
from langptune.data.raw import Metadata, Progress, RawFile, Review
from langptune.data.reading import FirstPass, Texts, first_pass, second_pass
from langptune.data.splits import Cut, cut_sessions
from langptune.data.tokens import TokenCounter, WordEstimate
from langptune.errors import AlreadyExists

_ROWS = 32_768  # interactions written at a time


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` made."""

    dataset: Dataset
    funnel: tuple[FunnelRow, ...]
    sessions: Mapping[str, int]  # by split


def prepare(
    reviews: str | Path,
    metadata: str | Path,
    out: str | Path,
    *,
    options: PrepareOptions | None = None,
    name: str | None = None,
    embedder_tokens: TokenCounter | None = None,
    encoder_tokens: TokenCounter | None = None,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Prepared:
    """Prepare `reviews` and `metadata` (JSON lines, plain or gzip) into the folder `out`; the name defaults to the folder's.

    Raises NotFound for a missing file, InvalidArgument for a malformed line, AlreadyExists if `out` holds a data set and
    `overwrite` is off, EmptyResult (with the funnel) if nothing survives, FailedPrecondition if `out` cannot be written.
    Nothing is written unless all of it is.
    """
    options = options or PrepareOptions()
    out = Path(out)
    if (out / "dataset.json").exists() and not overwrite:
        raise AlreadyExists(f"{out} holds a data set already; choose another folder or overwrite it", reason="DATASET_EXISTS")
    review_file = RawFile(reviews, Review, "reviews", skip_malformed=options.skip_malformed, progress=progress)
    metadata_file = RawFile(metadata, Metadata, "metadata", skip_malformed=options.skip_malformed, progress=progress)
    limits = Limits(options, embedder_tokens or WordEstimate(), encoder_tokens or WordEstimate(), progress)
    steps = _Steps(options, limits)
    survivors = steps.survivors(first_pass(review_file, metadata_file))
    texts = second_pass(survivors, review_file, metadata_file)
    cut = steps.sessions(survivors, texts)
    made_by = {
        "made_by": f"langptune data prepare {__version__}",
        "inputs": {"reviews": review_file.fingerprint(), "metadata": metadata_file.fingerprint()},
        "options": asdict(options),
        "split_rule": SPLIT_RULES[options.split],
        "token_counts": {"item": limits.embedder.name, "prompt": f"{limits.encoder.name}; chat template not counted"},
        "review_text": "the field `text` alone, as in the paper; a review's title is not used",
        "sessions_by_split": cut.sizes,
        "funnel": [asdict(row) for row in steps.funnel],
    }
    tables = _tables(cut, survivors.user_ids, texts, options.history_length)
    dataset = write_tables(out, name=name or out.resolve().name, tables=tables, domain=options.domain, made_by=made_by)
    return Prepared(dataset, tuple(steps.funnel), cut.sizes)


@dataclass
class _Steps:
    """The steps in order, each of which adds its row to the funnel. The advice of a step is for when it leaves nothing."""

    options: PrepareOptions
    limits: Limits
    funnel: list[FunnelRow] = field(default_factory=list)

    def survivors(self, read: FirstPass) -> FirstPass:
        """Steps 1 to 3. Returns interactions sorted by user and time."""
        unusable = read.malformed_reviews + read.incomplete
        why = f"{read.malformed_reviews} malformed lines, {read.incomplete} without user, item, rating or time"
        self._note("read", read.columns, why, "does the reviews file hold reviews in the raw schema?", dropped=unusable)
        columns = read.columns.at(read.columns.item < len(read.item_lines))
        why = f"no metadata or no title: {len(read.item_lines)} items have both, {read.malformed_metadata} malformed lines"
        self._note("item has metadata", columns, why, "does the metadata file belong to these reviews (same parent_asin)?")
        columns = first_reviews(columns)
        self._note("first review of an item", columns, "the same user reviewed the item before", "")
        survivors = read.compact(self._k_core("k-core", columns))
        return replace(survivors, columns=survivors.columns.by_user_and_time())

    def sessions(self, survivors: FirstPass, texts: Texts) -> Cut:
        """Steps 4 to 8."""
        columns = self._fit_prompts(self._fit_items(survivors.columns, texts), texts)
        columns = self._k_core("k-core again", columns)
        least = self.options.history_length + 1
        columns = columns.at((np.bincount(columns.user) >= least)[columns.user])
        self._note("long enough", columns, f"users with fewer than {least} items", "lower --history-length")
        cut = cut_sessions(columns, survivors.user_ids, self.options)
        self._note(
            f"split {self.options.split}",
            cut.columns,
            cut.why,
            "lower --min-interactions or --held-out, or choose another --split",
        )
        return self._fit_sessions(cut, texts)

    def _k_core(self, step: str, columns: Columns) -> Columns:
        k = self.options.min_interactions
        core, rounds = k_core(columns, k)
        advice = ""
        if not len(core):
            advice = f"lower --min-interactions ({largest_core(columns, k)} is the largest that leaves something here)"
        self._note(step, core, f"users and items with fewer than {k} interactions ({rounds} rounds)", advice)
        return core

    def _fit_items(self, columns: Columns, texts: Texts) -> Columns:
        too_long = ~self.limits.items_fit(texts)
        touched = np.unique(columns.user[too_long[columns.item]])
        why = f"{np.count_nonzero(too_long)} items over {self.options.item_tokens} embedder tokens, {len(touched)} users have one"
        if self.options.over_length == "drop":
            columns = columns.at(~np.isin(columns.user, touched))
        else:
            why += "; kept, to be truncated"
        self._note("item text fits", columns, why, "raise --item-tokens, or keep long texts with --over-length truncate")
        return columns

    def _fit_prompts(self, columns: Columns, texts: Texts) -> Columns:
        """Drop users whose first history (`first-4`) or last one (other splits) makes too long a prompt."""
        if self.options.over_length == "truncate":
            return columns
        length = self.options.history_length
        starts, counts = columns.user_spans()
        firsts = starts if self.options.split == Split.FIRST_4 else starts + counts - 1 - length
        firsts = firsts[counts > length]
        users = columns.user[firsts[~self.limits.prompts_fit(columns, firsts, texts)]]
        columns = columns.at(~np.isin(columns.user, users))
        why = f"{len(users)} users with a prompt over {self.options.prompt_tokens} encoder tokens"
        self._note("prompt fits", columns, why, "raise --prompt-tokens, or keep long texts with --over-length truncate")
        return columns

    def _fit_sessions(self, cut: Cut, texts: Texts) -> Cut:
        """The sessions as they are in the end: earlier steps may have changed a history since its prompt was counted."""
        length = self.options.history_length
        fits = self.limits.prompts_fit(cut.columns, cut.targets - length, texts)
        fate = "kept, to be truncated"
        if self.options.over_length == "drop":
            cut, fate = replace(cut, targets=cut.targets[fits], splits=cut.splits[fits]), "dropped"
        used = np.unique(cut.targets[:, None] - np.arange(length + 1)).size
        sizes = ", ".join(f"{size} {split}" for split, size in cut.sizes.items())
        why = f"{len(cut.targets)} sessions ({sizes}) of {used} interactions; {np.count_nonzero(~fits)} too long, {fate}"
        left = cut.columns if len(cut.targets) else cut.columns.at(np.empty(0, np.int64))
        self._note("sessions", left, why, "lower --history-length or --min-interactions, or raise --prompt-tokens")
        return cut

    def _note(self, step: str, columns: Columns, why: str, advice: str, *, dropped: int | None = None) -> None:
        if dropped is None:
            dropped = self.funnel[-1].interactions - len(columns)
        self.funnel.append(FunnelRow(step, columns.user_count, columns.item_count, len(columns), dropped, why))
        if not len(columns):
            raise EmptyResult(self.funnel, advice)


def _tables(cut: Cut, user_ids: list[str], texts: Texts, length: int) -> Tables:
    """Items in the order of the metadata file; interactions by user (in order of first appearance) and time."""
    columns, targets = cut.columns, cut.targets
    users = pa.array(user_ids)
    item_ids = pa.array([item.item_id for item in texts.items])
    ends = pa.array(np.arange(len(targets) + 1), pa.int32())
    histories = (targets[:, None] + np.arange(-length, 0)).ravel()
    sessions = [
        users.take(pa.array(columns.user[targets])),
        pa.array(SPLITS).take(pa.array(cut.splits)),
        pa.ListArray.from_arrays(pc.multiply(ends, length), pa.array(histories, pa.int64())),
        pa.ListArray.from_arrays(ends, item_ids.take(pa.array(columns.item[targets]))),
    ]
    return Tables(
        item_table([texts.items[code] for code in np.unique(columns.item).tolist()]),
        pa.RecordBatchReader.from_batches(INTERACTION_SCHEMA, _interactions(columns, users, item_ids, texts)),
        pa.table(sessions, schema=SESSION_SCHEMA),
    )


def _interactions(columns: Columns, users: pa.Array, item_ids: pa.Array, texts: Texts) -> Iterator[pa.RecordBatch]:
    for begin in range(0, len(columns), _ROWS):
        part = columns.at(np.arange(begin, min(begin + _ROWS, len(columns))))
        names = [users.take(pa.array(part.user)), item_ids.take(pa.array(part.item))]
        values = [pa.array(part.rating), texts.reviews_at(part.line), pa.array(part.time)]
        yield pa.record_batch([*names, *values], schema=INTERACTION_SCHEMA)
