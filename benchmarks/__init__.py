"""Measurements side by side: what the pipeline costs, and what the libraries cost that users would take instead."""
