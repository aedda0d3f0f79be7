"""Turns: how they begin, run, wait, end."""
