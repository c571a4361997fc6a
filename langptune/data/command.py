"""`langptune data`: the command line of the preparation. The work is in langptune.data.prepare, which is imported when needed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from langptune.data import flags
from langptune.data.funnel import EmptyResult
from langptune.data.options import PrepareOptions
from langptune.data.showing import progress_bars, show_result, show_where_it_ended

if TYPE_CHECKING:
    from langptune.data.prepare import Prepared

app = typer.Typer(no_args_is_help=True, help="Prepare data sets.")
_USUAL = PrepareOptions()


@app.callback()
def data() -> None:
    """Prepare data sets."""


@app.command()
def prepare(
    reviews: flags.ReviewsOption,
    metadata: flags.MetadataOption,
    out: flags.OutOption,
    split: flags.SplitOption = _USUAL.split,
    history_length: flags.HistoryLengthOption = _USUAL.history_length,
    min_interactions: flags.MinInteractionsOption = _USUAL.min_interactions,
    held_out: flags.HeldOutOption = _USUAL.held_out,
    train_windows: flags.TrainWindowsOption = _USUAL.train_windows,
    item_tokens: flags.ItemTokensOption = _USUAL.item_tokens,
    prompt_tokens: flags.PromptTokensOption = _USUAL.prompt_tokens,
    over_length: flags.OverLengthOption = flags.OverLengthChoice.DROP,
    embedder_tokenizer: flags.EmbedderTokenizerOption = None,
    encoder_tokenizer: flags.EncoderTokenizerOption = None,
    name: flags.NameOption = None,
    domain: flags.DomainOption = _USUAL.domain,
    seed: flags.SeedOption = _USUAL.seed,
    skip_malformed: flags.SkipMalformedOption = _USUAL.skip_malformed,
    overwrite: flags.OverwriteOption = False,
    as_json: flags.JsonOption = False,
) -> None:
    """Turn raw reviews and item metadata into items and sessions, and say what was dropped and why.

    Example: langptune data prepare --reviews Books.jsonl.gz --metadata meta_Books.jsonl.gz --out books --domain books
    """
    sources = _Sources(reviews, metadata, embedder_tokenizer, encoder_tokenizer)
    options = PrepareOptions(
        split=split,
        history_length=history_length,
        min_interactions=min_interactions,
        held_out=held_out,
        train_windows=train_windows,
        item_tokens=item_tokens,
        prompt_tokens=prompt_tokens,
        over_length=over_length.value,
        seed=seed,
        domain=domain,
        skip_malformed=skip_malformed,
    )
    began = time.monotonic()
    try:
        prepared = _prepare(sources, out, options, name, overwrite)
    except EmptyResult as error:
        show_where_it_ended(error, as_json)
        raise
    show_result(prepared, time.monotonic() - began, as_json)


@dataclass(frozen=True, slots=True)
class _Sources:
    """Raw files, and tokenizers (None: the estimate) that their texts are counted with."""

    reviews: Path
    metadata: Path
    embedder_tokenizer: str | None
    encoder_tokenizer: str | None


def _prepare(sources: _Sources, out: Path, options: PrepareOptions, name: str | None, overwrite: bool) -> Prepared:
    from langptune.data.prepare import prepare as run
    from langptune.data.tokens import token_counter

    embedder = token_counter(sources.embedder_tokenizer, "embedder_tokenizer")
    encoder = token_counter(sources.encoder_tokenizer, "encoder_tokenizer")
    with progress_bars() as progress:
        return run(
            sources.reviews,
            sources.metadata,
            out,
            options=options,
            name=name,
            embedder_tokens=embedder,
            encoder_tokens=encoder,
            overwrite=overwrite,
            progress=progress,
        )
