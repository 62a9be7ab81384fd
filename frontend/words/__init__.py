"""Words: how they are split, quoted and expanded."""
