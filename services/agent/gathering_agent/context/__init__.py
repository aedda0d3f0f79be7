"""What a model is told: named sections, within its window."""
