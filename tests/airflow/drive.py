"""Runs in an interpreter that has Airflow: loads a folder of DAGs, runs its one DAG, prints how that ended as JSON.

Its arguments are the day, and what is done: `parse`, `whole`, or `stopped`: a SIGTERM at the first accepted send.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any


def main() -> None:
    day, first_try = sys.argv[1:]
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    with suppress(ImportError):
        import airflow.providers.fab.auth_manager.models  # noqa: F401  # Airflow 2 deletes by a table of it
    bag = DagBag(folder)
    said: dict[str, Any] = {"import_errors": bag.import_errors, "dags": sorted(bag.dags)}
    if first_try != "parse":
        (dag,) = bag.dags.values()
        said |= run(dag, day, first_try)
    sys.stdout.write(f"\nSAID {json.dumps(said)}\n")


def run(dag: Any, day: str, first_try: str) -> dict[str, Any]:
    import bulksend

    real, days = bulksend.run, []

    def counted(*given: Any, **named: Any) -> Any:
        days.append(named["vars"]["day"])
        if len(days) == 1 and first_try == "stopped":
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
