"""Definitions as they travel (LLB) to our vertices and back."""
