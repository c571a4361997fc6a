"""Profiles as users have them: revisions, marks, suggestions, what changed, what a sentence rests on. No text is written here."""
