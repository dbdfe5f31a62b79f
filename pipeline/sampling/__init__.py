"""Sampling from trained models: fresh and long chains, posterior chains, short-run chains as a map, bulk sampling."""
