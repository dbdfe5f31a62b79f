"""Convergence: whether the chains of a run converge, seen from its checkpoints."""
