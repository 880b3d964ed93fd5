"""What the Python scripts share: arguments, and a transcript of one JSON line for each step on standard output."""

import argparse
import asyncio
import hashlib
import inspect
import json
import signal
import sys

# Longer than any script takes on a busy machine; a client that hangs fails with the step that hung.
PATIENCE = 100
# What a refused client may take until it has said so.
PROMPT = 20


def arguments():
    """Where to go. Without --ca the way leads to Redis itself, in plain text."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--username")
    parser.add_argument("--password")
    parser.add_argument("--protocol", type=int, choices=(2, 3), default=3)
    parser.add_argument("--sections", required=True, help="names with commas between them, or all")
    parser.add_argument("--admin-port", type=int, required=True, help="of Redis itself")
    parser.add_argument("--admin-password", required=True)
    parser.add_argument("--asyncio", action="store_true")
    parser.add_argument("--hiredis", action="store_true")
    return parser.parse_args()


def shown(value):
    """A reply as JSON: types stay apart, long ones become their length and digest."""
    if isinstance(value, (bytes, str)):
        kind = "bytes" if isinstance(value, bytes) else "text"
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        if len(raw) > 300:
            return {kind: {"length": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}}
        return {kind: raw.decode("latin-1") if kind == "bytes" else value}
    if isinstance(value, BaseException):
        return error(value)
    if isinstance(value, (list, tuple)):
        return [shown(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return {"set": sorted(json.dumps(shown(each)) for each in value)}
    if isinstance(value, dict):
        return {"map": [[shown(key), shown(each)] for key, each in value.items()]}
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return {"double": repr(value)}
    raise TypeError(f"{value!r} has no place in a transcript")


def error(found):
    """An error as its user sees it."""
    return {"error": type(found).__name__, "text": str(found)}


async def settled(value):
    """What a call gave, be the library synchronous or not."""
    return await value if inspect.isawaitable(value) else value


def write(line):
    """One line of the transcript."""
    print(json.dumps(line), flush=True)


async def step(name, call, *words, **options):
    """Calls, and writes what came of it; returns the reply, or None after an error."""
    try:
        reply = await settled(call(*words, **options))
    except Exception as found:  # every error is a line: which one it is decides the comparison
        write({"step": name, **error(found)})
        return None
    write({"step": name, "reply": shown(reply)})
    return reply


def say(name, value):
    """Writes what a step of several calls has found."""
    write({"step": name, "reply": shown(value)})


async def until(what, look):
    """Looks until it is so."""
    for _ in range(2000):
        if await settled(look()):
            return
        await asyncio.sleep(0.005)
    raise TimeoutError(f"{what} did not come")


async def run_sections(table, wanted):
    """Runs sections in their order. What a section did not expect is a line too, and ends only that section."""
    names = list(table) if wanted == "all" else wanted.split(",")
    for name in names:
        try:
            await table[name]()
        except Exception as found:
            write({"step": name, "unexpected": error(found)})
    write({"step": "end", "sections": names})


def run(main):
    """Runs a script under a deadline."""

    def late(_signal, frame):
        sys.exit(f"no end after {PATIENCE} s, at {frame.f_code.co_filename}:{frame.f_lineno}")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    asyncio.run(main())
