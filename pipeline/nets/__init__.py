"""Networks: energies first."""
