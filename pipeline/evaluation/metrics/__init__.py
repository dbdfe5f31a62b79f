"""Metrics of models, one kind a file."""
