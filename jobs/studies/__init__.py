"""Studies: what one idea of a paper, or of this project, is worth, measured on finished runs or on its own."""
