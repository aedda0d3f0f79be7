"""What tests of several tiers need; nothing in the distribution imports it."""
