"""Tests of bake/hcl/."""
