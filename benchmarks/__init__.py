"""Measurements, each by name: `python -m benchmarks.share_of_limit`. They are not tests."""
