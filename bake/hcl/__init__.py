"""HCL as bake files use it: text to blocks, expressions to values."""
