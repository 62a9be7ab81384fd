"""Instructions to ops, image config and history."""
