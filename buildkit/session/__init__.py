"""Pieces that both ends of a session use."""
