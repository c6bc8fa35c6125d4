"""A job's report: one HTML page of values that somebody else has gathered. Nothing here reads a file or a clock."""

from bulksend.observe.report.facts import (
    EndpointFigures,
    Facts,
    FailedSend,
    Figures,
    PlanLine,
    RunFacts,
    read_figures,
    read_run,
)
from bulksend.observe.report.masked import MASK, masked, masked_tree
from bulksend.observe.report.page import MARK, page

__all__ = [
    "MARK",
    "MASK",
    "EndpointFigures",
    "Facts",
    "FailedSend",
    "Figures",
    "PlanLine",
    "RunFacts",
    "masked",
    "masked_tree",
    "page",
    "read_figures",
    "read_run",
]
