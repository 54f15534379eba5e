"""The comparison with the peers works: taskflow's own part is run, and the page is written from figures that are given here."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.peers.__main__ import NAMES, find
from benchmarks.peers.document import write
from benchmarks.peers.environment import Environment
from benchmarks.peers.figures import FIGURES, PeerTold, Told
from benchmarks.peers.marks import LAYOUT, Kind, Marks
from benchmarks.peers.work import WORKS
from benchmarks.report import Unavailable
from tests.processes import REPOSITORY


def peer(title: str, **figures: list[float]) -> PeerTold:
    return PeerTold(
        title=title,
        versions={title.lower(): "1.2.3"},
        flags=["`run it`"],
        amounts={"drained": 5_000, "loaded_runs": 100, "timers": 2_000, "waits": 50},
        works=["drain", "timers"],
        notes=[("", "It keeps no result."), ("drained_per_s", "It was told to.")],
        problem="",
        failed={},
        figures=figures,
    )


def told(**peers: PeerTold) -> Told:
    machine = {"cpu": "a fast one", "cores": "2"}
    return Told(measured="2026-01-31", is_quick=False, repeat=3, took_s=600, machine=machine, peers=peers)


def test_a_quick_comparison_of_taskflow_alone_measures_every_figure_and_writes_the_page(
    tmp_path: Path,
) -> None:
    path = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.peers", "taskflow", "--quick", "--repeat", "1"]
    done = subprocess.run(
        [*command, "--json", str(path), "--docs", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    result: Told = json.loads(path.read_text())
    ours = result["peers"]["taskflow"]
    assert ours["failed"] == {}
    assert set(ours["figures"]) == {figure.key for figure in FIGURES} | {"repeats"}
    assert ours["figures"]["drained_per_s"][0] > 0
    assert ours["figures"]["repeats"] == [0]
    page = (tmp_path / "benchmarks.md").read_text()
    assert "the figures mean little" in page
    assert "taskflow alone" in page


def test_the_page_marks_the_best_and_says_where_taskflow_is_behind(tmp_path: Path) -> None:
    page = write(
        told(
            taskflow=peer("taskflow", drained_per_s=[5000.0, 7000.0, 6000.0], latency_p50_ms=[2.0, 2.1, 2.2]),
            celery=peer("Celery", drained_per_s=[700.0, 900.0, 800.0], latency_p50_ms=[1.0, 1.1, 1.2]),
        ),
        tmp_path,
    ).read_text()
    assert "| **6,000**<br><sub>5,000 to 7,000</sub> | 800<br><sub>700 to 900</sub> |" in page
    assert "| 2.10<br><sub>2.00 to 2.20</sub> | **1.10**<br><sub>1.00 to 1.20</sub> |" in page
    behind = page[page.index("## Where taskflow is not the best") : page.index("## What to know about each")]
    assert "- Sent to started, idle, p50: Celery 1.10; taskflow 2.10 ms." in behind
    assert "drained" not in behind


def test_the_page_gives_versions_flags_amounts_and_caveats_of_each_peer(tmp_path: Path) -> None:
    page = write(
        told(taskflow=peer("taskflow", sent_per_s=[1.0]), arq=peer("arq", sent_per_s=[2.0])), tmp_path
    ).read_text()
    section = page[page.index("### arq") : page.index("## How it is measured")]
    assert "arq 1.2.3" in section
    assert "- `run it`" in section
    assert "5,000 tasks drained, 2,000 timers" in section
    assert "waiting runs" not in section, "a work that the peer does not do has no amount"
    assert "- It keeps no result." in section
    assert "- Empty tasks drained, results stored: It was told to." in section
    assert "| cpu | a fast one |" in page


def test_a_peer_that_is_left_out_and_a_work_that_failed_are_shown(tmp_path: Path) -> None:
    absent = peer("Restate")
    absent["problem"] = "restate-server can't be installed here"
    broken = peer("arq", sent_per_s=[1000.0], repeats=[2.0])
    broken["failed"]["timers"] = "5 of 2,000 not done\nwithin 60 s"
    ours = peer("taskflow", timers_p99_ms=[9.0], sent_per_s=[2000.0])
    page = write(told(taskflow=ours, arq=broken, restate=absent), tmp_path).read_text()
    assert "Left out: Restate. restate-server can't be installed here" in page
    assert "| | taskflow | arq |" in page
    assert "| **9.00** | failed |" in page
    assert "- Failed: timers: 5 of 2,000 not done within 60 s" in page
    assert "- 2 tasks were executed more than once." in page


def test_the_plot_has_a_bar_for_each_peer_and_figure(tmp_path: Path) -> None:
    write(
        told(
            taskflow=peer("taskflow", drained_per_s=[6000.0, 7000.0], pss_mb=[80.0]),
            arq=peer("a<rq", drained_per_s=[600.0, 700.0]),
        ),
        tmp_path,
    )
    root = ElementTree.parse(tmp_path / "benchmarks.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    texts = [item.text for item in root.iter(f"{space}text")]
    assert texts.count("a<rq") == 2, "a panel for each figure that someone has"
    assert texts.count("–") == 1, "a<rq has no memory"
    bars = [float(item.attrib["width"]) for item in root.iter(f"{space}rect")][1:]
    assert len(bars) == 3
    assert bars[0] / bars[1] == pytest.approx(6500 / 650, rel=0.01)


def test_marks_keep_the_first_time_and_wait_for_a_whole_record(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks")
    first, again = LAYOUT.pack(Kind.NOOP, 7, 100), LAYOUT.pack(Kind.NOOP, 7, 200)
    marks.path.write_bytes(first + again[:10])
    assert marks.missing(Kind.NOOP, range(7, 9)) == 1
    assert marks.repeats == 0
    marks.path.write_bytes(first + again + LAYOUT.pack(Kind.NOOP, 8, 300))
    assert marks.missing(Kind.NOOP, range(7, 9)) == 0
    assert marks.of(Kind.NOOP, range(7, 9)) == [100, 300]
    assert marks.repeats == 1


def test_an_environment_that_cannot_be_installed_says_what_is_missing(tmp_path: Path) -> None:
    environment = Environment(name="nobody", packages=(str(tmp_path / "no-such-package.whl"),), root=tmp_path)
    with pytest.raises(Unavailable, match="no-such-package.whl can't be installed here"):
        environment.install()


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_names_works_and_figures_that_exist(name: str) -> None:
    found = find(name)
    assert found.works <= set(WORKS)
    assert {key for key, _ in found.notes} <= {figure.key for figure in FIGURES} | {""}
    assert {figure.work for figure in FIGURES} == set(WORKS)
    assert (REPOSITORY / "benchmarks" / "peers" / "apps" / f"{found.app}.py").exists()
