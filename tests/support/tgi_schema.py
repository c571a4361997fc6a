"""What we rely on of TGI 3.3.7's published API (its docs/openapi.json at tag v3.3.7), as JSON schemas.

Written down from that description, not copied: only the routes, fields, types and `required` lists that our engine or its
stand-in uses. One deviation of the real server from its own description is kept: error bodies of the generation routes are
ErrorResponse, with both fields.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object with these fields and no others."""
    fields = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": fields, "additionalProperties": False}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


TEXT, FLAG, NUMBER = {"type": "string"}, {"type": "boolean"}, {"type": "number"}
COUNT = {"type": "integer", "minimum": 0}
POSITIVE = {"type": "integer", "exclusiveMinimum": 0}
SHARE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}

PARAMETERS = _object(
    {},
    {
        "adapter_id": _or_null(TEXT),
        "best_of": _or_null(POSITIVE),
        "decoder_input_details": FLAG,
        "details": FLAG,
        "do_sample": FLAG,
        "frequency_penalty": _or_null({"type": "number", "exclusiveMinimum": -2}),
        "grammar": {},
        "max_new_tokens": _or_null(COUNT),
        "repetition_penalty": _or_null({"type": "number", "exclusiveMinimum": 0}),
        "return_full_text": _or_null(FLAG),
        "seed": _or_null(POSITIVE),
        "stop": {**_list(TEXT), "maxItems": 4},
        "temperature": _or_null({"type": "number", "exclusiveMinimum": 0}),
        "top_k": _or_null(POSITIVE),
        "top_n_tokens": _or_null(POSITIVE),
        "top_p": _or_null(SHARE),
        "truncate": _or_null(COUNT),
        "typical_p": _or_null(SHARE),
        "watermark": FLAG,
    },
)
FINISH_REASON = {"enum": ["length", "eos_token", "stop_sequence"]}
TOKEN = _object({"id": COUNT, "text": TEXT, "logprob": _or_null(NUMBER), "special": FLAG})
PREFILL_TOKEN = _object({"id": COUNT, "text": TEXT, "logprob": _or_null(NUMBER)})
SEQUENCE = {
    "finish_reason": FINISH_REASON,
    "generated_tokens": COUNT,
    "prefill": _list(PREFILL_TOKEN),
    "tokens": _list(TOKEN),
}
SEED = {"seed": _or_null(COUNT)}
BEST_OF_SEQUENCE = _object({"generated_text": TEXT, **SEQUENCE}, SEED)
DETAILS = _object(SEQUENCE, {**SEED, "best_of_sequences": _or_null(_list(BEST_OF_SEQUENCE)), "top_tokens": _list(_list(TOKEN))})
STREAM_DETAILS = _object({"finish_reason": FINISH_REASON, "generated_tokens": COUNT, "input_length": COUNT}, SEED)
GENERATE_RESPONSE = _object({"generated_text": TEXT}, {"details": _or_null(DETAILS)})
ERROR = _object({"error": TEXT, "error_type": TEXT})

REQUESTS = {
    "/": _object({"inputs": TEXT}, {"parameters": PARAMETERS, "stream": FLAG}),
    "/generate": _object({"inputs": TEXT}, {"parameters": PARAMETERS}),
    "/generate_stream": _object({"inputs": TEXT}, {"parameters": PARAMETERS}),
    "/tokenize": _object({"inputs": TEXT}, {"parameters": PARAMETERS}),
}
ANSWERS = {
    "/": _list(GENERATE_RESPONSE),
    "/generate": GENERATE_RESPONSE,
    "event": _object(
        {"index": COUNT, "token": TOKEN},
        {"details": _or_null(STREAM_DETAILS), "generated_text": _or_null(TEXT), "top_tokens": _list(TOKEN)},
    ),
    "/tokenize": _list(_object({"id": COUNT, "text": TEXT, "start": COUNT, "stop": COUNT})),
    "/info": _object(
        {
            "model_id": TEXT,
            "max_concurrent_requests": COUNT,
            "max_best_of": COUNT,
            "max_stop_sequences": COUNT,
            "max_input_tokens": COUNT,
            "max_total_tokens": COUNT,
            "validation_workers": COUNT,
            "max_client_batch_size": COUNT,
            "router": TEXT,
            "version": TEXT,
        },
        {name: _or_null(TEXT) for name in ("docker_label", "model_pipeline_tag", "model_sha", "sha")},
    ),
    "error": ERROR,
}


def check(schema: dict[str, Any], value: object) -> None:
    """Raises jsonschema.ValidationError."""
    Draft202012Validator(schema).validate(value)
