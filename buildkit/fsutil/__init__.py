"""Directory trees as a list of entries and the data of requested files."""
