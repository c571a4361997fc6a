"""What users are shown: rankings, what an edit would do to them, and what they never want to see."""
