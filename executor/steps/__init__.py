"""Steps: from an op to the specification of a sandbox."""
