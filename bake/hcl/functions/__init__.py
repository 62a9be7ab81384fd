"""The functions that bake files may call, as buildx has them."""
