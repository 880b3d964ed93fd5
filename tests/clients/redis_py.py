"""redis-py, synchronous and with asyncio: the same script for both."""

import asyncio
import hashlib
import importlib.metadata
import logging
import ssl

import redis
import redis.asyncio
from redis._parsers import _AsyncHiredisParser, _HiredisParser
from redis._parsers import _AsyncRESP2Parser, _AsyncRESP3Parser, _RESP2Parser, _RESP3Parser
from redis.backoff import NoBackoff
from redis.cache import CacheConfig
from redis.asyncio.retry import Retry as AsyncRetry
from redis.retry import Retry

from transcript import PROMPT, arguments, run, run_sections, say, settled, shown, step, until, write

options = arguments()
library = redis.asyncio if options.asyncio else redis
# The library logs what it tries in vain; the transcript has it.
logging.disable(logging.CRITICAL)


def proxied(**more):
    # snippet: redis-py
    return library.Redis(
        host=options.host,
        port=options.port,
        ssl=True,
        ssl_ca_certs=options.ca,
        ssl_certfile=options.cert,
        ssl_keyfile=options.key,
        **more,
    )
    # end


def chosen(more):
    """Protocol and parser; where hiredis is installed the library takes it by itself."""
    if options.hiredis:
        parser = _AsyncHiredisParser if options.asyncio else _HiredisParser
    elif options.protocol == 3:
        parser = _AsyncRESP3Parser if options.asyncio else _RESP3Parser
    else:
        parser = _AsyncRESP2Parser if options.asyncio else _RESP2Parser
    return {"protocol": options.protocol, "parser_class": parser, **more}


def connect(**more):
    """A client as its configuration says, directly or through the proxy."""
    more = chosen(more)
    if options.username and "password" not in more:
        more |= {"username": options.username}
    if options.password and "password" not in more:
        more |= {"password": options.password}
    # The pool that the synchronous class makes itself takes the parser from nowhere else.
    parser = more.pop("parser_class")
    client = proxied(**more) if options.ca else library.Redis(host=options.host, port=options.port, **more)
    client.connection_pool.connection_kwargs["parser_class"] = parser
    return client


def once(**more):
    """One that tries nothing twice."""
    retry = AsyncRetry if options.asyncio else Retry
    return connect(retry=retry(NoBackoff(), 0), **more)


async def close(*clients):
    for client in clients:
        await settled(client.aclose() if options.asyncio else client.close())


admin = redis.Redis(host="127.0.0.1", port=options.admin_port, password=options.admin_password or None, protocol=2)
version = tuple(int(part) for part in admin.info("server")["redis_version"].split("."))


def since(*wanted):
    return version >= wanted


def concurrently(call, *words, **more):
    """A call that others go on beside."""
    if options.asyncio:
        return asyncio.ensure_future(call(*words, **more))
    return asyncio.ensure_future(asyncio.to_thread(call, *words, **more))


async def blocked(number):
    await until(f"{number} blocked clients", lambda: admin.info("clients")["blocked_clients"] == number)


async def collected(iterator):
    if options.asyncio:
        return [each async for each in iterator]
    return list(iterator)


async def handshake():
    plain = connect()
    await step("handshake/ping", plain.ping)
    await step("handshake/echo", plain.echo, "x")
    if since(6, 2):
        info = await settled(plain.client_info())
        say("handshake/info", {key: info[key] for key in ("db", "resp", "lib-name", "lib-ver") if key in info})
    third = connect(db=3, client_name="third")
    await step("handshake/name", third.client_getname)
    await step("handshake/set", third.set, "where", "3")
    await step("handshake/elsewhere", plain.get, "where")
    await step("handshake/here", third.get, "where")
    info = await settled(third.info("keyspace"))
    say("handshake/keyspace", sorted(info))
    beyond = once(db=99)
    await step("handshake/no such database", beyond.ping)
    text = connect(decode_responses=True)
    await step("handshake/text", text.get, "where")
    await close(plain, third, beyond, text)


async def values():
    client = connect()
    binary = bytes(range(256))
    await step("strings/set", client.set, "s", "1")
    await step("strings/get", client.get, "s")
    await step("strings/missing", client.get, "nothing")
    await step("strings/options", client.set, "s", "2", px=100000, nx=True)
    await step("strings/more options", client.set, "s", "2", px=100000, xx=True)
    await step("strings/incr", client.incr, "s", 40)
    await step("strings/float", client.incrbyfloat, "f", 2.5)
    await step("strings/append", client.append, "s", "x")
    await step("strings/range", client.getrange, "s", 1, -1)
    await step("strings/binary", client.set, b"\x00\r\n\xff", binary)
    await step("strings/binary back", client.get, b"\x00\r\n\xff")
    await step("strings/empty", client.set, "", "")
    await step("strings/empty back", client.get, "")
    await step("strings/mset", client.mset, {"a": "1", "b": "2", "c": binary})
    await step("strings/mget", client.mget, "a", "nothing", "c")
    await step("strings/bits", client.setbit, "bits", 100, 1)
    await step("strings/bitcount", client.bitcount, "bits")
    await step("keys/exists", client.exists, "a", "b", "nothing")
    await step("keys/expire", client.expire, "a", 1000)
    await step("keys/ttl", client.ttl, "a")
    await step("keys/type", client.type, "a")
    await step("keys/rename", client.rename, "a", "renamed")
    await step("keys/unlink", client.unlink if since(4, 0) else client.delete, "renamed", "b")
    await step("hashes/set", client.hset, "h", mapping={"one": "1", "two": "2", "bin": binary} if since(4, 0) else None, **({} if since(4, 0) else {"key": "one", "value": "1"}))
    await step("hashes/all", client.hgetall, "h")
    await step("hashes/some", client.hmget, "h", ["one", "nothing"])
    await step("hashes/incr", client.hincrby, "h", "one", 5)
    await step("hashes/none", client.hgetall, "nothing")
    await step("lists/push", client.rpush, "l", "a", "b", binary)
    await step("lists/range", client.lrange, "l", 0, -1)
    await step("lists/pop", client.lpop, "l")
    if since(6, 2):
        await step("lists/pops", client.lpop, "l", 5)
        await step("lists/move", client.lmove, "nothing", "l", "LEFT", "RIGHT")
    await step("sets/add", client.sadd, "set", "x", "y", binary)
    await step("sets/members", client.smembers, "set")
    await step("sets/is", client.sismember, "set", "x")
    await step("sorted sets/add", client.zadd, "z", {"one": 1, "two": 2.5, "inf": float("inf")})
    await step("sorted sets/range", client.zrange, "z", 0, -1, withscores=True)
    await step("sorted sets/score", client.zscore, "z", "two")
    await step("sorted sets/incr", client.zincrby, "z", 0.25, "one")
    await step("sorted sets/by score", client.zrangebyscore, "z", "(1", "+inf", withscores=True, start=0, num=2)
    if since(5, 0):
        await step("sorted sets/pop", client.zpopmin, "z")
    if since(3, 2):
        await step("geo/add", client.geoadd, "geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"))
        await step("geo/distance", client.geodist, "geo", "Palermo", "Catania", unit="km")
        await step("geo/position", client.geopos, "geo", "Palermo", "nothing")
    await step("hyperloglog/add", client.pfadd, "hll", "a", "b", "c")
    await step("hyperloglog/count", client.pfcount, "hll")
    await step("errors/wrong type", client.lpush, "s", "x")
    await step("errors/not a number", client.incr, "s")
    await step("errors/arity", client.execute_command, "GET")
    await step("errors/syntax", client.execute_command, "SET", "s", "x", "NONSENSE")
    await step("errors/afterwards", client.ping)
    await close(client)


async def streams():
    if not since(5, 0):
        write({"step": "streams", "absent": "before 5.0"})
        return
    client, other = connect(), connect()
    for number in range(1, 6):
        await step("streams/add", client.xadd, "x", {"n": number, b"\x00": b"\xff\r\n"}, id=f"{number}-1")
    await step("streams/stale", client.xadd, "x", {"n": 0}, id="1-1")
    await step("streams/length", client.xlen, "x")
    await step("streams/range", client.xrange, "x", "2-0", "3-1")
    await step("streams/backwards", client.xrevrange, "x", count=1)
    await step("streams/read", client.xread, {"x": "3-1"}, count=1)
    await step("streams/nothing new", client.xread, {"x": "$"})
    await step("streams/group", client.xgroup_create, "x", "g", id="0")
    await step("streams/group again", client.xgroup_create, "x", "g", id="0")
    await step("streams/read group", client.xreadgroup, "g", "me", {"x": ">"}, count=3)
    await step("streams/pending", client.xpending, "x", "g")
    await step("streams/ack", client.xack, "x", "g", "1-1", "2-1")
    await step("streams/claim", client.xclaim, "x", "g", "you", 0, ["3-1"])
    if since(6, 2):
        await step("streams/autoclaim", client.xautoclaim, "x", "g", "she", 0, start_id="0-0")
    groups = await settled(client.xinfo_groups("x"))
    say("streams/groups", [[group["name"], group["consumers"], group["pending"]] for group in groups])
    await step("streams/no group", client.xreadgroup, "nobody", "me", {"x": ">"})
    waiting = concurrently(other.xread, {"x": "$"}, block=0)
    await blocked(1)
    await step("streams/wake", client.xadd, "x", {"n": 6}, id="6-1")
    await step("streams/woken", lambda: waiting)
    await step("streams/patience", client.xread, {"x": "$"}, block=30)
    await step("streams/trim", client.xtrim, "x", maxlen=2, approximate=False)
    await close(client, other)


async def big():
    client = connect()
    block = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(32768))
    value = block * 4
    await step("big/set", client.set, "big", value)
    await step("big/get", client.get, "big")
    await step("big/length", client.strlen, "big")
    await step("big/range", client.getrange, "big", 4_000_000, 4_000_099)
    await step("big/many", client.mset, {f"big{number}": block for number in range(4)})
    await step("big/many back", client.mget, *(f"big{number}" for number in range(4)))
    await step("big/in a hash", client.hset, "bighash", "field", value)
    await step("big/out of a hash", client.hget, "bighash", "field")
    await step("big/gone", client.delete, "big", "bighash", *(f"big{number}" for number in range(4)))
    await close(client)


async def pipelines():
    client = connect()
    pipe = client.pipeline(transaction=False)
    for number in range(2000):
        pipe.set(f"p{number % 50}", number).get(f"p{number % 50}")
    replies = await settled(pipe.execute())
    expected = [each for number in range(2000) for each in (True, str(number).encode())]
    say("pipelines/four thousand", [len(replies), replies == expected])
    pipe.set("word", "x").lpush("word", "y").get("word").incr("word").get("word")
    await step("pipelines/errors in their places", pipe.execute, raise_on_error=False)
    pipe.get("word").incr("word").get("word")
    await step("pipelines/errors raised", pipe.execute)
    await step("pipelines/empty", pipe.execute)
    for number in range(8):
        pipe.set(f"wide{number}", bytes([number]) * 200_000).get(f"wide{number}")
    await step("pipelines/wide", pipe.execute)
    await step("pipelines/afterwards", client.get, "word")
    await close(client)


async def transactions():
    client, other = connect(), connect()
    await step("transactions/set", client.set, "balance", 40)
    pipe = client.pipeline(transaction=True)
    pipe.incrby("balance", 2).get("balance").hgetall("nothing").lrange("nothing", 0, -1)
    await step("transactions/exec", pipe.execute)
    pipe.get("balance").lpush("balance", "x").get("balance")
    await step("transactions/error within", pipe.execute, raise_on_error=False)
    pipe.get("balance").execute_command("GET")
    await step("transactions/aborted", pipe.execute)
    await step("transactions/watch", pipe.watch, "balance")
    await step("transactions/read", pipe.get, "balance")
    pipe.multi()
    pipe.set("balance", 50)
    await step("transactions/kept", pipe.execute)
    await settled(pipe.watch("balance"))
    await step("transactions/theirs", other.set, "balance", 0)
    pipe.multi()
    pipe.set("balance", 60).get("balance")
    await step("transactions/lost", pipe.execute)
    await step("transactions/unharmed", client.get, "balance")
    await settled(pipe.watch("balance"))
    await settled(other.set("balance", 1))
    await step("transactions/unwatch", pipe.unwatch)
    pipe.multi()
    pipe.incr("balance")
    await step("transactions/after unwatch", pipe.execute)
    await settled(pipe.reset())

    tries = []

    def change(pipe):
        tries.append(1)
        if len(tries) == 1:
            admin.incr("balance")
        pipe.multi()
        pipe.incr("balance")

    await step("transactions/optimistic", client.transaction, change, "balance")
    say("transactions/tries", len(tries))
    await close(client, other)


async def messages(listener, number):
    """The next messages; one that does not come is an error."""
    found = []
    while len(found) < number:
        message = await settled(listener.get_message(timeout=10))
        if message is None:
            raise TimeoutError(f"a message after {shown(found)}")
        found.append(message)
    return found


async def pubsub():
    client = connect()
    listener = client.pubsub()
    await settled(listener.subscribe("news", "sport", b"\xff\r\n"))
    await step("pubsub/subscribed", messages, listener, 3)
    await settled(listener.psubscribe("w*", "n?ws"))
    await step("pubsub/by pattern", messages, listener, 2)
    await step("pubsub/publish", client.publish, "weather", b"rain \x00\r\n")
    await step("pubsub/received", messages, listener, 1)
    await step("pubsub/twice", client.publish, "news", "hello")
    await step("pubsub/received twice", messages, listener, 2)
    await step("pubsub/binary channel", client.publish, b"\xff\r\n", "x")
    await step("pubsub/received binary", messages, listener, 1)
    await step("pubsub/nobody", client.publish, "nobody", "x")
    await step("pubsub/channels", lambda: client.pubsub_channels("n*"))
    await step("pubsub/numbers", client.pubsub_numsub, "news", "nobody")
    await step("pubsub/patterns", client.pubsub_numpat)
    await settled(listener.ping("are you there"))
    await step("pubsub/ping", messages, listener, 1)
    await step("pubsub/big", client.publish, "sport", b"x" * 3_000_000)
    await step("pubsub/received big", messages, listener, 1)
    await settled(listener.unsubscribe("news"))
    await step("pubsub/unsubscribed", messages, listener, 1)
    await settled(listener.punsubscribe())
    say("pubsub/no patterns", sorted(shown(each["channel"])["bytes"] for each in await messages(listener, 2)))
    await settled(client.publish("sport", "still"))
    await step("pubsub/still", messages, listener, 1)
    await settled(listener.unsubscribe())
    say("pubsub/none", sorted(shown(each["channel"])["bytes"] for each in await messages(listener, 2)))
    await settled(listener.subscribe("again"))
    await step("pubsub/again", messages, listener, 1)
    await settled(client.publish("again", "a"))
    await step("pubsub/received again", messages, listener, 1)
    await settled(listener.aclose() if options.asyncio else listener.close())
    if since(7, 0):
        listener = client.pubsub()
        await settled(listener.ssubscribe("shard"))
        await step("pubsub/sharded", messages, listener, 1)
        await step("pubsub/spublish", client.spublish, "shard", "x")
        await step("pubsub/received sharded", messages, listener, 1)
        await step("pubsub/shard channels", client.pubsub_shardchannels)
        await settled(listener.sunsubscribe())
        await step("pubsub/unsharded", messages, listener, 1)
        await settled(listener.aclose() if options.asyncio else listener.close())

    # One and the same connection, by hand.
    connection = await settled(client.connection_pool.get_connection())
    for words in (("SUBSCRIBE", "one", "two"), ("GET", "s"), ("UNSUBSCRIBE",), ("GET", "nothing"), ("PING",)):
        await settled(connection.send_command(*words))
        for number in range(2 if words[0].endswith("SUBSCRIBE") else 1):
            name = f"pubsub/by hand {words[0].lower()} {number}"
            await step(name, connection.read_response, push_request=words[0].endswith("SUBSCRIBE"))
    await settled(client.connection_pool.release(connection))
    await step("pubsub/afterwards", client.ping)
    await close(client)


async def blocking():
    client, other = connect(), connect()
    short = 0.05 if since(6, 0) else 1
    await step("blocking/in vain", client.blpop, "queue", timeout=short)
    for name, words in (("blpop", ("queue", "other")), ("brpop", ("queue",))):
        waiting = concurrently(getattr(other, name), list(words), timeout=0)
        await blocked(1)
        await settled(client.rpush("queue", "element"))
        await step(f"blocking/{name}", lambda: waiting)
    waiting = concurrently(other.blpop, ["queue"], timeout=20)
    await blocked(1)
    await settled(client.rpush("queue", b"\x00\r\n"))
    await step("blocking/with a timeout", lambda: waiting)
    await settled(client.rpush("queue", "at once"))
    await step("blocking/at once", client.blpop, ["nothing", "queue"], timeout=0)
    if since(5, 0):
        waiting = concurrently(other.bzpopmin, "zqueue", timeout=0)
        await blocked(1)
        await settled(client.zadd("zqueue", {"job": 1.5}))
        await step("blocking/bzpopmin", lambda: waiting)
    if since(6, 2):
        waiting = concurrently(other.blmove, "from", "to", 0, "LEFT", "RIGHT")
        await blocked(1)
        await settled(client.rpush("from", "x"))
        await step("blocking/blmove", lambda: waiting)
    if since(7, 0):
        waiting = concurrently(other.blmpop, 0, 2, "one", "two", direction="LEFT", count=2)
        await blocked(1)
        await settled(client.rpush("two", "x", "y", "z"))
        await step("blocking/blmpop", lambda: waiting)
    if since(5, 0):
        number = await settled(other.client_id())
        waiting = concurrently(other.blpop, ["queue"], timeout=0)
        await blocked(1)
        await step("blocking/unblock", admin.client_unblock, number)
        await step("blocking/unblocked", lambda: waiting)

    # Who left takes nothing with him.
    connection = await settled(other.connection_pool.get_connection())
    await settled(connection.send_command("BLPOP", "ghost", 0))
    await blocked(1)
    await settled(connection.disconnect())
    await blocked(0)
    await step("blocking/push", client.rpush, "ghost", "x")
    await step("blocking/no ghost", client.llen, "ghost")
    await settled(other.connection_pool.release(connection))
    await step("blocking/afterwards", other.ping)
    await close(client, other)


async def scans():
    client = connect()
    pipe = client.pipeline(transaction=False)
    for number in range(600):
        pipe.set(f"scan:{number}", number)
        pipe.hset("scanhash", f"f{number}", number)
        pipe.sadd("scanset", f"m{number}")
        pipe.zadd("scanzset", {f"m{number}": number})
    await settled(pipe.execute())

    async def digest(iterator):
        # An element may come more than once.
        found = sorted({repr(each) for each in await collected(iterator)})
        return [len(found), hashlib.sha256("".join(found).encode()).hexdigest()]

    say("scans/keys", await digest(client.scan_iter("scan:*", count=97)))
    say("scans/some", await digest(client.scan_iter("scan:1?", count=1000)))
    say("scans/hash", await digest(client.hscan_iter("scanhash", count=97)))
    say("scans/set", await digest(client.sscan_iter("scanset", count=97)))
    say("scans/sorted set", await digest(client.zscan_iter("scanzset", count=97)))
    if since(6, 0):
        say("scans/by type", await digest(client.scan_iter(match="scan*", _type="zset", count=500)))
    say("scans/none", await digest(client.scan_iter("no such key*", count=1000)))
    await step("scans/size", client.dbsize)
    await close(client)


async def reconnects():
    client, stubborn, waiter = connect(), once(), once()
    await step("reconnects/set", client.set, "k", "v")
    held = await settled(stubborn.connection_pool.get_connection())
    waiting = concurrently(waiter.blpop, ["never"], timeout=0)
    await blocked(1)
    listener = client.pubsub()
    await settled(listener.subscribe("news"))
    await step("reconnects/subscribed", messages, listener, 1)
    await step("reconnects/before", client.get, "k")
    say("reconnects/killed", admin.client_kill_filter(_type="normal", skipme=True))
    await until("an error", lambda: waiting.done())
    await step("reconnects/while blocked", lambda: waiting)
    await step("reconnects/by itself", client.get, "k")
    try:
        await settled(held.send_command("GET", "k"))
        say("reconnects/told", await settled(held.read_response()))
    except redis.RedisError as found:
        # Whether sending or receiving fails first is the kernel's affair.
        say("reconnects/told", type(found).__name__)
    await settled(stubborn.connection_pool.release(held))
    await step("reconnects/again", stubborn.get, "k")
    admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await step("reconnects/resubscribed", messages, listener, 1)
    await settled(client.publish("news", "back"))
    await step("reconnects/received", messages, listener, 1)
    await settled(listener.aclose() if options.asyncio else listener.close())
    await close(client, stubborn, waiter)


async def restart():
    """What stands in between is ended and started again, when this asks for it."""
    client = connect()
    listener = client.pubsub()
    await settled(listener.subscribe("news"))
    await step("restart/subscribed", messages, listener, 1)
    await step("restart/set", client.set, "k", "v")
    pipe = client.pipeline(transaction=True)
    await step("restart/watched", pipe.watch, "k")
    admin.rpush("restart:asked", "now")
    await until("a restart", lambda: admin.lpop("restart:done"))
    await step("restart/by itself", client.get, "k")
    pipe.multi()
    pipe.set("k", "other")
    # What it watched is forgotten, and its library knows.
    try:
        say("restart/watch", await settled(pipe.execute()))
    except redis.RedisError as found:
        say("restart/watch", type(found).__name__)
    await settled(pipe.reset())
    await step("restart/resubscribed", messages, listener, 1)
    await step("restart/publish", client.publish, "news", "back")
    await step("restart/received", messages, listener, 1)
    await settled(listener.aclose() if options.asyncio else listener.close())
    await close(client)


async def crowd():
    """Many clients, each with its own words: nobody gets what another was answered."""

    async def guest(client, name, rounds):
        wrong = 0
        for number in range(rounds):
            token = f"{name}:{number}".encode()
            wrong += await settled(client.echo(token)) != token
            await settled(client.set(f"crowd:{name}", token))
            wrong += await settled(client.get(f"crowd:{name}")) != token
            pipe = client.pipeline(transaction=number % 2 == 0)
            pipe.echo(token).lpush(f"crowdlist:{name}", token).lindex(f"crowdlist:{name}", 0).get("crowd:nobody")
            pipe.lpush(f"crowd:{name}", "wrong type")
            echo, length, first, none, error = await settled(pipe.execute(raise_on_error=False))
            right = [echo, length, first, none] == [token, number + 1, token, None]
            wrong += not (right and str(error).startswith("WRONGTYPE"))
        return wrong

    async def all_of(guests):
        if options.asyncio:
            return await asyncio.gather(*guests)
        return await asyncio.gather(*(asyncio.to_thread(asyncio.run, each) for each in guests))

    clients = [connect() for _ in range(24)]
    wrong = await all_of([guest(client, f"own{number}", 8) for number, client in enumerate(clients)])
    say("crowd/own connections", [len(wrong), sum(wrong)])
    await close(*clients)

    kind = library.BlockingConnectionPool
    keywords = dict(connect().connection_pool.connection_kwargs)
    tls = {"connection_class": library.SSLConnection} if options.ca else {}
    pool = kind(max_connections=4, timeout=PROMPT, **keywords, **tls)
    shared = library.Redis(connection_pool=pool)
    wrong = await all_of([guest(shared, f"pool{number}", 8) for number in range(16)])
    say("crowd/shared pool", [len(wrong), sum(wrong)])
    await close(shared)
    await settled(pool.disconnect())


async def denied():
    client = connect()
    await step("denied/before", client.set, "kept", "1")
    await step("denied/flushall", client.flushall)
    await step("denied/flushdb", client.flushdb)
    await step("denied/keys", client.keys, "*")
    await step("denied/config", client.config_get, "requirepass")
    await step("denied/eval", client.eval, "return 1", 0)
    await step("denied/registered", lambda: client.register_script("return 1")())
    await step("denied/function", client.execute_command, "FCALL", "f", 0)
    await step("denied/client list", client.client_list)
    await step("denied/monitor", client.execute_command, "MONITOR")
    await step("denied/object", client.object, "encoding", "kept")
    await step("denied/sort", client.sort, "kept")
    await step("denied/shutdown", client.execute_command, "SHUTDOWN", "NOSAVE")
    await step("denied/afterwards", client.get, "kept")
    pipe = client.pipeline(transaction=False)
    pipe.set("kept", "2").flushall().get("kept").keys("*").get("kept")
    await step("denied/in a pipeline", pipe.execute, raise_on_error=False)
    pipe = client.pipeline(transaction=True)
    pipe.set("kept", "3").flushall().get("kept")
    await step("denied/in a transaction", pipe.execute)
    await step("denied/nothing ran", client.get, "kept")
    lock = client.lock("lock", timeout=100)
    await step("denied/a lock is taken", lock.acquire)
    await step("denied/and not given back", lock.release)
    await close(client)


async def no_caching():
    """A client side cache that is not allowed."""
    client = once()
    await step("no caching/by hand", client.execute_command, "CLIENT", "TRACKING", "ON")
    if not options.asyncio and options.protocol == 3:
        keeping = once(cache_config=CacheConfig())
        await step("no caching/refused", keeping.get, "s")
        await close(keeping)
    await close(client)


async def caching():
    if options.protocol == 3 and since(6, 0):
        client = connect()
        connection = await settled(client.connection_pool.get_connection())
        told = []

        def keep(push):
            told.append(push)

        async def keep_later(push):
            told.append(push)

        connection._parser.set_invalidation_push_handler(keep_later if options.asyncio else keep)
        admin.set("tracked", "1")
        for words in (("CLIENT", "TRACKING", "ON"), ("GET", "tracked"), ("CLIENT", "TRACKINGINFO"), ("CLIENT", "GETREDIR")):
            await settled(connection.send_command(*words))
            await step(f"caching/by hand {words[-1]}", connection.read_response)
        admin.set("tracked", "2")
        for number in range(200):
            # An invalidation comes with the next reply at the latest.
            await settled(connection.send_command("PING"))
            await settled(connection.read_response())
            if told:
                break
        say("caching/invalidation", told)
        await settled(connection.send_command("CLIENT", "TRACKING", "OFF"))
        await step("caching/off", connection.read_response)
        await settled(client.connection_pool.release(connection))
        await close(client)
    if options.asyncio or options.protocol == 2:
        write({"step": "caching", "absent": "a library's cache is synchronous and speaks RESP3"})
        return
    client = connect(cache_config=CacheConfig())
    if not await step("caching/set", client.set, "cached", "1"):
        return
    cache = client.get_cache()
    await step("caching/get", client.get, "cached")
    say("caching/kept", cache.size)
    before = admin.info("commandstats")["cmdstat_get"]["calls"]
    await step("caching/from the cache", client.get, "cached")
    say("caching/never asked", admin.info("commandstats")["cmdstat_get"]["calls"] - before)
    admin.set("cached", "2")

    async def fresh():
        return await settled(client.get("cached")) == b"2"

    await until("an invalidation", fresh)
    await step("caching/invalidated", client.get, "cached")
    await close(client)


async def scripts():
    client = connect()
    await step("scripts/eval", client.eval, "return {KEYS[1], ARGV[1], 3}", 1, "k", b"\x00\xff")
    add = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    await step("scripts/registered", add, keys=["total"], args=[40])
    await step("scripts/by its digest", add, keys=["total"], args=[2])
    await step("scripts/error", client.eval, "return redis.call('LPUSH', KEYS[1], 'x')", 1, "total")
    await step("scripts/no such script", client.evalsha, "f" * 40, 0)
    await step("scripts/exists", client.script_exists, add.sha)
    lock = client.lock("lock", timeout=100)
    await step("scripts/lock", lock.acquire)
    await step("scripts/owned", lock.owned)
    await step("scripts/unlock", lock.release)
    await step("scripts/unlock twice", lock.release)
    await close(client)


async def fallback():
    """A server that may not know HELLO."""
    client = once()
    await step("fallback/ping", client.ping)
    await step("fallback/set", client.set, "k", "v")
    await step("fallback/get", client.get, "k")
    await close(client)


async def credentials():
    """With a name and a password of its own, as it was configured for a Redis that asks for them."""
    client = once()
    await step("credentials/ping", client.ping)
    await step("credentials/get", client.set, "k", "v")
    await close(client)
    alone = once(db=2, client_name="me")
    await step("credentials/with a database", alone.client_getname)
    await close(alone)


async def no_certificate():
    """What a user sees who forgot the certificate, and one who forgot TLS."""
    if options.ca:
        bare = library.Redis(
            host=options.host, port=options.port, ssl=True, ssl_ca_certs=options.ca,
            retry=(AsyncRetry if options.asyncio else Retry)(NoBackoff(), 0), **({"protocol": options.protocol}))
        await step("no certificate", bare.ping)
        plain = library.Redis(
            host=options.host, port=options.port, retry=(AsyncRetry if options.asyncio else Retry)(NoBackoff(), 0),
            protocol=options.protocol)
        await step("no TLS", plain.ping)
        await close(bare, plain)


async def main():
    write({
        "client": f"redis-py{' asyncio' if options.asyncio else ''}{' hiredis' if options.hiredis else ''}",
        "version": importlib.metadata.version("redis"),
        "protocol": options.protocol,
    })
    await run_sections(
        {
            "handshake": handshake,
            "values": values,
            "streams": streams,
            "big": big,
            "pipelines": pipelines,
            "transactions": transactions,
            "pubsub": pubsub,
            "blocking": blocking,
            "scans": scans,
            "reconnects": reconnects,
            "restart": restart,
            "crowd": crowd,
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
