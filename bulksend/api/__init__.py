"""Composition: from a job file to an account, a ledger, a provider and an engine, and from a run to a Report."""
