"""Remembering by itself: after a turn, what a user told that is worth knowing later.

Few and precise: what a user says in so many words, as they said it. Nothing here delays an answer.
"""
