"""Values of the command line, parsed."""
