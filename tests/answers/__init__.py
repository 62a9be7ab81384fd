"""A table of the mistakes of the first hour, and what is answered to each."""
