"""Measurements of pybuild, beside the builders found on this machine; see docs/benchmarks.md."""
