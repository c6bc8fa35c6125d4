"""What `benchmarks.reconcile` compares: two lists of ids, the ways of comparing them, and whole runs."""
