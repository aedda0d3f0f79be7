"""Local servers that speak the wire formats of model providers, scripted per test."""
