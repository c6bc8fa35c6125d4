"""The page of a load test, made of the same parts as that of a job's runs."""

from bulksend.observe.report.load.facts import LoadFacts, LoadFigures, SlidingWindow, read_load
from bulksend.observe.report.load.page import LOAD_MARK, load_page

__all__ = ["LOAD_MARK", "LoadFacts", "LoadFigures", "SlidingWindow", "load_page", "read_load"]
