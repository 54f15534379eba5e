"""`taskflow probe` as containers run it. Rule S13.3."""

from __future__ import annotations

from pathlib import Path

from tests.health import wait_for
from tests.processes import TaskflowProcess
from tests.servers import free_port
from tests.test_imports import FOREIGN, names_in, unwanted


def test_a_probe_answers_by_its_exit_code_and_imports_next_to_nothing(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    port = free_port()
    env = {"TASKFLOW_BROKER": valkey_url, "TASKFLOW_STORE": valkey_url, "TASKFLOW_NAMESPACE": namespace}
    with TaskflowProcess("beat", "--health-port", str(port), cwd=tmp_path, env=env) as beat:
        wait_for(port, "/readyz", 200)
        arguments = ("probe", "live", "--port", str(port))
        with TaskflowProcess(*arguments, cwd=tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"}) as probe:
            assert probe.wait() == 0
            assert probe.stdout == "live\n"
            imported = names_in(probe.stderr)
        not_wanted = FOREIGN | {"click", "asyncio", "orjson", "hiredis", "json", "encodings.idna"}
        assert unwanted(imported, not_wanted) == set()
        assert {name for name in imported if name.startswith("taskflow.")} == {
            "taskflow.observability",
            "taskflow.observability.probe",
        }
        with TaskflowProcess("probe", f"--port={port}", cwd=tmp_path) as by_command:
            assert by_command.wait() == 0
            assert by_command.stdout == "ready\n"
        assert beat.stop() == 0
    with TaskflowProcess(*arguments, cwd=tmp_path) as probe:
        assert probe.wait() == 2
        assert probe.stderr == (
            f"taskflow: nothing answers probes on port {port} of 127.0.0.1: Connection refused\n"
        )
