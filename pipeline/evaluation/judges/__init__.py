"""Judges: networks and features that models are compared by, trained once and cached."""
