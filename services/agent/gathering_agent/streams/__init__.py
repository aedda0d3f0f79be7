"""Streams of turns: what watchers get, also at other replicas."""
