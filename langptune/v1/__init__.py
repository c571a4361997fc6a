"""Generated from protos/langptune/v1 by `make protos`; not to be edited."""
