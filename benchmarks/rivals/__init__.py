"""The shop's side of other packages: what each asks a shop to write."""
