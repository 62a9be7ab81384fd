"""Why steps ran: what one build found stored, what it did not find, and what was different."""
