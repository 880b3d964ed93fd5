// What the Node scripts share: arguments, and a transcript of one JSON line for each step on standard output.
"use strict";

const { createHash } = require("node:crypto");
const { parseArgs } = require("node:util");

// Longer than any script takes on a busy machine; a client that hangs fails with the step that came last.
const PATIENCE = 100_000;

// Where to go. Without --ca the way leads to Redis itself, in plain text.
const { values: options } = parseArgs({
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string" },
    ca: { type: "string" },
    cert: { type: "string" },
    key: { type: "string" },
    username: { type: "string" },
    password: { type: "string" },
    protocol: { type: "string", default: "3" },
    sections: { type: "string" },
    "admin-port": { type: "string" },
    "admin-password": { type: "string" },
  },
});
options.port = Number(options.port);
options.protocol = Number(options.protocol);
const admin = { host: "127.0.0.1", port: Number(options["admin-port"]), password: options["admin-password"] || undefined };

function digest(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}

// An error as its user sees it.
function error(found) {
  const line = { error: found.constructor.name, text: found.message };
  if (found.replies) line.replies = shown(found.replies);
  // What connecting to several addresses of a name failed with.
  if (found instanceof AggregateError) line.errors = found.errors.map(error);
  return line;
}

// A reply as JSON: types stay apart, long ones become their length and digest.
function shown(value) {
  if (value === undefined) return { undefined: true };
  if (value === null || typeof value === "boolean" || typeof value === "number") return value === null || Number.isFinite(value) || typeof value === "boolean" ? value : String(value);
  if (typeof value === "bigint") return { bigint: String(value) };
  if (Buffer.isBuffer(value)) {
    if (value.length > 300) return { bytes: { length: value.length, sha256: digest(value) } };
    return { bytes: value.toString("latin1") };
  }
  if (typeof value === "string") {
    return value.length > 300 ? { text: { length: value.length, sha256: digest(value) } } : value;
  }
  if (value instanceof Error) return error(value);
  if (Array.isArray(value)) return value.map(shown);
  if (value instanceof Set) return { set: [...value].map((each) => JSON.stringify(shown(each))).sort() };
  if (value instanceof Map) return { map: [...value].map((pair) => pair.map(shown)) };
  return { map: Object.entries(value).map(([key, each]) => [key, shown(each)]) };
}

// One line of the transcript.
function write(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

// Calls, and writes what came of it; gives the reply, or undefined after an error.
async function step(name, call) {
  let reply;
  try {
    reply = await call();
  } catch (found) {
    write({ step: name, ...error(found) });
    return undefined;
  }
  write({ step: name, reply: shown(reply) });
  return reply;
}

// Writes what a step of several calls has found.
function say(name, value) {
  write({ step: name, reply: shown(value) });
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// Looks until it is so.
async function until(what, look) {
  for (let tries = 0; tries < 2000; tries++) {
    if (await look()) return;
    await pause(5);
  }
  throw new Error(`${what} did not come`);
}

// What `add` is given, in the order in which it was given, to be waited for.
class Mailbox {
  #found = [];
  add(each) {
    this.#found.push(each);
  }
  async take(number) {
    await until(`message ${number} after ${JSON.stringify(shown(this.#found))}`, () => this.#found.length >= number);
    return this.#found.splice(0, number);
  }
}

// Runs sections in their order. What a section did not expect is a line too, and ends only that section.
async function runSections(table) {
  const names = options.sections === "all" ? Object.keys(table) : options.sections.split(",");
  for (const name of names) {
    try {
      await table[name]();
    } catch (found) {
      write({ step: name, unexpected: error(found) });
    }
  }
  write({ step: "end", sections: names });
}

// Runs a script under a deadline. Whoever has not closed his clients is ended with it.
function run(main) {
  const late = setTimeout(() => {
    process.stderr.write(`no end after ${PATIENCE} ms\n`);
    process.exit(1);
  }, PATIENCE);
  main().then(
    () => {
      clearTimeout(late);
      // Standard output may be a pipe that still has lines in it.
      process.stdout.write("", () => process.exit(0));
    },
    (found) => {
      process.stderr.write(`${found.stack}\n`);
      process.exit(1);
    },
  );
}

module.exports = { options, admin, digest, error, shown, write, step, say, pause, until, Mailbox, runSections, run };
