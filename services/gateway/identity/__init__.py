"""Who calls the gateway, and what they may: tokens and the keys that they are checked by, the table of rights, the guard."""
