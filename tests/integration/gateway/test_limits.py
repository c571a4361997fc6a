"""Limits at both doors: how many calls, and how large one may be."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from google.rpc import error_details_pb2

from langptune.client import LangPTune
from langptune.errors import LangPTuneError, NotFound, ResourceExhausted
from langptune.identity import DEVELOPMENT_SECRET, mint
from tests.integration.gateway.doors import Doors

LIMIT = 16 << 20  # bytes of a message


async def _post(doors: Doors, rpc: str, user: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and answer of a JSON call."""
    sent = {"content-type": "application/json", "authorization": f"Bearer {mint(user, DEVELOPMENT_SECRET)}", **headers}

    def ask() -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{doors.http}/langptune.v1.{rpc}", body, sent), timeout=60
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return await asyncio.to_thread(ask)


async def test_a_refresh_counts_twenty_and_the_sixteenth_is_told_when_to_come_back(doors: Doors) -> None:
    """300 units at once and 5 a second: 15 refreshes, and perhaps one more where they take longer than 4 seconds."""
    async with LangPTune(doors.gateway.address, token=mint("u-eager", DEVELOPMENT_SECRET)) as lp:
        ended = [await _ended(lp) for _ in range(15)]
        assert not [error for error in ended if isinstance(error, ResourceExhausted)]
        for _ in range(20):
            error = await _ended(lp)
            if isinstance(error, ResourceExhausted):
                break
        assert isinstance(error, ResourceExhausted)
        assert 0 < error.retry_after <= 4.0
    status, answer = await _post(doors, "ProfileService/RefreshProfile", "u-eager", b'{"userId": "u-eager"}')
    assert (status, answer["code"]) == (429, "resource_exhausted")
    [packed] = [detail["value"] for detail in answer["details"] if detail["type"] == "google.rpc.RetryInfo"]
    delay = error_details_pb2.RetryInfo.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4))).retry_delay
    assert 0 < delay.ToMilliseconds() <= 4_000


async def _ended(lp: LangPTune) -> LangPTuneError:
    with pytest.raises(LangPTuneError) as caught:
        await lp.refresh_profile("u-eager")
    return caught.value


async def test_a_message_that_is_too_large_is_refused_at_both_doors(doors: Doors) -> None:
    async with LangPTune(doors.gateway.address, token=mint("u1", DEVELOPMENT_SECRET)) as lp:
        with pytest.raises(LangPTuneError, match="larger than"):
            await lp.update_profile("u1", "x" * (LIMIT + 1))
        with pytest.raises(NotFound):
            await lp.get_profile("u1")
    large = b'{"userId": "u1", "text": "' + b"x" * LIMIT + b'"}'
    for body, headers in ((large, {}), (gzip.compress(large), {"content-encoding": "gzip"})):
        status, answer = await _post(doors, "ProfileService/UpdateProfile", "u1", body, **headers)
        assert (status, answer["code"]) == (429, "resource_exhausted")
        assert "larger than" in answer["message"]
