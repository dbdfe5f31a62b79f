"""Networks: energies, generators, encoders and flows, one noun a file."""
