"""Directory trees as a list of entries and the data of those that were asked for."""
