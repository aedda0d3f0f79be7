"""The history of the schema `orchestrator`."""
