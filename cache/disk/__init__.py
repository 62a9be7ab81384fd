"""The one seam through which the store is written: renames, locks, scratch, trees."""
