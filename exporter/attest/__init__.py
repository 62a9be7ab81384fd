"""What builds say about themselves: provenance and lists of what is inside [ATT]."""
