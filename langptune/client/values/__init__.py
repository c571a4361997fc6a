"""What the client gives and takes: frozen values, and how the protos say them; nothing is checked here, the service does that.

The protos' comments (protos/langptune/v1) hold the full definitions. Times are milliseconds since 1970-01-01 UTC.
"""
