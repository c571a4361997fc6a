"""The recommender decoder sigma: an embedding model and an item index that together rank the whole catalogue (Section 3.1)."""
