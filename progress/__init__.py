"""Makes text of events and errors: a live terminal, numbered lines, JSON, or nothing [PRG]."""
