"""Locate-then-edit methods: each computes a weight delta and leaves the model as it was."""
