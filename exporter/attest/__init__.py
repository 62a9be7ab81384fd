"""Attestations that builds make of themselves: provenance and lists of contents [ATT]."""
