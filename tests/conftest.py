"""Fixtures for every test."""

import signal

from tests.support.redis import redis_server_url, redis_url

__all__ = ["redis_server_url", "redis_url"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the processes that tests start are to heed Ctrl-C
