"""The options of `langptune data prepare`, each with its help; what they mean in full is said in langptune.data.options."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from langptune.data.options import Split


class OverLengthChoice(StrEnum):
    """What happens to texts over the token limits."""

    DROP = "drop"
    TRUNCATE = "truncate"


ReviewsOption = Annotated[Path, typer.Option(help="Reviews: JSON lines in the Amazon-Reviews-2023 schema, plain or gzip.")]
MetadataOption = Annotated[Path, typer.Option(help="Item metadata: JSON lines of the same schema, plain or gzip.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the prepared data set.")]
NameOption = Annotated[str | None, typer.Option(help="Name of the data set; by default that of the folder.")]
OverwriteOption = Annotated[bool, typer.Option(help="Replace the data set that --out holds.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

SplitOption = Annotated[
    Split,
    typer.Option(
        help="first-4: a user's first items, then the next; users held out by time (the paper). leave-last-out: the items "
        "before a user's last one, then that one; users held out by seed. global-time: one cut in time for everybody."
    ),
]
HistoryLengthOption = Annotated[int, typer.Option(help="Items in a history.")]
MinInteractionsOption = Annotated[int, typer.Option(help="The k of the k-core over users and items; 1 keeps all.")]
HeldOutOption = Annotated[
    float, typer.Option(help="Share of users (global-time: of interactions) held out; half validates, half tests.")
]
TrainWindowsOption = Annotated[int, typer.Option(help="Most (history, target) windows per training user; the paper: 1.")]
ItemTokensOption = Annotated[int, typer.Option(help="Longest item text, in tokens of the embedder.")]
PromptTokensOption = Annotated[int, typer.Option(help="Longest prompt, in tokens of the encoder, chat template not counted.")]
OverLengthOption = Annotated[
    OverLengthChoice, typer.Option(help="drop: what is over the limits goes, as in the paper. truncate: it stays.")
]
EmbedderTokenizerOption = Annotated[
    str | None, typer.Option(help="tokenizer.json, model folder or hub id; without it, tokens are estimated from words.")
]
EncoderTokenizerOption = Annotated[str | None, typer.Option(help="The same for the encoder.")]
DomainOption = Annotated[str, typer.Option(help='What the items are, as prompts say it, e.g. "books".')]
SeedOption = Annotated[int, typer.Option(help="Of the choice of held-out users and their halves.")]
SkipMalformedOption = Annotated[bool, typer.Option(help="Count malformed lines instead of stopping at the first.")]
