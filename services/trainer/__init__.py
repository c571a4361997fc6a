"""The trainer: a control plane (jobs, launchers, releases) and the learning core (Algorithm 1)."""
