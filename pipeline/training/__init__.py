"""Training: one update (learner), one rank (worker), one loop, and when a run counts as diverged."""
