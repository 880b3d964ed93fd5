// node-redis.
"use strict";

const fs = require("node:fs");
const { createClient, createClientPool, BasicClientSideCache, defineScript, RESP_TYPES, WatchError } = require("redis");
const { options, admin: adminOptions, digest, write, step, say, until, Mailbox, runSections, run } = require("./transcript.cjs");

function proxied(more) {
  // snippet: node-redis
  return createClient({
    socket: {
      host: options.host,
      port: options.port,
      tls: true,
      ca: fs.readFileSync(options.ca),
      cert: fs.readFileSync(options.cert),
      key: fs.readFileSync(options.key),
      ...more.socket,
    },
    ...more.client,
  });
  // end
}

// What clients say aside: errors of connections.
const aside = [];

function configuration(more, socket) {
  const client = { RESP: options.protocol, ...more };
  if (options.username && !("password" in more)) client.username = options.username;
  if (options.password && !("password" in more)) client.password = options.password;
  return { client, socket };
}

// A client as its configuration says, directly or through the proxy; not connected yet.
function made(more = {}, socket = {}) {
  const chosen = configuration(more, socket);
  const client = options.ca
    ? proxied(chosen)
    : createClient({ socket: { host: options.host, port: options.port, ...socket }, ...chosen.client });
  client.on("error", (found) => aside.push(found.message));
  return client;
}

// One that tries nothing twice.
const NEVER = { reconnectStrategy: false };
// One that is soon back.
const SOON = { reconnectStrategy: () => 5 };

function connect(more, socket) {
  return made(more, socket).connect();
}

function close(...clients) {
  for (const client of clients) if (client.isOpen) client.destroy();
}

// Bulk strings as buffers.
function buffers(client) {
  return client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
}

const { host, port, password } = adminOptions;
const admin = createClient({ RESP: 2, socket: { host, port }, password });
let version;

function since(major, minor) {
  return version[0] > major || (version[0] === major && version[1] >= minor);
}

function blocked(number) {
  return until(`${number} blocked clients`, async () => (await admin.info("clients")).includes(`blocked_clients:${number}\r`));
}

const binary = Buffer.from(Array.from({ length: 256 }, (_, number) => number));

async function handshake() {
  const plain = await connect();
  await step("handshake/ping", () => plain.ping());
  await step("handshake/echo", () => plain.echo("x"));
  if (since(6, 2)) {
    const info = String(await plain.sendCommand(["CLIENT", "INFO"]));
    say("handshake/info", info.match(/\b(db|resp|lib-name|lib-ver)=[^ \n]*/g));
  }
  const third = await connect({ database: 3, name: "third" });
  await step("handshake/name", () => third.clientGetName());
  await step("handshake/set", () => third.set("where", "3"));
  await step("handshake/elsewhere", () => plain.get("where"));
  await step("handshake/here", () => third.get("where"));
  await step("handshake/select", () => plain.select(3));
  await step("handshake/selected", () => plain.get("where"));
  await step("handshake/select none", () => plain.select(99));
  await step("handshake/still selected", () => plain.get("where"));
  if (since(6, 0)) {
    await step("handshake/reset", () => plain.sendCommand(["HELLO", String(options.protocol), "SETNAME", "again"]).then(() => plain.clientGetName()));
  }
  await step("handshake/quit", () => third.quit());
  close(plain, third);
}

async function values() {
  const client = await connect();
  await step("strings/set", () => client.set("s", "1"));
  await step("strings/get", () => client.get("s"));
  await step("strings/missing", () => client.get("nothing"));
  await step("strings/options", () => client.set("s", "2", { PX: 100000, NX: true }));
  await step("strings/more options", () => client.set("s", "2", { PX: 100000, XX: true }));
  await step("strings/incr", () => client.incrBy("s", 40));
  await step("strings/float", () => client.incrByFloat("f", 2.5));
  await step("strings/append", () => client.append("s", "x"));
  await step("strings/binary", () => client.set(Buffer.from([0, 13, 10, 255]), binary));
  await step("strings/binary back", () => buffers(client).get(Buffer.from([0, 13, 10, 255])));
  await step("strings/unicode", () => client.set("ключ", "значение 🗝"));
  await step("strings/unicode back", () => client.get("ключ"));
  await step("strings/empty", () => client.set("", ""));
  await step("strings/empty back", () => client.get(""));
  await step("strings/mset", () => client.mSet({ a: "1", b: "2" }));
  await step("strings/mget", () => client.mGet(["a", "nothing", "b"]));
  await step("strings/bits", () => client.setBit("bits", 100, 1));
  await step("keys/exists", () => client.exists(["a", "b", "nothing"]));
  await step("keys/expire", () => client.expire("a", 1000));
  await step("keys/ttl", () => client.ttl("a"));
  await step("keys/type", () => client.type("a"));
  await step("keys/rename", () => client.rename("a", "renamed"));
  await step("keys/del", () => client.del(["renamed", "b"]));
  if (since(4, 0)) await step("hashes/set", () => client.hSet("h", { one: "1", two: "2" }));
  await step("hashes/bin", () => client.hSet("h", "bin", binary));
  await step("hashes/all", () => client.hGetAll("h"));
  await step("hashes/buffers", () => buffers(client).hGetAll("h"));
  await step("hashes/some", () => client.hmGet("h", ["one", "nothing"]));
  await step("hashes/incr", () => client.hIncrBy("h", "one", 5));
  await step("hashes/none", () => client.hGetAll("nothing"));
  await step("lists/push", () => client.rPush("l", ["a", "b", "c"]));
  await step("lists/range", () => client.lRange("l", 0, -1));
  await step("lists/pop", () => client.lPop("l"));
  if (since(6, 2)) {
    await step("lists/pops", () => client.lPopCount("l", 5));
    await step("lists/none", () => client.lPopCount("l", 5));
  }
  await step("sets/add", () => client.sAdd("set", ["x", "y", "z"]));
  await step("sets/members", async () => (await client.sMembers("set")).sort());
  await step("sets/as a set", () => client.withTypeMapping({ [RESP_TYPES.SET]: Set }).sMembers("set").then((found) => [...found].sort()));
  await step("sorted sets/add", () => client.zAdd("z", [{ score: 1, value: "one" }, { score: 2.5, value: "two" }, { score: Infinity, value: "inf" }]));
  await step("sorted sets/range", () => client.zRangeWithScores("z", 0, -1));
  await step("sorted sets/score", () => client.zScore("z", "two"));
  await step("sorted sets/by score", () => client.zRangeByScoreWithScores("z", "(1", "+inf"));
  if (since(5, 0)) await step("sorted sets/pop", () => client.zPopMin("z"));
  if (since(3, 2)) {
    await step("geo/add", () => client.geoAdd("geo", [{ longitude: 13.361389, latitude: 38.115556, member: "Palermo" }]));
    await step("geo/position", () => client.geoPos("geo", ["Palermo", "nothing"]));
  }
  await step("errors/wrong type", () => client.lPush("s", "x"));
  await step("errors/not a number", () => client.incr("s"));
  await step("errors/arity", () => client.sendCommand(["GET"]));
  await step("errors/syntax", () => client.sendCommand(["SET", "s", "x", "NONSENSE"]));
  await step("errors/afterwards", () => client.ping());
  close(client);
}

async function streams() {
  if (!since(5, 0)) return write({ step: "streams", absent: "before 5.0" });
  const client = await connect();
  const other = await connect();
  for (let number = 1; number <= 5; number++) {
    await step("streams/add", () => client.xAdd("x", `${number}-1`, { n: String(number), "\0": "b\r\n" }));
  }
  await step("streams/stale", () => client.xAdd("x", "1-1", { n: "0" }));
  await step("streams/range", () => client.xRange("x", "2-0", "3-1"));
  await step("streams/read", () => client.xRead({ key: "x", id: "3-1" }, { COUNT: 1 }));
  await step("streams/nothing new", () => client.xRead({ key: "x", id: "$" }));
  await step("streams/group", () => client.xGroupCreate("x", "g", "0"));
  await step("streams/group again", () => client.xGroupCreate("x", "g", "0"));
  await step("streams/read group", () => client.xReadGroup("g", "me", { key: "x", id: ">" }, { COUNT: 3 }));
  await step("streams/pending", () => client.xPending("x", "g"));
  await step("streams/ack", () => client.xAck("x", "g", ["1-1", "2-1"]));
  await step("streams/claim", () => client.xClaim("x", "g", "you", 0, "3-1"));
  if (since(6, 2)) await step("streams/autoclaim", () => client.xAutoClaim("x", "g", "she", 0, "0-0"));
  await step("streams/no group", () => client.xReadGroup("nobody", "me", { key: "x", id: ">" }));
  const waiting = other.xRead({ key: "x", id: "$" }, { BLOCK: 0 });
  await blocked(1);
  await step("streams/wake", () => client.xAdd("x", "6-1", { n: "6" }));
  await step("streams/woken", () => waiting);
  await step("streams/patience", () => client.xRead({ key: "x", id: "$" }, { BLOCK: 30 }));
  await step("streams/trim", () => client.xTrim("x", "MAXLEN", 2));
  close(client, other);
}

function bigValue() {
  const blocks = Array.from({ length: 32768 }, (_, number) => Buffer.from(digest(String(number)), "hex"));
  return Buffer.concat(Array(4).fill(Buffer.concat(blocks)));
}

async function big() {
  const client = await connect();
  const value = bigValue();
  await step("big/set", () => client.set("big", value));
  await step("big/get", () => buffers(client).get("big"));
  await step("big/length", () => client.strLen("big"));
  await step("big/range", () => buffers(client).getRange("big", 4_000_000, 4_000_099));
  await step("big/in a hash", () => client.hSet("bighash", "field", value));
  await step("big/out of a hash", () => buffers(client).hGet("bighash", "field"));
  await step("big/many", () => client.mSet(Array.from({ length: 4 }, (_, number) => [`big${number}`, value.subarray(0, 1 << 20)])));
  await step("big/many back", () => buffers(client).mGet(["big0", "big1", "big2", "big3", "big4"]));
  await step("big/gone", () => client.del(["big", "bighash", "big0", "big1", "big2", "big3"]));
  close(client);
}

async function pipelines() {
  const client = await connect();
  const loose = await Promise.all(Array.from({ length: 4000 }, (_, number) => client.echo(String(number))));
  say("pipelines/four thousand", [loose.length, loose.every((reply, at) => reply === String(at))]);
  await step("pipelines/settled", async () => {
    const all = [client.set("word", "x"), client.lPush("word", "y"), client.get("word"), client.incr("word"), client.get("word")];
    return (await Promise.allSettled(all)).map(({ status, value, reason }) => [status, value ?? reason]);
  });
  await step("pipelines/as one", () => client.multi().set("a", "1").get("a").echo("x").execAsPipeline());
  await step("pipelines/errors in their places", () => client.multi().set("word", "x").lPush("word", "y").get("word").execAsPipeline());
  await step("pipelines/empty", () => client.multi().execAsPipeline());
  await step("pipelines/wide", () =>
    Promise.all(Array.from({ length: 8 }, (_, number) => [client.set(`wide${number}`, Buffer.alloc(200_000, number)), buffers(client).get(`wide${number}`)]).flat()));
  await step("pipelines/afterwards", () => client.get("word"));
  close(client);
}

async function transactions() {
  const client = await connect();
  const other = await connect();
  await step("transactions/set", () => client.set("balance", "40"));
  await step("transactions/exec", () => client.multi().incrBy("balance", 2).get("balance").hGetAll("nothing").exec());
  await step("transactions/error within", () => client.multi().get("balance").lPush("balance", "x").get("balance").exec());
  await step("transactions/aborted", () => client.multi().get("balance").addCommand(["GET"]).exec());
  await step("transactions/afterwards", () => client.get("balance"));
  await step("transactions/watch", () => client.watch("balance"));
  await step("transactions/kept", () => client.multi().set("balance", "50").exec());
  await client.watch("balance");
  await step("transactions/theirs", () => other.set("balance", "0"));
  await step("transactions/lost", () => client.multi().set("balance", "60").get("balance").exec());
  await step("transactions/unharmed", () => client.get("balance"));
  await client.watch("balance");
  await other.set("balance", "1");
  await step("transactions/unwatch", () => client.unwatch());
  await step("transactions/after unwatch", () => client.multi().incr("balance").exec());
  await step("transactions/another database", () => client.multi().select(2).set("there", "1").exec());
  await step("transactions/selected", () => client.get("there"));
  // Many transactions at once on one connection keep out of each other.
  const all = await Promise.all(Array.from({ length: 50 }, (_, number) => client.multi().echo(String(number)).incr("n").exec()));
  say("transactions/many", all.every(([echo, count], at) => echo === String(at) && count === at + 1));
  close(client, other);
  say("transactions/its error", WatchError.name);
}

async function pubsub() {
  const client = await connect();
  const listener = await connect();
  const box = new Mailbox();
  const heard = (message, channel) => box.add([channel, message]);
  await step("pubsub/subscribe", () => listener.subscribe(["news", "sport"], heard));
  await step("pubsub/as bytes", () => listener.subscribe("bytes", heard, true));
  await step("pubsub/by pattern", () => listener.pSubscribe(["w*", "n?ws"], heard));
  await step("pubsub/publish", () => client.publish("weather", "rain \0\r\n"));
  await step("pubsub/received", () => box.take(1));
  await step("pubsub/twice", () => client.publish("news", "hello"));
  await step("pubsub/received twice", () => box.take(2));
  await step("pubsub/publish bytes", () => client.publish("bytes", binary));
  await step("pubsub/received bytes", () => box.take(1));
  await step("pubsub/channels", async () => (await client.pubSubChannels()).sort());
  await step("pubsub/numbers", () => client.pubSubNumSub(["news", "nobody"]));
  await step("pubsub/ping", () => listener.ping());
  // With RESP2 the library itself does not say this while it is subscribed.
  if (options.protocol === 3) await step("pubsub/get", () => listener.get("s"));
  await step("pubsub/big", () => client.publish("sport", "x".repeat(3_000_000)));
  await step("pubsub/received big", () => box.take(1));
  await step("pubsub/unsubscribe", () => listener.unsubscribe("news"));
  await step("pubsub/no patterns", () => listener.pUnsubscribe());
  await client.publish("sport", "still");
  await step("pubsub/still", () => box.take(1));
  await step("pubsub/none", () => listener.unsubscribe());
  say("pubsub/active", listener.isPubSubActive);
  await step("pubsub/reused", () => listener.set("reused", "1"));
  await step("pubsub/reused again", () => listener.get("reused"));
  await step("pubsub/again", () => listener.subscribe("again", heard));
  await client.publish("again", "a");
  await step("pubsub/received again", () => box.take(1));
  await listener.unsubscribe("again");
  if (since(7, 0)) {
    await step("pubsub/sharded", () => listener.sSubscribe("shard", heard));
    await step("pubsub/spublish", () => client.sPublish("shard", "x"));
    await step("pubsub/received sharded", () => box.take(1));
    await step("pubsub/unsharded", () => listener.sUnsubscribe("shard"));
  }
  await step("pubsub/afterwards", () => listener.ping());
  close(client, listener);
}

async function blocking() {
  const client = await connect();
  const other = await connect();
  await step("blocking/in vain", () => client.blPop("queue", since(6, 0) ? 0.05 : 1));
  for (const name of ["blPop", "brPop"]) {
    const waiting = other[name]("queue", 0);
    await blocked(1);
    await client.rPush("queue", "element");
    await step(`blocking/${name}`, () => waiting);
  }
  const waiting = [other.blPop("queue", 20), other.echo("behind"), other.get("nothing")];
  await blocked(1);
  await client.rPush("queue", "x");
  await step("blocking/and behind it", () => Promise.all(waiting));
  await client.rPush("queue", "at once");
  await step("blocking/at once", () => client.blPop(["nothing", "queue"], 0));
  if (since(5, 0)) {
    const waiting = other.bzPopMin("zqueue", 0);
    await blocked(1);
    await client.zAdd("zqueue", { score: 1.5, value: "job" });
    await step("blocking/bzPopMin", () => waiting);
    const number = await other.clientId();
    const unblocked = other.blPop("queue", 0);
    unblocked.catch(() => {});
    await blocked(1);
    await step("blocking/unblock", () => admin.clientUnblock(number, "ERROR"));
    await step("blocking/unblocked", () => unblocked);
  }
  if (since(6, 2)) {
    const waiting = other.blMove("from", "to", "LEFT", "RIGHT", 0);
    await blocked(1);
    await client.rPush("from", "x");
    await step("blocking/blMove", () => waiting);
  }
  // Who left takes nothing with him.
  const ghost = await connect({}, NEVER);
  ghost.blPop("ghost", 0).catch(() => {});
  await blocked(1);
  close(ghost);
  await blocked(0);
  await step("blocking/push", () => client.rPush("ghost", "x"));
  await step("blocking/no ghost", () => client.lLen("ghost"));
  await step("blocking/afterwards", () => other.ping());
  close(client, other);
}

async function scans() {
  const client = await connect();
  const all = [];
  for (let number = 0; number < 600; number++) {
    all.push(client.set(`scan:${number}`, String(number)), client.hSet("scanhash", `f${number}`, String(number)));
    all.push(client.sAdd("scanset", `m${number}`), client.zAdd("scanzset", { score: number, value: `m${number}` }));
  }
  await Promise.all(all);
  const collected = async (iterator) => {
    const found = new Set();
    for await (const part of iterator) for (const each of part) found.add(JSON.stringify(each));
    return [found.size, digest([...found].sort().join())];
  };
  say("scans/keys", await collected(client.scanIterator({ MATCH: "scan:*", COUNT: 97 })));
  say("scans/some", await collected(client.scanIterator({ MATCH: "scan:1?", COUNT: 1000 })));
  say("scans/hash", await collected(client.hScanIterator("scanhash", { COUNT: 97 })));
  say("scans/set", await collected(client.sScanIterator("scanset", { COUNT: 97 })));
  say("scans/sorted set", await collected(client.zScanIterator("scanzset", { COUNT: 97 })));
  if (since(6, 0)) say("scans/by type", await collected(client.scanIterator({ TYPE: "zset", MATCH: "scan*", COUNT: 500 })));
  say("scans/none", await collected(client.scanIterator({ MATCH: "no such key*", COUNT: 1000 })));
  await step("scans/size", () => client.dbSize());
  close(client);
}

async function reconnects() {
  const client = await connect({}, SOON);
  const stubborn = await connect({}, NEVER);
  const listener = await connect({}, SOON);
  const box = new Mailbox();
  await step("reconnects/set", () => client.set("k", "v"));
  await listener.subscribe("news", (message, channel) => box.add([channel, message]));
  // It may be told before it is asked for, which Node would call unhandled.
  const refused = stubborn.blPop("never", 0);
  refused.catch(() => {});
  await blocked(1);
  await step("reconnects/killed", () => admin.sendCommand(["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]));
  await step("reconnects/while blocked", () => refused);
  await step("reconnects/ended", () => stubborn.get("k"));
  await step("reconnects/by itself", () => client.get("k").catch(() => client.get("k")));
  await admin.sendCommand(["CLIENT", "KILL", "TYPE", "pubsub"]);
  await until("a new subscription", async () => (await admin.pubSubNumSub(["news"])).news === 1);
  await client.publish("news", "back");
  await step("reconnects/resubscribed", () => box.take(1));
  close(client, stubborn, listener);
}

// What stands in between is ended and started again, when this asks for it.
async function restart() {
  const client = await connect({}, { reconnectStrategy: () => 20 });
  const listener = await connect({}, { reconnectStrategy: () => 20 });
  const box = new Mailbox();
  await step("restart/subscribe", () => listener.subscribe("news", (message, channel) => box.add([channel, message])));
  await step("restart/set", () => client.set("k", "v"));
  await step("restart/watched", () => client.watch("k"));
  // It looks ready until it has heard that its connection is gone; what it says in between is nobody's transaction.
  let again = false;
  client.on("ready", () => {
    again = true;
  });
  await admin.rPush("restart:asked", "now");
  await until("a restart", () => admin.lPop("restart:done"));
  await until("its new connection", () => again);
  // What it watched is forgotten, and its library knows.
  await step("restart/watch", () => client.multi().set("k", "other").exec());
  await step("restart/by itself", () => client.get("k"));
  await until("a new subscription", async () => (await admin.pubSubNumSub(["news"])).news === 1);
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
      const batch = client.multi().echo(token).lPush(`crowdlist:${name}`, token).lIndex(`crowdlist:${name}`, 0).get("crowd:nobody");
      const pipelined = number % 2 === 1;
      // A pipeline ends with its first error, a transaction tells all replies.
      if (!pipelined) batch.lPush(`crowd:${name}`, "wrong type");
      const replies = await (pipelined ? batch.execAsPipeline() : batch.exec().catch((found) => found.replies));
      const right = [token, number + 1, token, null].every((each, at) => replies[at] === each);
      wrong += !(right && (pipelined || replies[4].message.startsWith("WRONGTYPE")));
    }
    return wrong;
  }
  const sum = (wrong) => [wrong.length, wrong.reduce((total, each) => total + each)];
  const clients = await Promise.all(Array.from({ length: 24 }, () => connect()));
  say("crowd/own connections", sum(await Promise.all(clients.map((client, number) => guest(client, `own${number}`, 8)))));
  close(...clients);
  const model = made();
  const pool = createClientPool(model.options, { minimum: 1, maximum: 4 });
  pool.on("error", (found) => aside.push(found.message));
  await pool.connect();
  const names = Array.from({ length: 16 }, (_, number) => `pool${number}`);
  say("crowd/pool, borrowed", sum(await Promise.all(names.map((name) => pool.execute((client) => guest(client, name, 8))))));
  const loose = names.map(async (name) => {
    let wrong = 0;
    for (let number = 0; number < 8; number++) {
      const token = `${name}:${number}`;
      wrong += (await pool.echo(token)) !== token;
      await pool.set(`loose:${name}`, token);
      wrong += (await pool.get(`loose:${name}`)) !== token;
    }
    return wrong;
  });
  say("crowd/pool, at once", sum(await Promise.all(loose)));
  pool.destroy();
}

async function denied() {
  const client = await connect();
  await step("denied/before", () => client.set("kept", "1"));
  await step("denied/flushall", () => client.flushAll());
  await step("denied/flushdb", () => client.flushDb());
  await step("denied/keys", () => client.keys("*"));
  await step("denied/config", () => client.configGet("requirepass"));
  await step("denied/eval", () => client.eval("return 1"));
  await step("denied/function", () => client.fCall("f"));
  await step("denied/client list", () => client.clientList());
  await step("denied/object", () => client.objectEncoding("kept"));
  await step("denied/sort", () => client.sort("kept"));
  await step("denied/shutdown", () => client.sendCommand(["SHUTDOWN", "NOSAVE"]));
  await step("denied/afterwards", () => client.get("kept"));
  await step("denied/at once", async () => {
    const all = [client.set("kept", "2"), client.flushAll(), client.get("kept"), client.keys("*"), client.get("kept")];
    return (await Promise.allSettled(all)).map(({ status, value, reason }) => [status, value ?? reason]);
  });
  await step("denied/in a transaction", () => client.multi().set("kept", "3").flushAll().get("kept").exec());
  await step("denied/nothing ran", () => client.get("kept"));
  const listener = await connect();
  const box = new Mailbox();
  await listener.subscribe("news", (message, channel) => box.add([channel, message]));
  if (options.protocol === 3) await step("denied/while subscribed", () => listener.flushAll());
  await client.publish("news", "still there");
  await step("denied/still subscribed", () => box.take(1));
  await step("denied/monitor", () => client.monitor(() => {}));
  close(client, listener);
}

async function noCaching() {
  const client = await connect({}, NEVER);
  await step("no caching/by hand", () => client.clientTracking(true));
  close(client);
  if (options.protocol === 3) {
    aside.length = 0;
    const keeping = made({ clientSideCache: new BasicClientSideCache({ ttl: 0, maxEntries: 0, evictPolicy: "LRU" }) }, NEVER);
    await step("no caching/refused", () => keeping.connect().then(() => keeping.get("s")));
    close(keeping);
  }
}

async function caching() {
  if (options.protocol === 2) return write({ step: "caching", absent: "RESP3 only" });
  const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 0, evictPolicy: "LRU" });
  const client = made({ clientSideCache: cache }, NEVER);
  await step("caching/connect", () => client.connect().then(() => "connected"));
  await step("caching/set", () => client.set("cached", "1"));
  await step("caching/get", () => client.get("cached"));
  await step("caching/from the cache", () => client.get("cached"));
  say("caching/hits", [cache.stats().hitCount, cache.stats().missCount]);
  await admin.set("cached", "2");
  await until("an invalidation", async () => (await client.get("cached")) === "2");
  await step("caching/invalidated", () => client.get("cached"));
  await step("caching/tracking", () => client.clientTrackingInfo().then((info) => info.flags));
  close(client);
  const box = new Mailbox();
  const telling = made({ emitInvalidate: true }, NEVER);
  telling.on("invalidate", (key) => box.add(key));
  await step("caching/telling", () => telling.connect().then(() => telling.get("cached")));
  await admin.set("cached", "3");
  await step("caching/told", () => box.take(1));
  close(telling);
}

async function scripts() {
  const total = defineScript({
    SCRIPT: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
    NUMBER_OF_KEYS: 1,
    parseCommand(parser, key, by) {
      parser.pushKey(key);
      parser.push(String(by));
    },
    transformReply: (reply) => reply,
  });
  const client = await connect({ scripts: { total } });
  await step("scripts/eval", () => client.eval("return {KEYS[1], ARGV[1], 3}", { keys: ["k"], arguments: ["x"] }));
  await step("scripts/own command", () => client.total("t", 40));
  await step("scripts/by its digest", () => client.total("t", 2));
  await step("scripts/in a transaction", () => client.multi().total("t", 1).get("t").exec());
  await step("scripts/error", () => client.eval("return redis.call('LPUSH', KEYS[1], 'x')", { keys: ["t"] }));
  await step("scripts/no such script", () => client.evalSha("f".repeat(40)));
  await step("scripts/load", () => client.scriptLoad("return 1"));
  close(client);
}

// A server that may not know HELLO.
async function fallback() {
  const client = made({}, NEVER);
  await step("fallback/connect", () => client.connect().then(() => client.ping()));
  await step("fallback/set", () => client.set("k", "v"));
  await step("fallback/get", () => client.get("k"));
  close(client);
}

// With a name and a password of its own, as it was configured for a Redis that asks for them.
async function credentials() {
  const client = made({}, NEVER);
  await step("credentials/connect", () => client.connect().then(() => client.ping()));
  await step("credentials/set", () => client.set("k", "v"));
  const named = made({ database: 2, name: "me" }, NEVER);
  await step("credentials/with a database", () => named.connect().then(() => named.clientGetName()));
  close(client, named);
}

// What a user sees who forgot the certificate, and one who forgot TLS.
async function noCertificate() {
  if (!options.ca) return;
  for (const [name, tls] of [["no certificate", { tls: true, ca: fs.readFileSync(options.ca) }], ["no TLS", {}]]) {
    const client = createClient({ socket: { host: options.host, port: options.port, ...tls, ...NEVER }, RESP: options.protocol });
    client.on("error", () => {});
    await step(name, () => client.connect().then(() => client.ping()));
    close(client);
  }
}

run(async () => {
  admin.on("error", () => {});
  await admin.connect();
  version = (await admin.info("server")).match(/redis_version:(\d+)\.(\d+)/).slice(1).map(Number);
  write({ client: "node-redis", version: require("redis/package.json").version, protocol: options.protocol });
  await runSections({
    handshake, values, streams, big, pipelines, transactions, pubsub, blocking, scans, reconnects, restart, crowd, denied,
    no_caching: noCaching, caching, scripts, fallback, credentials, no_certificate: noCertificate,
  });
});
