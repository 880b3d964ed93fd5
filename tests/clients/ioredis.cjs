// ioredis.
"use strict";

const fs = require("node:fs");
const Redis = require("ioredis");
const { options, admin: adminOptions, digest, write, step, say, until, Mailbox, runSections, run } = require("./transcript.cjs");

function proxied(more) {
  // snippet: ioredis
  return new Redis({
    host: options.host,
    port: options.port,
    tls: {
      ca: fs.readFileSync(options.ca),
      cert: fs.readFileSync(options.cert),
      key: fs.readFileSync(options.key),
    },
    ...more,
  });
  // end
}

// What clients say aside: errors of connections.
const aside = [];

// A client as its configuration says, directly or through the proxy.
function connect(more = {}) {
  more = { protocol: options.protocol, ...more };
  if (options.username && !("password" in more)) more.username = options.username;
  if (options.password && !("password" in more)) more.password = options.password;
  const client = options.ca ? proxied(more) : new Redis({ host: options.host, port: options.port, ...more });
  client.on("error", (found) => aside.push(found.message));
  return client;
}

// One that tries nothing twice.
function once(more = {}) {
  return connect({ retryStrategy: () => null, maxRetriesPerRequest: 0, ...more });
}

function close(...clients) {
  for (const client of clients) client.disconnect();
}

const admin = new Redis({ ...adminOptions, protocol: 2 });
let version;

function since(major, minor) {
  return version[0] > major || (version[0] === major && version[1] >= minor);
}

function blocked(number) {
  return until(`${number} blocked clients`, async () => (await admin.info("clients")).includes(`blocked_clients:${number}\r`));
}

const binary = Buffer.from(Array.from({ length: 256 }, (_, number) => number));

async function handshake() {
  const plain = connect();
  await step("handshake/ping", () => plain.ping());
  await step("handshake/echo", () => plain.echo("x"));
  if (since(6, 2)) {
    const info = await plain.client("INFO");
    say("handshake/info", info.match(/\b(db|resp|lib-name|lib-ver)=[^ \n]*/g));
  }
  const third = connect({ db: 3, connectionName: "third" });
  await step("handshake/name", () => third.client("GETNAME"));
  await step("handshake/set", () => third.set("where", "3"));
  await step("handshake/elsewhere", () => plain.get("where"));
  await step("handshake/here", () => third.get("where"));
  await step("handshake/select", () => plain.select(3));
  await step("handshake/selected", () => plain.get("where"));
  await step("handshake/select none", () => plain.select(99));
  await step("handshake/still selected", () => plain.get("where"));
  const lazy = once({ lazyConnect: true });
  await step("handshake/lazy", () => lazy.connect());
  say("handshake/status", lazy.status);
  await step("handshake/quit", () => lazy.quit());
  if (options.protocol === 3) {
    const mapped = connect({ replyMapping: "resp3" });
    await step("handshake/mapped", async () => [await mapped.hset("map", "a", "1"), await mapped.hgetall("map")]);
    close(mapped);
  }
  close(plain, third, lazy);
}

async function values() {
  const client = connect();
  await step("strings/set", () => client.set("s", "1"));
  await step("strings/get", () => client.get("s"));
  await step("strings/missing", () => client.get("nothing"));
  await step("strings/options", () => client.set("s", "2", "PX", 100000, "NX"));
  await step("strings/more options", () => client.set("s", "2", "PX", 100000, "XX"));
  await step("strings/incr", () => client.incrby("s", 40));
  await step("strings/float", () => client.incrbyfloat("f", 2.5));
  await step("strings/append", () => client.append("s", "x"));
  await step("strings/binary", () => client.set(Buffer.from([0, 13, 10, 255]), binary));
  await step("strings/binary back", () => client.getBuffer(Buffer.from([0, 13, 10, 255])));
  await step("strings/unicode", () => client.set("ключ", "значение 🗝"));
  await step("strings/unicode back", () => client.get("ключ"));
  await step("strings/empty", () => client.set("", ""));
  await step("strings/empty back", () => client.get(""));
  await step("strings/mset", () => client.mset({ a: "1", b: "2", c: binary }));
  await step("strings/mget", () => client.mget("a", "nothing", "b"));
  await step("strings/bits", () => client.setbit("bits", 100, 1));
  await step("keys/exists", () => client.exists("a", "b", "nothing"));
  await step("keys/expire", () => client.expire("a", 1000));
  await step("keys/ttl", () => client.ttl("a"));
  await step("keys/type", () => client.type("a"));
  await step("keys/rename", () => client.rename("a", "renamed"));
  await step("keys/del", () => client.del("renamed", "b"));
  await step("hashes/set", () => client.hmset("h", { one: "1", two: "2" }));
  await step("hashes/bin", () => client.hset("h", "bin", binary));
  await step("hashes/all", () => client.hgetall("h"));
  await step("hashes/buffers", () => client.hgetallBuffer("h"));
  await step("hashes/some", () => client.hmget("h", "one", "nothing"));
  await step("hashes/incr", () => client.hincrby("h", "one", 5));
  await step("lists/push", () => client.rpush("l", "a", "b", binary));
  await step("lists/range", () => client.lrangeBuffer("l", 0, -1));
  await step("lists/pop", () => client.lpop("l"));
  if (since(6, 2)) {
    await step("lists/pops", () => client.lpopBuffer("l", 5));
    await step("lists/none", () => client.lpop("l", 5));
  }
  await step("sets/add", () => client.sadd("set", "x", "y", "z"));
  await step("sets/members", async () => (await client.smembers("set")).sort());
  await step("sorted sets/add", () => client.zadd("z", 1, "one", 2.5, "two", "+inf", "inf"));
  await step("sorted sets/range", () => client.zrange("z", 0, -1, "WITHSCORES"));
  await step("sorted sets/score", () => client.zscore("z", "two"));
  await step("sorted sets/by score", () => client.zrangebyscore("z", "(1", "+inf", "WITHSCORES", "LIMIT", 0, 2));
  if (since(5, 0)) await step("sorted sets/pop", () => client.zpopmin("z"));
  if (since(3, 2)) {
    await step("geo/add", () => client.geoadd("geo", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"));
    await step("geo/distance", () => client.geodist("geo", "Palermo", "Catania", "km"));
    await step("geo/position", () => client.geopos("geo", "Palermo", "nothing"));
  }
  await step("errors/wrong type", () => client.lpush("s", "x"));
  await step("errors/not a number", () => client.incr("s"));
  await step("errors/arity", () => client.call("GET"));
  await step("errors/syntax", () => client.call("SET", "s", "x", "NONSENSE"));
  await step("errors/afterwards", () => client.ping());
  close(client);
}

async function streams() {
  if (!since(5, 0)) return write({ step: "streams", absent: "before 5.0" });
  const client = connect();
  const other = connect();
  for (let number = 1; number <= 5; number++) {
    await step("streams/add", () => client.xadd("x", `${number}-1`, "n", number, Buffer.from([0]), "b\r\n"));
  }
  await step("streams/stale", () => client.xadd("x", "1-1", "n", 0));
  await step("streams/range", () => client.xrange("x", "2-0", "3-1"));
  await step("streams/read", () => client.xread("COUNT", 1, "STREAMS", "x", "3-1"));
  await step("streams/nothing new", () => client.xread("STREAMS", "x", "$"));
  await step("streams/group", () => client.xgroup("CREATE", "x", "g", "0"));
  await step("streams/group again", () => client.xgroup("CREATE", "x", "g", "0"));
  await step("streams/read group", () => client.xreadgroup("GROUP", "g", "me", "COUNT", 3, "STREAMS", "x", ">"));
  await step("streams/pending", () => client.xpending("x", "g"));
  await step("streams/ack", () => client.xack("x", "g", "1-1", "2-1"));
  await step("streams/claim", () => client.xclaim("x", "g", "you", 0, "3-1"));
  await step("streams/no group", () => client.xreadgroup("GROUP", "nobody", "me", "STREAMS", "x", ">"));
  const waiting = other.xread("BLOCK", 0, "STREAMS", "x", "$");
  await blocked(1);
  await step("streams/wake", () => client.xadd("x", "6-1", "n", 6));
  await step("streams/woken", () => waiting);
  await step("streams/patience", () => client.xread("BLOCK", 30, "STREAMS", "x", "$"));
  await step("streams/trim", () => client.xtrim("x", "MAXLEN", 2));
  close(client, other);
}

function bigValue() {
  const blocks = Array.from({ length: 32768 }, (_, number) => Buffer.from(digest(String(number)), "hex"));
  return Buffer.concat(Array(4).fill(Buffer.concat(blocks)));
}

async function big() {
  const client = connect();
  const value = bigValue();
  await step("big/set", () => client.set("big", value));
  await step("big/get", () => client.getBuffer("big"));
  await step("big/length", () => client.strlen("big"));
  await step("big/range", () => client.getrangeBuffer("big", 4_000_000, 4_000_099));
  await step("big/in a hash", () => client.hset("bighash", "field", value));
  await step("big/out of a hash", () => client.hgetBuffer("bighash", "field"));
  const many = Array.from({ length: 4 }, (_, number) => [`big${number}`, value.subarray(0, 1 << 20)]).flat();
  await step("big/many", () => client.mset(...many));
  await step("big/many back", () => client.mgetBuffer("big0", "big1", "big2", "big3", "big4"));
  await step("big/gone", () => client.del("big", "bighash", "big0", "big1", "big2", "big3"));
  close(client);
}

async function pipelines() {
  const client = connect();
  const pipe = client.pipeline();
  for (let number = 0; number < 2000; number++) pipe.set(`p${number % 50}`, number).get(`p${number % 50}`);
  const replies = await pipe.exec();
  const right = replies.every(([found, reply], at) => found === null && reply === (at % 2 ? String((at - 1) / 2) : "OK"));
  say("pipelines/four thousand", [replies.length, right]);
  const loose = await Promise.all(Array.from({ length: 1000 }, (_, number) => client.echo(String(number))));
  say("pipelines/without one", [loose.length, loose.every((reply, at) => reply === String(at))]);
  await step("pipelines/errors in their places", () =>
    client.pipeline().set("word", "x").lpush("word", "y").get("word").incr("word").get("word").exec());
  await step("pipelines/empty", () => client.pipeline().exec());
  const wide = client.pipeline();
  for (let number = 0; number < 8; number++) wide.set(`wide${number}`, Buffer.alloc(200_000, number)).getBuffer(`wide${number}`);
  await step("pipelines/wide", () => wide.exec());
  const auto = connect({ enableAutoPipelining: true });
  const gathered = await Promise.all(Array.from({ length: 500 }, (_, number) => auto.set(`auto${number}`, number)));
  say("pipelines/automatic", [gathered.length, gathered.every((reply) => reply === "OK")]);
  await step("pipelines/afterwards", () => client.get("word"));
  close(client, auto);
}

async function transactions() {
  const client = connect();
  const other = connect();
  await step("transactions/set", () => client.set("balance", 40));
  await step("transactions/exec", () => client.multi().incrby("balance", 2).get("balance").hgetall("nothing").exec());
  await step("transactions/error within", () => client.multi().get("balance").lpush("balance", "x").get("balance").exec());
  await step("transactions/aborted", () => client.multi().get("balance").call("GET").exec());
  await step("transactions/one by one", () => client.multi({ pipeline: false }));
  await step("transactions/queued", () => client.incr("balance"));
  await step("transactions/executed", () => client.exec());
  await step("transactions/opened", () => client.multi({ pipeline: false }));
  await step("transactions/discarded", () => client.discard());
  await step("transactions/without multi", () => client.exec());
  await step("transactions/watch", () => client.watch("balance"));
  await step("transactions/kept", () => client.multi().set("balance", 50).exec());
  await client.watch("balance");
  await step("transactions/theirs", () => other.set("balance", 0));
  await step("transactions/lost", () => client.multi().set("balance", 60).get("balance").exec());
  await step("transactions/unharmed", () => client.get("balance"));
  await client.watch("balance");
  await other.set("balance", 1);
  await step("transactions/unwatch", () => client.unwatch());
  await step("transactions/after unwatch", () => client.multi().incr("balance").exec());
  close(client, other);
}

async function pubsub() {
  const client = connect();
  const listener = connect();
  const box = new Mailbox();
  listener.on("messageBuffer", (channel, message) => box.add(["message", channel, message]));
  listener.on("pmessageBuffer", (pattern, channel, message) => box.add(["pmessage", pattern, channel, message]));
  listener.on("smessageBuffer", (channel, message) => box.add(["smessage", channel, message]));
  await step("pubsub/subscribe", () => listener.subscribe("news", "sport"));
  await step("pubsub/by pattern", () => listener.psubscribe("w*", "n?ws"));
  await step("pubsub/publish", () => client.publish("weather", Buffer.from("rain \0\r\n")));
  await step("pubsub/received", () => box.take(1));
  await step("pubsub/twice", () => client.publish("news", "hello"));
  await step("pubsub/received twice", () => box.take(2));
  await step("pubsub/numbers", () => client.pubsub("NUMSUB", "news", "nobody"));
  await step("pubsub/patterns", () => client.pubsub("NUMPAT"));
  await step("pubsub/ping", () => listener.ping());
  await step("pubsub/get", () => listener.get("s"));
  await step("pubsub/big", () => client.publish("sport", Buffer.alloc(3_000_000, "x")));
  await step("pubsub/received big", () => box.take(1));
  await step("pubsub/unsubscribe", () => listener.unsubscribe("news"));
  await step("pubsub/no patterns", () => listener.punsubscribe("w*", "n?ws"));
  await client.publish("sport", "still");
  await step("pubsub/still", () => box.take(1));
  await step("pubsub/none", () => listener.unsubscribe("sport"));
  await step("pubsub/reused", () => listener.set("reused", "1"));
  await step("pubsub/reused again", () => listener.get("reused"));
  await step("pubsub/again", () => listener.subscribe("again"));
  await client.publish("again", "a");
  await step("pubsub/received again", () => box.take(1));
  await listener.unsubscribe("again");
  if (since(7, 0)) {
    await step("pubsub/sharded", () => listener.ssubscribe("shard"));
    await step("pubsub/spublish", () => client.spublish("shard", "x"));
    await step("pubsub/received sharded", () => box.take(1));
    await step("pubsub/unsharded", () => listener.sunsubscribe("shard"));
  }
  await step("pubsub/afterwards", () => listener.ping());
  close(client, listener);
}

async function blocking() {
  const client = connect();
  const other = connect();
  await step("blocking/in vain", () => client.blpop("queue", since(6, 0) ? 0.05 : 1));
  for (const name of ["blpop", "brpop"]) {
    const waiting = other[name]("queue", 0);
    await blocked(1);
    await client.rpush("queue", "element");
    await step(`blocking/${name}`, () => waiting);
  }
  // Commands behind a blocked one wait for it.
  const waiting = [other.blpop("queue", 20), other.echo("behind"), other.get("nothing")];
  await blocked(1);
  await client.rpush("queue", "x");
  await step("blocking/and behind it", () => Promise.all(waiting));
  await client.rpush("queue", "at once");
  await step("blocking/at once", () => client.blpop("nothing", "queue", 0));
  if (since(5, 0)) {
    const waiting = other.bzpopmin("zqueue", 0);
    await blocked(1);
    await client.zadd("zqueue", 1.5, "job");
    await step("blocking/bzpopmin", () => waiting);
    const number = await other.client("ID");
    const unblocked = other.blpop("queue", 0);
    unblocked.catch(() => {});
    await blocked(1);
    await step("blocking/unblock", () => admin.client("UNBLOCK", number, "ERROR"));
    await step("blocking/unblocked", () => unblocked);
  }
  if (since(6, 2)) {
    const waiting = other.blmove("from", "to", "LEFT", "RIGHT", 0);
    await blocked(1);
    await client.rpush("from", "x");
    await step("blocking/blmove", () => waiting);
  }
  // Who left takes nothing with him.
  const ghost = once();
  ghost.blpop("ghost", 0).catch(() => {});
  await blocked(1);
  close(ghost);
  await blocked(0);
  await step("blocking/push", () => client.rpush("ghost", "x"));
  await step("blocking/no ghost", () => client.llen("ghost"));
  await step("blocking/afterwards", () => other.ping());
  close(client, other);
}

async function scans() {
  const client = connect();
  const pipe = client.pipeline();
  for (let number = 0; number < 600; number++) {
    pipe.set(`scan:${number}`, number).hset("scanhash", `f${number}`, number);
    pipe.sadd("scanset", `m${number}`).zadd("scanzset", number, `m${number}`);
  }
  await pipe.exec();
  const all = async (stream, pairs = false) => {
    const found = new Set();
    for await (const part of stream) {
      for (let at = 0; at < part.length; at += pairs ? 2 : 1) found.add(pairs ? `${part[at]}=${part[at + 1]}` : part[at]);
    }
    return [found.size, digest([...found].sort().join())];
  };
  say("scans/keys", await all(client.scanStream({ match: "scan:*", count: 97 })));
  say("scans/some", await all(client.scanStream({ match: "scan:1?", count: 1000 })));
  say("scans/hash", await all(client.hscanStream("scanhash", { count: 97 }), true));
  say("scans/set", await all(client.sscanStream("scanset", { count: 97 })));
  say("scans/sorted set", await all(client.zscanStream("scanzset", { count: 97 }), true));
  say("scans/none", await all(client.scanStream({ match: "no such key*", count: 1000 })));
  await step("scans/size", () => client.dbsize());
  close(client);
}

async function reconnects() {
  const client = connect({ retryStrategy: () => 5 });
  const stubborn = once({ autoResendUnfulfilledCommands: false });
  const waiter = connect({ retryStrategy: () => 5 });
  const listener = connect({ retryStrategy: () => 5 });
  const box = new Mailbox();
  await step("reconnects/set", () => client.set("k", "v"));
  await stubborn.ping();
  listener.on("message", (channel, message) => box.add([channel, message]));
  await listener.subscribe("news");
  // It may be told before it is asked for, which Node would call unhandled.
  const refused = stubborn.blpop("never", 0);
  refused.catch(() => {});
  // ioredis says it again by itself once it is back.
  const patient = waiter.blpop("queue", 0);
  await blocked(2);
  await step("reconnects/killed", () => admin.client("KILL", "TYPE", "normal", "SKIPME", "yes"));
  await step("reconnects/while blocked", () => refused);
  await step("reconnects/ended", () => stubborn.get("k"));
  await step("reconnects/by itself", () => client.get("k"));
  await blocked(1);
  await client.rpush("queue", "x");
  await step("reconnects/said again", () => patient);
  await admin.client("KILL", "TYPE", "pubsub");
  await until("a new subscription", async () => (await admin.pubsub("NUMSUB", "news"))[1] === 1);
  await client.publish("news", "back");
  await step("reconnects/resubscribed", () => box.take(1));
  close(client, stubborn, waiter, listener);
}

// What stands in between is ended and started again, when this asks for it.
async function restart() {
  const client = connect({ retryStrategy: () => 20 });
  const listener = connect({ retryStrategy: () => 20 });
  const box = new Mailbox();
  listener.on("message", (channel, message) => box.add([channel, message]));
  await step("restart/subscribe", () => listener.subscribe("news"));
  await step("restart/set", () => client.set("k", "v"));
  await admin.rpush("restart:asked", "now");
  await until("a restart", () => admin.lpop("restart:done"));
  await step("restart/by itself", () => client.get("k"));
  await step("restart/in a transaction", () => client.multi().incr("n").get("k").exec());
  await until("a new subscription", async () => (await admin.pubsub("NUMSUB", "news"))[1] === 1);
  await step("restart/publish", () => client.publish("news", "back"));
  await step("restart/received", () => box.take(1));
  close(client, listener);
}

// Many clients, each with its own words: nobody gets what another was answered.
async function crowd() {
  async function guest(client, name, rounds) {
    let wrong = 0;
    for (let number = 0; number < rounds; number++) {
      const token = `${name}:${number}`;
      wrong += (await client.echo(token)) !== token;
      const [, , got] = await Promise.all([client.set(`crowd:${name}`, token), client.echo("x"), client.get(`crowd:${name}`)]);
      wrong += got !== token;
      const pipe = number % 2 ? client.pipeline() : client.multi();
      pipe.echo(token).lpush(`crowdlist:${name}`, token).lindex(`crowdlist:${name}`, 0).get("crowd:nobody");
      pipe.lpush(`crowd:${name}`, "wrong type");
      const replies = await pipe.exec();
      const right = [token, number + 1, token, null].every((each, at) => replies[at][0] === null && replies[at][1] === each);
      wrong += !(right && replies[4][0].message.startsWith("WRONGTYPE"));
    }
    return wrong;
  }
  const clients = Array.from({ length: 24 }, () => connect());
  const wrong = await Promise.all(clients.map((client, number) => guest(client, `own${number}`, 8)));
  say("crowd/own connections", [wrong.length, wrong.reduce((sum, each) => sum + each)]);
  close(...clients);
  // ioredis has no pool: everybody shares one connection.
  const shared = connect();
  const together = await Promise.all(
    Array.from({ length: 16 }, (_, number) => (async () => {
      let odd = 0;
      for (let round = 0; round < 8; round++) {
        const token = `shared${number}:${round}`;
        odd += (await shared.echo(token)) !== token;
        await shared.set(`shared:${number}`, token);
        odd += (await shared.get(`shared:${number}`)) !== token;
      }
      return odd;
    })()),
  );
  say("crowd/one connection", [together.length, together.reduce((sum, each) => sum + each)]);
  close(shared);
}

async function denied() {
  const client = connect();
  await step("denied/before", () => client.set("kept", "1"));
  await step("denied/flushall", () => client.flushall());
  await step("denied/flushdb", () => client.flushdb());
  await step("denied/keys", () => client.keys("*"));
  await step("denied/config", () => client.config("GET", "requirepass"));
  await step("denied/eval", () => client.eval("return 1", 0));
  await step("denied/function", () => client.fcall("f", 0));
  await step("denied/client list", () => client.client("LIST"));
  await step("denied/object", () => client.object("ENCODING", "kept"));
  await step("denied/sort", () => client.sort("kept"));
  await step("denied/shutdown", () => client.shutdown("NOSAVE"));
  client.defineCommand("total", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
  await step("denied/own command", () => client.total("t", 1));
  await step("denied/afterwards", () => client.get("kept"));
  await step("denied/in a pipeline", () => client.pipeline().set("kept", "2").flushall().get("kept").keys("*").get("kept").exec());
  await step("denied/in a transaction", () => client.multi().set("kept", "3").flushall().get("kept").exec());
  await step("denied/nothing ran", () => client.get("kept"));
  const listener = connect();
  const box = new Mailbox();
  listener.on("message", (channel, message) => box.add([channel, message]));
  await listener.subscribe("news");
  if (options.protocol === 3) await step("denied/while subscribed", () => listener.call("FLUSHALL"));
  await client.publish("news", "still there");
  await step("denied/still subscribed", () => box.take(1));
  const monitor = connect();
  await step("denied/monitor", () => monitor.monitor());
  close(client, listener, monitor);
}

// Client side caching is not part of ioredis; its commands can be said, and pushes are not handed out.
async function noCaching() {
  const client = connect();
  await step("no caching/by hand", () => client.client("TRACKING", "ON"));
  close(client);
}

async function caching() {
  if (!since(6, 0)) return write({ step: "caching", absent: "before 6.0" });
  const client = connect();
  const listener = connect();
  const box = new Mailbox();
  listener.on("message", (channel, message) => box.add([channel, message]));
  // As RESP2 has it: invalidations are messages to another connection.
  const number = await listener.client("ID");
  await step("caching/subscribe", () => listener.subscribe("__redis__:invalidate"));
  await step("caching/tracking", () => client.client("TRACKING", "ON", "REDIRECT", number));
  await step("caching/get", () => client.get("tracked"));
  await admin.set("tracked", "2");
  if (options.protocol === 2) await step("caching/invalidation", () => box.take(1));
  await step("caching/off", () => client.client("TRACKING", "OFF"));
  await step("caching/afterwards", () => client.get("tracked"));
  close(client, listener);
}

async function scripts() {
  const client = connect();
  await step("scripts/eval", () => client.eval("return {KEYS[1], ARGV[1], 3}", 1, "k", "x"));
  client.defineCommand("total", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
  await step("scripts/own command", () => client.total("t", 40));
  await step("scripts/by its digest", () => client.total("t", 2));
  await step("scripts/in a pipeline", () => client.pipeline().total("t", 1).get("t").exec());
  await step("scripts/error", () => client.eval("return redis.call('LPUSH', KEYS[1], 'x')", 1, "t"));
  await step("scripts/no such script", () => client.evalsha("f".repeat(40), 0));
  await step("scripts/load", () => client.script("LOAD", "return 1"));
  close(client);
}

// A server that may not know HELLO: ioredis goes on with RESP2.
async function fallback() {
  const client = once();
  await step("fallback/ping", () => client.ping());
  await step("fallback/set", () => client.set("k", "v"));
  await step("fallback/all", () => client.hgetall("nothing"));
  close(client);
}

// With a name and a password of its own, as it was configured for a Redis that asks for them.
async function credentials() {
  aside.length = 0;
  const client = once();
  await step("credentials/ping", () => client.ping());
  if (aside.length > 0) write({ step: "credentials/said", error: "event", text: aside.join("; ") });
  await step("credentials/set", () => client.set("k", "v"));
  const named = once({ db: 2, connectionName: "me" });
  await step("credentials/with a database", () => named.client("GETNAME"));
  close(client, named);
}

// What a user sees who forgot the certificate, and one who forgot TLS.
async function noCertificate() {
  if (!options.ca) return;
  for (const [name, tls] of [["no certificate", { ca: fs.readFileSync(options.ca) }], ["no TLS", undefined]]) {
    aside.length = 0;
    const client = new Redis({ host: options.host, port: options.port, protocol: options.protocol, tls, retryStrategy: () => null });
    client.on("error", (found) => aside.push(found.message));
    await client.ping().catch((found) => aside.push(found.message));
    write({ step: name, error: "event", text: aside.join("; ") });
    close(client);
  }
}

run(async () => {
  version = (await admin.info("server")).match(/redis_version:(\d+)\.(\d+)/).slice(1).map(Number);
  write({ client: "ioredis", version: require("ioredis/package.json").version, protocol: options.protocol });
  await runSections({
    handshake, values, streams, big, pipelines, transactions, pubsub, blocking, scans, reconnects, restart, crowd, denied,
    no_caching: noCaching, caching, scripts, fallback, credentials, no_certificate: noCertificate,
  });
});
