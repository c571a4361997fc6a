"""What operators do with the whole system: size it, back it up and restore it, and write for everybody at once."""
