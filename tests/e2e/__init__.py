"""Whole builds with the real kernel, the real registry and real peers."""
