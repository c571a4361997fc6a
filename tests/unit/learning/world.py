"""Both ports in one process, real models behind them: a sampler over a saved policy, exact ranks over a saved embedder.

Also a reward that is known by construction, so that a test can tell whether the policy learns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoModelForCausalLM, BertConfig, BertModel, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from langptune.domain import Item
from langptune.ranking import exact_ranks
from langptune.text import item_text
from services.trainer.learning.ports import History, RankQuery, Rollout, RolloutGroup, Saveable

WORDS = 14  # vocabulary of the learning tests: <pad>, <s>, </s>, w3 ... w13
END = 2


def tiny_writer(seed: int) -> PreTrainedModel:
    """A random Llama that ends a profile after about 14 tokens."""
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=WORDS, **sizes, bos_token_id=1, eos_token_id=END, pad_token_id=0)
    )


def tiny_embedder(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> SentenceTransformer:
    """A random one-layer BERT over the tests' own words."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes, max_position_embeddings=64)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    body = Transformer(str(folder), max_seq_length=48)
    return SentenceTransformer(modules=[body, Pooling(32, "mean")], device="cpu")


class InProcessRollouts:
    """Samples from what `use` was last given, read back from the folder that it wrote."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, scratch: Path) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.scratch = scratch
        self.version = 0

    async def use(self, policy: Saveable) -> str:
        self.version += 1
        policy.save(self.scratch)
        self.model = AutoModelForCausalLM.from_pretrained(self.scratch).eval()
        return f"v{self.version}"

    async def sample(self, histories: Sequence[History], *, samples: int, max_new_tokens: int, seed: int) -> list[RolloutGroup]:
        """The prompt is one word per item of the history."""
        prompts = [(1, *(3 + int(entry.item.item_id[1:]) % (WORDS - 3) for entry in history)) for history in histories]
        rows = torch.tensor([prompt for prompt in prompts for _ in range(samples)])
        tokens, logprobs = self._continue(rows, max_new_tokens, torch.Generator().manual_seed(seed))
        rollouts = [self._rollout(row, own) for row, own in zip(tokens.tolist(), logprobs.tolist(), strict=True)]
        return [
            RolloutGroup(prompt, tuple(rollouts[at * samples : (at + 1) * samples]), f"v{self.version}")
            for at, prompt in enumerate(prompts)
        ]

    @torch.no_grad()
    def _continue(self, rows: torch.Tensor, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        start, logprobs = rows.shape[1], []
        for _ in range(count):
            distribution = self.model(input_ids=rows).logits[:, -1].log_softmax(-1)
            chosen = torch.multinomial(distribution.exp(), 1, generator=generator)
            logprobs.append(distribution.gather(1, chosen))
            rows = torch.cat([rows, chosen], dim=1)
        return rows[:, start:], torch.cat(logprobs, dim=1)

    def _rollout(self, tokens: list[int], logprobs: list[float]) -> Rollout:
        stopped = END in tokens
        length = tokens.index(END) + 1 if stopped else len(tokens)
        text = self.tokenizer.decode(tokens[:length], skip_special_tokens=True)
        return Rollout(tuple(tokens[:length]), text, "stop" if stopped else "length", tuple(logprobs[:length]))


class WordReward:
    """The target stands first when the profile has the word, and tenth when it has not."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def use(self, embedder: Saveable) -> str:
        raise AssertionError("no embedder learns in this test")

    async def ranks(self, queries: Sequence[RankQuery]) -> list[tuple[int, ...]]:
        return [(1,) if self.word in query.profile.split() else (10,) for query in queries]


class InProcessRewards:
    """Exact ranks over the catalogue by the embedder that `use` was last given."""

    def __init__(self, embedder: SentenceTransformer, items: dict[str, Item], scratch: Path) -> None:
        self.items = items
        self.scratch = scratch
        self.uses = 0
        self._load(embedder)

    def _load(self, embedder: SentenceTransformer) -> None:
        self.embedder = embedder
        self.places = {item_id: at for at, item_id in enumerate(self.items)}
        self.matrix = embedder.encode([item_text(item) for item in self.items.values()], normalize_embeddings=True)

    async def use(self, embedder: Saveable) -> str:
        self.uses += 1
        embedder.save(self.scratch)
        self._load(SentenceTransformer(str(self.scratch), device="cpu"))
        return f"d{self.uses}"

    async def ranks(self, queries: Sequence[RankQuery]) -> list[tuple[int, ...]]:
        vectors = self.embedder.encode([query.profile for query in queries], normalize_embeddings=True)
        return [
            tuple(
                exact_ranks(
                    self.matrix @ vector,
                    [self.places[item_id] for item_id in query.target_item_ids],
                    [self.places[item_id] for item_id in query.excluded_item_ids],
                )
            )
            for query, vector in zip(queries, vectors, strict=True)
        ]
