"""What a last review found of sends whose time passes, in simulated time."""

from __future__ import annotations

from pathlib import Path

from bulksend.model import State
from tests.engine.rig import LOST, Rig, job_of, simulate
from tests.engine.test_reviewed import AT, HOUR, Script, listed


def test_what_may_have_arrived_stays_unknown_when_its_time_passes(tmp_path: Path) -> None:
    """The first create was lost, its repeat was told to wait an hour: nobody knows whether the first arrived."""
    script = Script({"create": [LOST, HOUR], "list": listed()})
    job = job_of("usercom", launch={"eta": AT}, policy={"on_unknown": "resend"})

    async def check(rig: Rig) -> None:
        await rig.run()
        record = await rig.record()
        assert record.state is State.UNKNOWN
        assert "may have arrived" in str(record.reason)

    simulate(lambda: Rig(tmp_path, script, job, ["k1"]), check)


def test_a_first_step_is_not_made_for_a_later_one_whose_time_has_passed(tmp_path: Path) -> None:
    script = Script({"campaign.create": [HOUR]})
    job = job_of("stream")
    job["start"] = {"scheduled_for": AT}

    async def check(rig: Rig) -> None:
        await rig.run()
        record = await rig.record()
        assert (record.state, record.reason) == (State.REJECTED, "not sent: its time has passed")
        assert rig.sender.calls == 1

    simulate(lambda: Rig(tmp_path, script, job, ["k1"]), check)
