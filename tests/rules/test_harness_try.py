import asyncio, time
from taskflow.testing import Harness

async def test_it(app):
    @app.function()
    async def remind(ctx, step):
        await step.sleep("z", "30 days")
        return "reminded"
    t0=time.time()
    async with Harness(app) as h:
        t1=time.time()
        run = await h.start(remind)
        t2=time.time()
        assert h.slots_in_use == 0
        print(await h.view(run))
        t3=time.time()
        await h.advance(days=30)
        t4=time.time()
        assert await run.aresult() == "reminded"
        t5=time.time()
    t6=time.time()
    print("start",t1-t0,"run",t2-t1,"adv",t4-t3,"result",t5-t4,"stop",t6-t5)
