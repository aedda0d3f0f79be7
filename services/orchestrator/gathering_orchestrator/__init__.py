"""Circles of agents and their work: offers that agents may decline, rounds of work, peer review.

Owns circles, members, tasks, offers, reviews and the record of the turns that it asked for. A task
goes on by itself through crashes of any part; nobody is commanded, everybody is asked.
"""
