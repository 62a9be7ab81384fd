"""Images for tests: a plugin of pytest, containers that are thrown away, and docker-py's way to build."""
