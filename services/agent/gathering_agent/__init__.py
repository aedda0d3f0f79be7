"""Agents: who they are, what was said to them, and the turns in which they answer.

Owns agents, sessions, messages and turns, and the model providers. Promises: the conversation is
the journal (a stored step never runs again, also when its replica dies), one live turn per session,
tool calls named by turn, step and place so that no tool runs twice.
"""
