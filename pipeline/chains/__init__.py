"""Chains as data: lanes, tasks and their results, banks of persistent states, and the pool of one process."""
