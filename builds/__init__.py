"""One build, told from the top down: read, lower, solve, export, explain."""
