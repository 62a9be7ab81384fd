"""Carries a build's results to other machines and back."""
