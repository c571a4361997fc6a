"""Whose profile is to be written again: the queue in Redis that interactions fill and writers empty."""
