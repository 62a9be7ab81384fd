"""Methods of our own beside those of BuildKit's services."""

from __future__ import annotations

EXPLAIN_REPORTS = "/pybuild.v1.Explain/Reports"
"""A JSON object of options; answered with a JSON object a report, the latest build first."""
