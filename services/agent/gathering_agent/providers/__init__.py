"""Calls of models: who serves them, by which key, how often they are tried."""
