"""What a model is worth: pure functions of samples, networks and data."""
