"""The gateway: the public face of LangPTune. Recommendations, profiles and their edits, interactions and the catalogue.

A call comes in by gRPC or through `web`, passes `identity`, and is translated by `servicers`, which pass the trainer's on.
Beneath them is a core without transport, put together in `core`: `recommendations`, and the `writing` of profiles when the
`refresh` queue asks for it, on `profiles` and `interactions`. State is in Redis; encoder and decoder are `peers`. No model is
loaded here.
"""
