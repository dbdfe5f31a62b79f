"""One file a paper; none imports another."""
