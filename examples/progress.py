"""A progress bar: a run tells the page how far it is, through reloads, lost connections and crashes.

    pip install 'taskflow-durable[dev,fastapi]'
    taskflow dev -A examples.progress --port 6379    # in one terminal; redis://localhost:6379 is where an app looks
    uvicorn examples.progress:api                    # in another; open http://localhost:8000

The page gets a token for the channel of its import, and follows it; the web process serves subscriptions and the browser module
under /taskflow. A message of `ctx.publish` costs no step.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from taskflow import Channel, Context, Step, TaskFlow, Topic
from taskflow.web import asgi

# Yours is random, and stands in the environment of all processes.
KEY = os.environ.get("TASKFLOW_SIGNING_KEY", "only for this example, on this machine")

app = TaskFlow("imports", signing_key=KEY)


@dataclass
class Progress:
    done: int
    total: int


class ImportChannel(Channel, name="import:{name}"):
    progress = Topic(Progress)


@app.function
async def import_table(ctx: Context[Step], step: Step) -> str:
    name, total = ctx.event.data["name"], ctx.event.data["parts"]
    progress = ImportChannel(name=name).progress
    for part in range(total):
        await step.run(f"part {part}", import_part, name, part)
        await ctx.publish(progress, Progress(part + 1, total))
        if (part + 1) % 10 == 0:
            # The other side wants a pause; the run holds no slot meanwhile.
            await step.sleep(f"pause {part}", "1s")
    return f"{total} parts of {name}"


def import_part(name: str, part: int) -> int:
    """What takes the time."""
    return part


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await app.aclose()


api = FastAPI(title="Imports", lifespan=lifespan)
api.mount("/taskflow", asgi(app))


@api.post("/imports/{name}", status_code=202)
async def start_import(name: str, parts: int = 100) -> dict[str, str]:
    """Start the import of this name; a second request finds the run of the first."""
    run = await import_table.ainvoke({"name": name, "parts": parts}, id=name)
    return {"run_id": run.id, "run_token": app.subscription_token(run.id, topics=["$run"])}


@api.get("/imports/{name}/token")
async def token_for(name: str) -> str:
    """Here you would check who asks."""
    return app.subscription_token(ImportChannel(name=name), topics=["progress"], ttl="15m")


PAGE = """<!doctype html>
<title>Import</title>
<h1>Import</h1>
<progress id="bar" max="1" value="0"></progress> <output id="text">waiting</output> <output id="status"></output>
<script type="module">
  import { subscribe, watchRun } from "/taskflow/v1/realtime/realtime.js";

  const name = new URLSearchParams(location.search).get("name") ?? "customers";
  const bar = document.getElementById("bar");
  window.seen = [];
  subscribe(
    { token: () => fetch(`/imports/${name}/token`).then((answer) => answer.json()), since: "1h" },
    { onMessage({ data }) {
      window.seen.push(data.done);
      bar.value = data.done / data.total;
      document.getElementById("text").value = `${data.done} of ${data.total}`;
    } },
  );
  const started = await fetch(`/imports/${name}`, { method: "POST" }).then((answer) => answer.json());
  watchRun({ token: started.run_token }, { onRun: (run) => (document.getElementById("status").value = run.status) });
</script>
"""


@api.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE
