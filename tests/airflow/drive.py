"""Runs in an interpreter that has Airflow: makes its database, loads folders of DAGs and runs Insider's of each.

Its argument is JSON: a list of scenes, each with its folder, its day, what it sets in the environment, and how the DAG
is run, one after the other: `whole`, or `stopped`: a SIGTERM at the first accepted send. It prints what came of each as
JSON. An Airflow takes many seconds to start, so one process does everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from datetime import UTC, datetime
from typing import Any
from unittest import mock


def main() -> None:
    from airflow.__main__ import main as command

    with mock.patch.object(sys, "argv", ["airflow", "db", "migrate"]), contextlib.suppress(SystemExit):
        command()
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    with contextlib.suppress(ImportError):
        import airflow.providers.fab.auth_manager.models  # noqa: F401  # Airflow 2 deletes by a table of it
    told = []
    for scene in json.loads(sys.argv[1]):
        with mock.patch.dict(os.environ, scene["env"]):
            bag = DagBag(scene["dags"])
            dag, day = bag.dags["bulksend_insider"], scene["day"]
            runs = [run(dag, day, way) for way in scene["ways"]]
            told.append({"import_errors": bag.import_errors, "dags": sorted(bag.dags), "runs": runs})
    sys.stdout.write(f"\nSAID {json.dumps(told)}\n")


def run(dag: Any, day: str, way: str) -> dict[str, Any]:
    import bulksend

    real, days = bulksend.run, []

    def counted(*given: Any, **named: Any) -> Any:
        days.append(named["vars"]["day"])
        if len(days) == 1 and way == "stopped":
            return real(*given, **named, observers=[terminate])
        return real(*given, **named)

    def terminate(event: bulksend.Event) -> None:
        if event.name is bulksend.EventName.SEND_ACCEPTED:
            os.kill(os.getpid(), signal.SIGTERM)

    bulksend.run = counted
    try:
        when = datetime.fromisoformat(day).replace(hour=6, tzinfo=UTC)
        try:
            ended = dag.test(logical_date=when)  # Airflow 3
        except TypeError:
            ended = dag.test(execution_date=when)
    finally:
        bulksend.run = real
    (instance,) = ended.get_task_instances()
    return {"run": str(ended.state), "task": str(instance.state), "tries": instance.try_number, "days": days}


main()
