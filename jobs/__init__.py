"""One file an experiment: its presets, and the results they claim."""
