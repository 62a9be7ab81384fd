"""The documents in which caches travel."""
