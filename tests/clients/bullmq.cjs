// BullMQ, end to end: a queue, its workers and its events.
"use strict";

const fs = require("node:fs");
const { Queue, Worker, QueueEvents, FlowProducer } = require("bullmq");
const { options, write, step, say, until, pause, runSections, run } = require("./transcript.cjs");

function proxied(more) {
  // snippet: bullmq
  const connection = {
    host: options.host,
    port: options.port,
    tls: {
      ca: fs.readFileSync(options.ca),
      cert: fs.readFileSync(options.cert),
      key: fs.readFileSync(options.key),
    },
    ...more,
  };
  return { connection };
  // end
}

function place(more = {}) {
  more = { protocol: options.protocol, ...more };
  if (options.username) more.username = options.username;
  if (options.password) more.password = options.password;
  return options.ca ? proxied(more) : { connection: { host: options.host, port: options.port, ...more } };
}

// What its classes say aside.
const aside = [];

function heard(thing) {
  thing.on("error", (found) => aside.push(found.message));
  return thing;
}

async function queue() {
  const jobs = heard(new Queue("work", place()));
  const events = heard(new QueueEvents("work", place()));
  // One for each job that is waited for.
  for (const each of [jobs, events]) each.setMaxListeners(0);
  await step("queue/ready", () => Promise.all([jobs.waitUntilReady(), events.waitUntilReady()]).then(() => "ready"));
  const progress = [];
  const completed = new Set();
  events.on("progress", ({ jobId, data }) => progress.push([jobId, data]));
  events.on("completed", ({ jobId }) => completed.add(jobId));
  const many = await jobs.addBulk(Array.from({ length: 30 }, (_, number) => ({ name: "add", data: [number, 1], opts: { jobId: `add${number}` } })));
  say("queue/waiting", [await jobs.getWaitingCount(), many.slice(0, 3).map((job) => job.id)]);
  const failing = await jobs.add("fail", "on purpose", { jobId: "job-failing", attempts: 2, backoff: 10 });
  const large = await jobs.add("large", "x".repeat(2_000_000), { jobId: "job-large" });
  const delayed = await jobs.add("add", [40, 2], { jobId: "job-delayed", delay: 300 });
  const urgent = await jobs.add("add", [1, 1], { jobId: "job-urgent", priority: 1 });
  await step("queue/the same again", async () => (await jobs.add("add", [5, 5], { jobId: "add0" })).id);
  say("queue/counts", Object.entries(await jobs.getJobCounts("waiting", "delayed", "prioritized")).sort());
  const perform = async (job) => {
    if (job.name === "fail") throw new Error(job.data);
    if (job.name === "large") return job.data.length;
    if (job.name === "parent") return Object.values(await job.getChildrenValues()).sort();
    await job.updateProgress(50);
    return job.data[0] + job.data[1];
  };
  const workers = [1, 2].map((number) => heard(new Worker("work", perform, { ...place(), name: `worker${number}`, concurrency: 4 })));
  const results = await Promise.all(many.map((job) => job.waitUntilFinished(events, 20_000)));
  say("queue/results", results);
  await step("queue/urgent", () => urgent.waitUntilFinished(events, 20_000));
  await step("queue/delayed", () => delayed.waitUntilFinished(events, 20_000));
  await step("queue/large", () => large.waitUntilFinished(events, 20_000));
  await step("queue/failure", () => failing.waitUntilFinished(events, 20_000));
  say("queue/attempts", (await jobs.getJob("job-failing")).attemptsMade);
  const flow = heard(new FlowProducer(place()));
  const tree = await flow.add({
    name: "parent", queueName: "work", opts: { jobId: "job-parent" },
    children: [1, 2, 3].map((number) => ({ name: "add", queueName: "work", data: [number, 10], opts: { jobId: `child${number}` } })),
  });
  await step("queue/flow", () => tree.job.waitUntilFinished(events, 20_000));
  await until("all events", () => completed.size === 37);
  await until("all progress", () => progress.length === 35);
  say("queue/events", [[...completed].sort(), progress.every(([, data]) => data === 50)]);
  await step("queue/paused", () => jobs.pause().then(() => jobs.isPaused()));
  await jobs.add("add", [7, 7], { jobId: "job-held" });
  say("queue/held", await jobs.getJobCountByTypes("paused", "waiting"));
  await step("queue/resumed", () => jobs.resume().then(() => jobs.isPaused()));
  await until("the held job", () => completed.has("job-held"));
  say("queue/done", Object.entries(await jobs.getJobCounts("completed", "failed", "waiting", "active")).sort());
  await step("queue/obliterated", () => Promise.all(workers.map((worker) => worker.close())).then(() => jobs.obliterate({ force: true })));
  await Promise.all([jobs, events, flow].map((thing) => thing.close()));
  say("queue/said", aside);
}

// Against a policy that denies scripts: how it is told.
async function refused() {
  const jobs = heard(new Queue("work", place()));
  await step("refused/add", () => jobs.add("add", [1, 1], { jobId: "job-one" }));
  await step("refused/count", () => jobs.getWaitingCount());
  const worker = heard(new Worker("work", async () => 1, { ...place(), name: "worker" }));
  await until("a word of the worker", () => aside.length > 0);
  await pause(50);
  write({ step: "refused/worker", error: "event", text: [...new Set(aside)].join("; ") });
  await step("refused/close", () => Promise.all([worker.close(), jobs.close()]).then(() => "closed"));
}

run(async () => {
  write({ client: "BullMQ", version: require("bullmq/package.json").version, protocol: options.protocol });
  await runSections({ queue, refused });
});
