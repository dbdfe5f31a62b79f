"""Metrics: what is measured of samples, items and chains."""
