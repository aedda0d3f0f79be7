"""Tasks from the first offer to the last review."""
