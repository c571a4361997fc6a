"""From a candidate to what everyone is served: the gate, the crash-safe protocol, verification, retention, and the way back."""
