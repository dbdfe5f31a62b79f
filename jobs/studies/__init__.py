"""Studies: commands that compare runs or settings."""
