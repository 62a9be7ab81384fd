"""The fully cached build: memos, and the proof that they hold."""
