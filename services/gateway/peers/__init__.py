"""The encoder and the decoder as the gateway sees them: the only place that knows their stubs."""
