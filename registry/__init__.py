"""Speak the distribution protocol: resolve, pull, push, authenticate."""
