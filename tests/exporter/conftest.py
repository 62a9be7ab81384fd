"""The whole program, for tests of what it writes."""

from tests.e2e.conftest import pybuild

__all__ = ["pybuild"]
