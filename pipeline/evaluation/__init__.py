"""Evaluation: what a trained model is worth, with a protocol beside every number."""
