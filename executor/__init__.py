"""Make one vertex happen: root file system, mounts, sandbox, file actions, sources."""
