"""Search: trials of a run's settings, their budgets, objectives and summary."""
