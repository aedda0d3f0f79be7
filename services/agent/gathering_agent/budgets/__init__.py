"""Budgets: what calls of models may use, and what they used."""
