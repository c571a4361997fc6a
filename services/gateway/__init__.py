"""The gateway: the public face of LangPTune. Recommendations, profiles and their edits, interactions and the catalogue.

A transport-free core (profiles, interactions, recommendations, refresh) under thin servicers; state in Redis, models behind the
encoder's and the decoder's RPCs. Training and releases are passed on to the trainer. No model is loaded here.
"""
