"""One build of a client, from `Solve` to its exports."""
