"""Where items and their vectors live: one port, and the engines behind it."""

from services.decoder.index.filter import EVERYTHING, AnyOf, Between, Flag, ItemFilter
from services.decoder.index.port import Collection, Engine, Entry, Hit, Search

__all__ = ["EVERYTHING", "AnyOf", "Between", "Collection", "Engine", "Entry", "Flag", "Hit", "ItemFilter", "Search"]
