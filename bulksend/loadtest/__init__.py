"""Load tests: calls that leave when they are due, and the search for the limit that a vendor enforces."""
