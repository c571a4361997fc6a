"""What users did: histories in Redis, whole with their items, one call at a time or in bulk."""
