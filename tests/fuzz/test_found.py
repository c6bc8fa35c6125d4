"""What the fuzz has found, one plain test each."""

from __future__ import annotations

import gzip
import math

import pytest

from bulksend.duration import parse_duration
from bulksend.emulators.faults import parse_fault, parse_latency
from bulksend.emulators.window import parse_limit
from bulksend.errors import JobError, Problem
from bulksend.model import Limit
from tests.shell.conftest import CELL, Listener, Shell
from tests.shell.conftest import listener as listener  # noqa: PLC0414 - fixtures
from tests.shell.conftest import shell as shell  # noqa: PLC0414


def refused(shell: Shell, listener: Listener, says: str) -> None:
    for command in ("plan", "run"):
        said = shell.call(command, "job.toml")
        assert said.code == 2, said
        assert says in said.stderr
        assert CELL not in said.stderr
    assert listener.connections == 0


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ('"sale"', "9" * 5000),
        ('"sale"', f"0x{'f' * 5000}"),
        ('"insider"', "9" * 30),
        ('"100000001"', str(2**63)),
        ('"1 day"', str(-(2**63) - 1)),
    ],
)
def test_a_number_of_more_than_64_bits(shell: Shell, listener: Listener, field: str, number: str) -> None:
    shell.edit((field, number))
    refused(shell, listener, "a number is too long" if number == "9" * 5000 else "past what a whole number can be")


@pytest.mark.parametrize("provider", ['["insider"]', "{a = 1}"])
def test_a_provider_that_is_no_text(shell: Shell, listener: Listener, provider: str) -> None:
    shell.edit(('"insider"', provider))
    refused(shell, listener, "account.provider: must be one of insider")


@pytest.mark.parametrize("chunk", ["[25]", "true"])
def test_a_chunk_that_is_no_number_beside_lists_of_a_chunk(shell: Shell, listener: Listener, chunk: str) -> None:
    shell.write(
        "job.toml",
        f"""\
job = "sale"
[account]
provider = "stream"
api_key = "k"
api_secret = "env:INSIDER_TOKEN"
base_url = "{shell.url}"
[audience]
from = "stores.csv"
key = "store_id"
chunk = {chunk}
[launch]
name = "Sale"
sender_id = "marketing"
segment_ids = "${{city[]}}"
message_template = {{ text = "Sale" }}
""",
    )
    refused(shell, listener, "audience.chunk: must be a whole number")


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz"])
def test_gzip_that_is_spoilt_inside(shell: Shell, listener: Listener, ending: str) -> None:
    rows = "".join(f"{number},{CELL}\n" for number in range(5000))
    lines = "".join(f'{{"store_id": {number}, "city": "{CELL}"}}\n' for number in range(5000))
    packed = bytearray(gzip.compress((f"store_id,city\n{rows}" if ending == "csv.gz" else lines).encode(), mtime=0))
    packed[12] ^= 0x55
    shell.write(f"stores.{ending}", bytes(packed))
    shell.edit(('"stores.csv"', f'"stores.{ending}"'))
    refused(shell, listener, f"stores.{ending}")


@pytest.mark.parametrize("first", [True, False])
def test_json_lines_nested_too_deeply(shell: Shell, listener: Listener, first: bool) -> None:
    deep = "[" * 5000 + "]" * 5000
    plain = f'{{"store_id": "1", "city": "{CELL}"}}\n'
    odd = f'{{"store_id": "2", "city": {deep}}}\n'
    shell.write("stores.jsonl", odd + plain if first else plain + odd)
    shell.edit(('"stores.csv"', '"stores.jsonl"'))
    refused(shell, listener, "stores.jsonl:1: is not a JSON object" if first else "stores.jsonl")


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "a/" * 3000 + "b.csv"])
def test_a_file_name_that_is_too_long(shell: Shell, listener: Listener, name: str) -> None:
    shell.edit(('"stores.csv"', f'"{name}"'))
    refused(shell, listener, "File name too long")


def test_nothing_that_is_quoted_moves_the_cursor_or_ends_the_line(shell: Shell, listener: Listener) -> None:
    shell.add('[launch."\\u001b[2J\\u202e\\n"]')
    refused(shell, listener, "\\x1b[2J\\u202e\\n")


def test_the_middle_of_a_long_line_is_left_out() -> None:
    said = str(Problem("x" * 5000, file="a.csv", line=7))
    assert said.startswith("a.csv:7: xxx")
    assert len(said) < 1100
    assert str(JobError(Problem("is wrong", field="launch\nx"))) == "launch\\nx: is wrong"


@pytest.mark.parametrize("text", ["9" * 5000 + "/min", "1,000,000,000,000/min", "1/" + "9" * 5000 + "s"])
def test_a_limit_of_more_than_can_be(text: str) -> None:
    with pytest.raises(ValueError, match="is past what a limit can be"):
        Limit.parse(text)
    with pytest.raises(ValueError, match="is not a limit"):
        parse_limit(text)


def test_a_limit_with_zeros_before_it() -> None:
    assert Limit.parse("0000000000006000/min") == Limit.parse("6000/min")


@pytest.mark.parametrize("text", [f"slow={'9' * 400}s:1%", f"429-retry-after={'9' * 400}:1%"])
def test_a_fault_that_takes_for_ever(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_fault(text, ["insider.launch"])
    with pytest.raises(ValueError, match="latency"):
        parse_latency("9" * 400 + "s")


def test_a_duration_of_thousands_of_digits() -> None:
    with pytest.raises(ValueError, match="a thousand years"):
        parse_duration("9" * 5000 + " s")
    assert math.isfinite(parse_duration("1 day"))
