"""Tasks: calls with arguments, options, progress, a chord, and tasks as steps of a durable function.

taskflow dev -A examples.tasks            # in one terminal
python -m examples.tasks                  # in another
"""

from __future__ import annotations

import asyncio
from datetime import date

from taskflow import Context, Step, TaskContext, TaskFlow, chord

app = TaskFlow("gallery")


@app.task
def resize(photo: str, width: int = 800) -> str:
    return f"{photo}@{width}"


@app.task(retries=2)
async def count_days(ctx: TaskContext, first: date, last: date) -> int:
    days = (last - first).days
    for day in range(days):
        ctx.progress(day + 1, days)
    return days


@app.task
def pack(photos: list[str]) -> str:
    return ", ".join(photos)


@app.function
async def album(ctx: Context[Step]) -> str:
    """Each photo is resized in a run of its own, wherever there is a slot."""
    photos = await asyncio.gather(*[resize.step(photo, 200) for photo in ctx.event.data["photos"]])
    return " + ".join(photos)


def main() -> None:
    print(resize.delay("cat.jpg").result(timeout="30s"))
    print(count_days.options(id="march").delay(date(2030, 3, 1), date(2030, 3, 31)).result(timeout="30s"))
    print(chord([resize.s(name) for name in ("a.jpg", "b.jpg")], pack.s()).delay().result(timeout="30s"))
    print(album.invoke({"photos": ["a.jpg", "b.jpg"]}).result(timeout="30s"))


if __name__ == "__main__":
    main()
