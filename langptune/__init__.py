"""LangPTune: recommendation through user profiles in plain language.

This is the shared package: what crosses a service boundary or must mean the same on both sides of one (proto stubs, text
forms, ranking metrics, errors, settings, RPC set-up, weights versions and releases). It imports no torch; the services do.
"""

__version__ = "0.1.0"
