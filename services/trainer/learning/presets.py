"""Named settings: the sample world's, and Appendix B's rows of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langptune.errors import InvalidArgument
from services.trainer.learning.config import LearningConfig

_PAPER_RLSO = {"histories": 64, "samples": 2, "epochs": 4, "eta": 1.0, "weight_decay": 1e-6, "max_new_tokens": 512}
_PAPER_GEMMA = {
    **_PAPER_RLSO,
    "batches": 200,
    "learning_rate": 1e-7,
    "gamma": 0.2,
    "trainable": "lora",
    "lora_rank": 1024,
    "lora_alpha": 2048,
}
_PAPER_LLAMA = {**_PAPER_RLSO, "batches": 500, "learning_rate": 3e-7, "gamma": 0.0, "trainable": "last_k", "last_k": 4}
_PAPER_CL = {"batch_size": 256, "temperature": 0.1, "weight_decay": 1e-6}
_SAMPLE_RLSO = {"histories": 12, "samples": 8, "gamma": 0.02, "learning_rate": 4e-4, "max_new_tokens": 80}
_SAMPLE_CL = {"batch_size": 64, "catalogue_negatives": 128, "temperature": 0.1, "learning_rate": 1e-3}
_PAPER_CL_ONLY = {**_PAPER_CL, "batches": 800, "learning_rate": 1e-5}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "sample": {  # tiny models trained from scratch: CL first, RLSO on the trained decoder, CL again on the new profiles
        "outer_iterations": 1,
        "contrastive": {**_SAMPLE_CL, "batches": 40, "final_batches": 30},
        "rlso": {**_SAMPLE_RLSO, "batches": 45},
    },
    "sample-long": {  # three times as much of each; above all a decoder that has learnt more before the writer learns from it
        "outer_iterations": 1,
        "contrastive": {**_SAMPLE_CL, "batches": 120, "final_batches": 30},
        "rlso": {**_SAMPLE_RLSO, "batches": 150, "gamma": 0.015},
    },
    "paper/gemma-2b-it": {
        "outer_iterations": 5,
        "contrastive": {**_PAPER_CL, "batches": 800, "learning_rate": 1e-7},
        "rlso": _PAPER_GEMMA,
    },
    "paper/llama-3-8b-it": {
        "outer_iterations": 5,
        "contrastive": {**_PAPER_CL, "batches": 2500, "learning_rate": 3e-7},
        "rlso": _PAPER_LLAMA,
    },
    "paper/rlso-only": {"outer_iterations": 5, "contrastive": {"batches": 0}, "rlso": _PAPER_GEMMA},
    "paper/rlso-only-llama-3-8b-it": {"outer_iterations": 5, "contrastive": {"batches": 0}, "rlso": _PAPER_LLAMA},
    "paper/cl-only": {"outer_iterations": 5, "contrastive": _PAPER_CL_ONLY, "rlso": {"batches": 0}},
    "paper/noprofile-cl": {
        "outer_iterations": 5,
        "contrastive": _PAPER_CL_ONLY,
        "rlso": {"batches": 0},
        "profile_source": "history",
    },
}


def preset(name: str, overrides: Mapping[str, Any] | None = None) -> LearningConfig:
    """A named setting with some values replaced (nested mappings merge). Raises InvalidArgument for an unknown name or field."""
    if name not in PRESETS:
        raise InvalidArgument("preset", f"must be one of {', '.join(PRESETS)}, not {name!r}")
    return LearningConfig.parse(_merged(PRESETS[name], overrides or {}))


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged
