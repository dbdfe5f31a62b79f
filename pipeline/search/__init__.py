"""Search: trials of a run's settings, their budgets, objectives and summary."""

SEARCH_FILE = "search.json"
"""The arguments of a search and the job that its trials start from, in its folder."""
