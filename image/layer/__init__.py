"""Layers: tars of changes, compressed and taken apart; most of it runs in workers."""
