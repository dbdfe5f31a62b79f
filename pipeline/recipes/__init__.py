"""One file per paper; none imports another."""
