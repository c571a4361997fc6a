"""Where items and their vectors live: one port, and the engines behind it."""

from services.decoder.index.port import Collection, Engine, Entry, Hit

__all__ = ["Collection", "Engine", "Entry", "Hit"]
