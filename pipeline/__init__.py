"""Distributed training of energy-based models."""
