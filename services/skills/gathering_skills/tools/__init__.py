"""The skills, one file each, and all of them together."""
