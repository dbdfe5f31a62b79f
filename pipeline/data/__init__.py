"""Data: from names and files to tensors."""
