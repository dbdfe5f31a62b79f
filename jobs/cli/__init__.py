"""What commands have in common: flags, errors, opening runs, and result folders."""
