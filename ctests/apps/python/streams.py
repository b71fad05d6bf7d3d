"""streams.py HOST PORT COUNT: the same with asyncio."""
import asyncio
import sys


async def dial(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    name = (await reader.readline()).decode().strip()
    writer.write(b"ping\n")
    echo = (await reader.readline()).decode().strip()
    print(name, echo, "at", "%s:%d" % writer.get_extra_info("peername"))
    writer.close()
    await writer.wait_closed()


async def main(host, port, count):
    for _ in range(int(count)):
        await dial(host, int(port))


asyncio.run(main(*sys.argv[1:]))
