"""Decide what must run, in which order, under which cache key."""
