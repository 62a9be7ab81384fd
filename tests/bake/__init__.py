"""Tests of bake/."""
