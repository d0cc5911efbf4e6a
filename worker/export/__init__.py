"""A revision as files that other programs load."""
