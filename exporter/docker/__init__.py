"""Images into a Docker engine."""
