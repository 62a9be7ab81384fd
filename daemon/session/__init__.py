"""Clients that lend us their directories, secrets and agents while they build."""
