"""Builds of the server's clients: `Control` and the gateway service on top of the engine."""
