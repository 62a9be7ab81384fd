"""Trees of deltas where overlay cannot be mounted: put together file by file, and compared again."""
