"""Worker processes: started, told, bounded and ended."""
