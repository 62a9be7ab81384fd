"""Trees on disk: contexts, their digests, copies, file actions."""
