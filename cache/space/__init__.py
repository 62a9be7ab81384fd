"""Space: its use, its value, and how it is freed."""
