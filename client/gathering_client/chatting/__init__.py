"""A chat in the terminal: what is typed, shown while a turn runs, and asked meanwhile."""
