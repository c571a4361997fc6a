"""The Kubernetes cluster that the trainer runs in: its API, copies of what it says, and what the trainer needs to be allowed."""
