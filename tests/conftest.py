"""Fixtures for every test."""

from tests.support.redis import redis_server_url, redis_url

__all__ = ["redis_server_url", "redis_url"]
