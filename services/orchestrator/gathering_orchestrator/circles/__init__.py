"""Circles and who belongs to them, with what the circle knows of each member."""
