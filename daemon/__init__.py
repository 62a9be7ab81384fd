"""Serves the engine to others: BuildKit's gRPC API over HTTP/2; no rule about builds lives here."""
