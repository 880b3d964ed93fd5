"""redis-cli, as people and scripts use it."""

import hashlib
import os
import subprocess
import time

import redis

from transcript import arguments, run, run_sections, say, until, write

options = arguments()
admin = redis.Redis(host="127.0.0.1", port=options.admin_port, password=options.admin_password or None, protocol=2)
version = tuple(int(part) for part in admin.info("server")["redis_version"].split("."))


def since(*wanted):
    return version >= wanted


def proxied():
    # snippet: redis-cli
    return [
        "redis-cli", "--tls", "-h", options.host, "-p", str(options.port),
        "--cacert", options.ca, "--cert", options.cert, "--key", options.key,
    ]
    # end


def program(*words):
    """The program and its words, with the connection's options among them."""
    found = proxied() if options.ca else ["redis-cli", "-h", options.host, "-p", str(options.port)]
    if options.protocol == 3:
        found.append("-3")
    if options.password:
        found += ["--no-auth-warning", "--pass", options.password]
        found += ["--user", options.username] if options.username else []
    return [*found, *words]


def text(raw):
    """Output as text; where it connects to is its own affair."""
    return raw.decode("latin-1").replace(f"{options.host}:{options.port}", "HOST:PORT")


def cli(name, *words, lines=None, raw=b""):
    """Runs it to its end, and writes what it printed."""
    if lines is not None:
        raw = "".join(f"{line}\n" for line in lines).encode()
    done = subprocess.run(program(*words), input=raw, capture_output=True, timeout=60, check=False)
    line = {"step": name, "status": done.returncode, "said": shorten(done.stdout)}
    if done.stderr:
        line |= {"error": "on standard error", "text": shorten(done.stderr)}
    write(line)
    return done.stdout


def shorten(raw):
    """Long output becomes its length and digest."""
    if len(raw) > 3000:
        return {"length": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    return text(raw)


class Session:
    """One that goes on: what it prints is read line by line."""

    def __init__(self, *words):
        self.process = subprocess.Popen(program(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def type(self, line):
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def read(self, number):
        return [text(self.process.stdout.readline()).rstrip("\n") for _ in range(number)]

    def end(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


async def everyday():
    cli("one command", "SET", "s", "1")
    cli("another", "GET", "s")
    cli("as a terminal shows it", "--no-raw", "GET", "s")
    cli("no such key", "--no-raw", "GET", "nothing")
    cli("an error", "LPUSH", "s", "x")
    cli("an error's status", "-e", "LPUSH", "s", "x")
    cli("arity", "GET")
    cli("ping", "PING", "hello")
    cli("repeated", "-r", "5", "INCR", "n")
    cli("database", "-n", "3", "SET", "where", "3")
    cli("here", "-n", "3", "GET", "where")
    cli("elsewhere", "GET", "where")
    cli("no such database", "-n", "99", "GET", "where")
    binary = bytes(range(256))
    cli("from standard input", "-x", "SET", "bin", raw=binary)
    back = cli("to standard output", "--raw", "GET", "bin")
    say("the same bytes", back == binary + b"\n")
    cli("quoted", "--no-raw", "GET", "bin")
    big = binary * 16384
    cli("big", "-x", "SET", "big", raw=big)
    back = cli("big back", "--raw", "GET", "big")
    say("the same big bytes", back == big + b"\n")
    cli("structures", "--no-raw", lines=[
        "RPUSH l a b c", "LRANGE l 0 -1", "HSET h one 1", "HSET h two 2", "HGETALL h", "SADD set x", "SMEMBERS set",
        "ZADD z 1 one 2.5 two", "ZRANGE z 0 -1 WITHSCORES", "ZSCORE z two", "TYPE z", "TTL z", "EXPIRE z 100", "TTL z",
        'SET "with blank" "a\\r\\n\\x00b"', 'GET "with blank"', "STRLEN big", "GETRANGE big 4000000 4000009", "PING",
    ])
    if since(5, 0):
        cli("streams", "--no-raw", lines=[
            "XADD x 1-1 n 1", "XADD x 2-1 n 2", "XADD x 1-1 n 1", "XRANGE x - +", "XREAD COUNT 1 STREAMS x 0",
            "XGROUP CREATE x g 0", "XREADGROUP GROUP g me STREAMS x >", "XPENDING x g", "XACK x g 1-1", "XINFO GROUPS x",
        ])
    cli("transactions", "--no-raw", lines=[
        "MULTI", "SET t 1", "INCR t", "EXEC", "MULTI", "SET t 5", "DISCARD", "GET t", "MULTI", "GET", "EXEC", "EXEC",
        "WATCH t", "MULTI", "INCR t", "EXEC", "MULTI", "LPUSH t x", "INCR t", "EXEC",
    ])
    cli("name", lines=["CLIENT SETNAME me", "CLIENT GETNAME"])
    if since(6, 0):
        cli("protocols", "--no-raw", lines=["HELLO 4", "HGETALL h", "SELECT 2", "DBSIZE"])
    cli("inline quotes", lines=['ECHO "a b"', "ECHO 'c d'", "", "ECHO done"])
    pipe = b"".join(
        b"*3\r\n$3\r\nSET\r\n$%d\r\npipe%d\r\n$5\r\nvalue\r\n" % (4 + len(str(number)), number) for number in range(2000))
    cli("mass insertion", "--pipe", raw=pipe)
    cli("mass insertion with errors", "--pipe", raw=b"*2\r\n$4\r\nINCR\r\n$5\r\npipe0\r\n*3\r\n$5\r\nLPUSH\r\n$5\r\npipe0\r\n$1\r\nx\r\n")
    found = subprocess.run(program("--scan", "--pattern", "pipe1*"), capture_output=True, timeout=60, check=False)
    say("scan", [found.returncode, len(set(found.stdout.split())), found.stderr.decode()])
    cli("csv", "--csv", "LRANGE", "l", "0", "-1")
    if since(6, 0):
        cli("json", "--json", "HGETALL", "h")
    found = subprocess.run(program("--bigkeys"), capture_output=True, timeout=60, check=False)
    # In which order keys are met is not the same twice.
    say("big keys", [found.returncode, text(found.stdout).split("- summary -")[-1], text(found.stderr)])
    latency = subprocess.run(program("--latency", "-i", "0.1", "--raw"), capture_output=True, timeout=60, check=False)
    say("latency", [latency.returncode, len(latency.stdout.split())])

    waiting = Session("BLPOP", "queue", "0")
    await until("a blocked client", lambda: admin.info("clients")["blocked_clients"] == 1)
    admin.rpush("queue", b"element")
    say("blocked", waiting.read(2))
    waiting.end()
    cli("blocked in vain", "--no-raw", "BLPOP", "queue", "1")
    waiting = Session("BLPOP", "ghost", "0")
    await until("a blocked client", lambda: admin.info("clients")["blocked_clients"] == 1)
    waiting.end()
    await until("nobody", lambda: admin.info("clients")["blocked_clients"] == 0)
    say("no ghost", admin.rpush("ghost", "x"))

    for command, channel, word in (("SUBSCRIBE", "news", "news"), ("PSUBSCRIBE", "w*", "weather"), ("SSUBSCRIBE", "shard", "shard")):
        if command == "SSUBSCRIBE" and not since(7, 0):
            continue
        listener = Session("--no-raw", command, channel)
        # It says first how it is ended, and then what was confirmed.
        say(f"{command.lower()}", listener.read(4))
        said = admin.execute_command("SPUBLISH" if command == "SSUBSCRIBE" else "PUBLISH", word, b"hello\x00")
        say(f"{command.lower()}, reached", said)
        say(f"{command.lower()}, heard", listener.read(4 if command == "PSUBSCRIBE" else 3))
        listener.end()

    session = Session("--no-raw")
    session.type("ECHO before")
    say("session", session.read(1))
    admin.client_kill_filter(_type="normal", skipme=True)
    time.sleep(0.05)
    session.type("ECHO after")
    session.type("ECHO more")
    found = session.read(1)
    # A connection that was closed is made again, with or without a word about it.
    while not found[-1].endswith('"more"'):
        found += session.read(1)
    say("session, again", found[-1])
    session.end()


async def denied():
    for number, words in enumerate((
        ["FLUSHALL"], ["CONFIG", "GET", "requirepass"], ["KEYS", "*"], ["EVAL", "return 1", "0"], ["MONITOR"],
        ["OBJECT", "ENCODING", "s"], ["CLIENT", "LIST"], ["SORT", "l"], ["DUMP", "s"], ["CLIENT", "TRACKING", "ON"],
    )):
        cli(f"denied {number}", *words)
        cli(f"denied {number}, status", "-e", *words)
    cli("denied among others", lines=["SET kept 1", "FLUSHALL", "GET kept", "MULTI", "SET kept 2", "FLUSHALL", "EXEC", "GET kept"])
    cli("denied memory keys", "--memkeys", "-i", "0")


async def no_caching():
    cli("no caching", "CLIENT", "TRACKING", "ON")


async def caching():
    if not since(6, 0):
        write({"step": "caching", "absent": "before 6.0"})
        return
    if options.protocol == 3:
        session = Session("--no-raw", "--show-pushes", "yes")
        session.type("CLIENT TRACKING ON")
        session.type("GET tracked")
        say("caching/on", session.read(2))
        admin.set("tracked", "2")
        time.sleep(0.05)
        session.type("GET tracked")
        say("caching/invalidated", session.read(2))
        session.end()
    cli("caching/off", lines=["CLIENT TRACKING OFF"])


async def scripts():
    cli("scripts/eval", "--no-raw", "EVAL", "return {KEYS[1], ARGV[1], 3}", "1", "k", "x")
    cli("scripts/load", "SCRIPT", "LOAD", "return 1")
    cli("scripts/by its digest", "EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0")
    script = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"ravelin-{os.getpid()}.lua")
    with open(script, "w", encoding="ascii") as file:
        file.write("return {KEYS[1], ARGV[1]}")
    try:
        cli("scripts/from a file", "--no-raw", "--eval", script, "k", ",", "x")
    finally:
        os.unlink(script)


async def fallback():
    cli("fallback/ping", "PING")
    cli("fallback/set", "SET", "k", "v")
    cli("fallback/all", "--no-raw", "HGETALL", "nothing")


async def credentials():
    cli("credentials/ping", "PING")
    cli("credentials/database", "-n", "2", "SET", "k", "v")


async def no_certificate():
    if not options.ca:
        return
    for name, words in (
        ("no certificate", ["--tls", "--cacert", options.ca]),
        ("no TLS", []),
    ):
        done = subprocess.run(["redis-cli", "-h", options.host, "-p", str(options.port), *words, "PING"],
                              capture_output=True, timeout=60, check=False)
        write({"step": name, "error": f"status {done.returncode}", "text": text(done.stdout + done.stderr)})


async def main():
    said = subprocess.run(["redis-cli", "--version"], capture_output=True, check=True).stdout.decode().split()
    write({"client": "redis-cli", "version": said[1], "protocol": options.protocol})
    await run_sections(
        {
            "everyday": everyday,
            "denied": denied,
            "no_caching": no_caching,
            "caching": caching,
            "scripts": scripts,
            "fallback": fallback,
            "credentials": credentials,
            "no_certificate": no_certificate,
        },
        options.sections,
    )


run(main)
