"""The history of the schema `skills`."""
