"""How a profile is best written when the history grows, and which interactions support a sentence: the sample world, in process.

Strategies: `full` reads the newest of the history that fit one prompt; `segments` writes about runs of the history and merges the
sentences; `incremental` writes about what is new and merges that with the profile before; `prompt` puts the profile before into
the prompt, a form that the writer was not trained on. Evidence: (sentence, interaction) pairs against what the world knows.

Example: python -m benchmarks.profiles --json build/profiles.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from langptune.domain import Interaction, Session
from langptune.text import (
    DEFAULT_DOMAIN,
    ENTRY_SEPARATOR,
    INSTRUCTION_TEMPLATE,
    affirmed,
    history_text,
    interaction_text,
    item_text,
    sentences,
    states_dislike,
)
from samples.evaluate import target_ranks
from samples.headroom import CUTOFF, ndcg
from samples.measure import measure_profiles
from samples.models import EMBEDDER, MODELS_FOLDER, WRITER, load_embedder, load_writer
from samples.teacher import opinions, parse
from samples.users import Choice, make_sessions, make_users
from samples.world import MAX_ITEMS, attributes_of, make_catalogue
from samples.writer import MAX_NEW_TOKENS, sample_profiles
from services.encoder.prompts import PromptBuilder
from services.gateway.writing.merging import merged

SEGMENT = 4  # interactions, as many as the writer was trained on
CHOICE = Choice(sharpness=2.0)  # at 3.5 most of a long history is the same few films
PROMPT_TOKENS = 768  # three quarters of the writer's context, as the encoder allows
console = Console(width=180)


@dataclass(frozen=True)
class World:
    """Users with long histories, and what they chose next."""

    sessions: Sequence[Session]
    items: Sequence[Any]


def make_world(users: int, runs: int, seed: int) -> World:
    """Each user's history is that of `runs` sessions, films that came up again left out; choices less sharp than usual."""
    catalogue = make_catalogue(MAX_ITEMS, seed=seed)
    people = make_users(users, seed + 500)
    drawn = [list(make_sessions(catalogue, people, 100 * seed + run, choice=CHOICE)) for run in range(runs)]
    sessions = []
    for number, person in enumerate(people):
        target = drawn[-1][number].target_item_ids
        entries = {entry.item.item_id: entry for run in drawn for entry in run[number].history}
        history = tuple(entry for item_id, entry in entries.items() if item_id not in target)
        sessions.append(Session(person.user_id, history, target))
    return World(sessions, catalogue.items)


class Writer:
    """The sample writer under the prompts of the encoder service."""

    def __init__(self, seed: int) -> None:
        self._model, self._tokenizer = load_writer(MODELS_FOLDER / WRITER)
        self._prompts = PromptBuilder(self._tokenizer, PROMPT_TOKENS)
        self._seed = seed

    def write(self, histories: Sequence[Sequence[Interaction]]) -> list[str]:
        """A profile of each."""
        return self._sample([self._prompts.build(history, DEFAULT_DOMAIN, "history").text for history in histories])

    def write_on(self, histories: Sequence[Sequence[Interaction]], before: Sequence[str]) -> list[str]:
        """The same, with an earlier profile in each prompt."""
        instruction = INSTRUCTION_TEMPLATE.format(domain=DEFAULT_DOMAIN)
        bodies = [
            ENTRY_SEPARATOR.join((instruction, f"The summary so far: {profile}", history_text(history)))
            for history, profile in zip(histories, before, strict=True)
        ]
        chat = [[{"role": "user", "content": body}] for body in bodies]
        prompts = [self._tokenizer.apply_chat_template(one, add_generation_prompt=True, tokenize=False) for one in chat]
        return self._sample(list(map(str, prompts)))

    def coverage(self, history: Sequence[Interaction]) -> float:
        """Share of a history that one prompt has room for."""
        return self._prompts.build(history, DEFAULT_DOMAIN, "history").coverage

    @torch.inference_mode()
    def _sample(self, prompts: Sequence[str]) -> list[str]:
        self._seed += 1
        torch.manual_seed(self._seed)
        generate = cast(Any, self._model).generate  # its stub asks for a protocol that no model class meets
        order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
        profiles = [""] * len(prompts)
        for first in range(0, len(order), 32):
            chosen = order[first : first + 32]
            ids = [self._tokenizer(prompts[at], add_special_tokens=False)["input_ids"] for at in chosen]
            padded = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt")
            output = generate(**padded, max_new_tokens=MAX_NEW_TOKENS, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
            texts = self._tokenizer.batch_decode(output[:, padded["input_ids"].shape[1] :], skip_special_tokens=True)
            for at, text in zip(chosen, texts, strict=True):
                profiles[at] = text.strip()
        return profiles


def segments(history: Sequence[Interaction]) -> list[Sequence[Interaction]]:
    """Runs of SEGMENT interactions, newest first; the oldest may be shorter."""
    ends = range(len(history), 0, -SEGMENT)
    return [history[max(0, end - SEGMENT) : end] for end in ends]


def strategies(writer: Writer, histories: Sequence[Sequence[Interaction]], most: Sequence[int]) -> dict[str, list[str]]:
    """A profile per history and strategy; `most` sentences are kept of merged ones."""
    runs = [segments(history) for history in histories]
    depth = max(map(len, runs))
    found = {"full": writer.write(histories), "newest segment": writer.write([parts[0] for parts in runs])}
    parts = [writer.write([each[min(at, len(each) - 1)] for each in runs]) for at in range(depth)]  # newest first
    written = [[parts[at][user] for at in range(len(runs[user]))] for user in range(len(runs))]
    older = [history[:-SEGMENT] or history for history in histories]
    before = writer.write(older)
    for limit in most:
        found[f"segments, {limit} sentences"] = [merged(texts, limit) for texts in written]
        found[f"incremental, {limit} sentences"] = [
            merged([texts[0], profile], limit) for texts, profile in zip(written, before, strict=True)
        ]
    found["prompt"] = writer.write_on([each[0] for each in runs], before)
    return found


def measure_strategies(world: World, seed: int, most: Sequence[int]) -> list[dict[str, Any]]:
    """A row per strategy: truth of the text against the whole history, and NDCG@20 of what was chosen next."""
    writer, embedder = Writer(seed), load_embedder(MODELS_FOLDER / EMBEDDER)
    histories = [session.history for session in world.sessions]
    shape = {
        "users": len(histories),
        "history": float(np.mean([len(history) for history in histories])),
        "coverage": float(np.mean([writer.coverage(history) for history in histories])),
    }
    rows = []
    for name, texts in strategies(writer, histories, most).items():
        quality = measure_profiles(list(zip(histories, texts, strict=True)))
        gains = ndcg(target_ranks(embedder, world.items, world.sessions, texts), CUTOFF)
        error = float(gains.std() / np.sqrt(len(gains)))
        rows.append({"strategy": name, **shape, **asdict(quality), "ndcg": float(gains.mean()), "ndcg_error": error})
        console.print(f"{name}: done")
    return rows


def evidence_pairs(users: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(score, truth, sentence) of every pair of a sentence and an interaction of its history.

    True support: the film has an attribute that the sentence states; where it states a like (dislike), the review praises
    (blames) one of them. The scores are those of services/decoder/evidence.py and
    services/gateway/profiles/evidence.py.
    """
    catalogue = make_catalogue(seed=seed)
    sessions = list(make_sessions(catalogue, make_users(users, seed + 700), seed))
    model, tokenizer = load_writer(MODELS_FOLDER / WRITER)
    profiles = sample_profiles(model, tokenizer, [session.history for session in sessions], seed)
    embedder = load_embedder(MODELS_FOLDER / EMBEDDER)

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.asarray(embedder.encode(list(texts), convert_to_numpy=True, show_progress_bar=False))

    items = embed([item_text(item) for item in catalogue.items])
    scores, truths, numbers = [], [], []
    for session, profile in zip(sessions, profiles, strict=True):
        texts = sentences(profile)
        if not texts:
            continue
        vectors = embed([affirmed(text) for text in texts])
        said = embed([interaction_text(entry) for entry in session.history])
        near = vectors @ items.T
        scores.append((vectors @ said.T - near.mean(axis=1, keepdims=True)) / near.std(axis=1, keepdims=True))
        liked = np.array([[states_dislike(text) and entry.rating > 3 for entry in session.history] for text in texts])
        scores[-1][liked] = -np.inf  # no support of a dislike, however near
        truths.append(np.array([[supports(text, entry) for entry in session.history] for text in texts]))
        numbers.append(len(texts))
    owner = np.repeat(np.arange(sum(numbers)), len(sessions[0].history))
    return np.concatenate(scores).ravel(), np.concatenate(truths).ravel(), owner


def supports(sentence: str, entry: Interaction) -> bool:
    """Whether the interaction shows something that the sentence states."""
    statement = next(iter(parse(sentence)), None)
    if statement is None or statement.stance is None:
        return False
    praised, blamed = opinions(entry.review)
    shown = {"seen": set(attributes_of(entry.item)), "likes": praised, "dislikes": blamed}[statement.stance]
    return bool(shown & set(statement.attributes))


def measure_evidence(scores: np.ndarray, truths: np.ndarray, owner: np.ndarray, threshold: float) -> dict[str, float]:
    """Precision and recall over pairs, and of "nothing supports this" over sentences."""
    told = scores >= threshold
    none_told = np.bincount(owner, told) == 0
    none_true = np.bincount(owner, truths) == 0
    return {
        "threshold": threshold,
        "pairs": len(scores),
        "true_pairs": int(truths.sum()),
        "precision": _share(told & truths, told),
        "recall": _share(told & truths, truths),
        "sentences": len(none_true),
        "unsupported": int(none_true.sum()),
        "unsupported_precision": _share(none_told & none_true, none_told),
        "unsupported_recall": _share(none_told & none_true, none_true),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / max(1, whole.sum()))


def main() -> None:
    """Both measurements; --quick for a smoke test."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profiles", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--quick", action="store_true", help="20 users in place of 300")
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    users = 20 if arguments.quick else 300
    rows: dict[str, list[dict[str, Any]]] = {"strategies": [], "evidence": []}
    for runs in (3, 12):
        rows["strategies"] += measure_strategies(make_world(users, runs, arguments.seed), arguments.seed, (8, 16))
    pairs = evidence_pairs(users, arguments.seed)
    rows["evidence"] = [measure_evidence(*pairs, threshold) for threshold in np.arange(-0.5, 2.6, 0.25).tolist()]
    for name, shown in (("strategies", STRATEGY_COLUMNS), ("evidence", EVIDENCE_COLUMNS)):
        _print(name, rows[name], shown)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


STRATEGY_COLUMNS = (
    *("strategy", "users", "history", "coverage", "truth", "likes_truth", "dislikes_truth", "repetition", "words"),
    *("chance", "ndcg", "ndcg_error"),
)
EVIDENCE_COLUMNS = (
    *("threshold", "pairs", "true_pairs", "precision", "recall", "sentences", "unsupported"),
    *("unsupported_precision", "unsupported_recall"),
)


def _print(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    console.print(table)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
