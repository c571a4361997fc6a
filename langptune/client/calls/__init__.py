"""The RPCs, service by service: one method each, in Python values."""
