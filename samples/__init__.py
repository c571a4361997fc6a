"""The sample world: a readable synthetic film catalogue, its users, and two tiny models trained on it (see README.md)."""
