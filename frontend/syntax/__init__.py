"""Text to instructions."""
