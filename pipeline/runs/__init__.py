"""Runs on disk: their settings, checkpoints, logs and snapshots, and who may write there."""
