"""Builds of the server's clients: what `Control` and the gateway service do with the engine."""
