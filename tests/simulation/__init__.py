"""Whole jobs in a world made from one number: clock, network, disk, vendor and deaths all follow from the seed.

What is real: job, provider, renderer, launch, sender, limiter, retry, lookups, and the ledger on SQLite. What is made
up: time, the network between transport and vendor, the vendor (the emulators' pure half), how long a commit takes, when
the disk fails, when the clock jumps, and when the process dies. What is not here: sockets, threads, the shell; those
are tried with real processes in `tests/end_to_end`.
"""
