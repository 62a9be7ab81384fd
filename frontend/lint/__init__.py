"""Build checks: warnings about what is legal and still worth mending [LNT]."""
