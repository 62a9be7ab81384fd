"""One build over many machines: steps run where there is room, and their trees stay there until needed."""
