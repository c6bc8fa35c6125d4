"""Consumers of events; nothing below knows them."""
