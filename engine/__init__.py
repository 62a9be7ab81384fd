"""The engine: what every build is handed, opened once and closed once."""
