"""The offline model: rules instead of a network, deterministic, honest about what it is."""
