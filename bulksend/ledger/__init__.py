"""Durable states with guarded transitions: what was sent, what became of it, and how much of each limit is used."""
