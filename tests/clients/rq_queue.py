"""RQ, end to end: jobs are put into a queue, and workers that RQ's own program started work them off."""

import hashlib
import importlib.metadata
import logging
import os
import signal
import subprocess
import sys
import tempfile
import urllib.parse
from datetime import timedelta

import redis
import rq
import rq.command
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry
from rq.repeat import Repeat

import rq_jobs
from transcript import arguments, run, run_sections, say, step, until, write

options = arguments()
logging.disable(logging.CRITICAL)


def proxied_url():
    # snippet: rq
    return (
        f"rediss://{options.host}:{options.port}/0"
        f"?ssl_ca_certs={options.ca}&ssl_certfile={options.cert}&ssl_keyfile={options.key}"
    )
    # end


def url():
    if options.ca:
        return proxied_url()
    password = f"{options.username or ''}:{urllib.parse.quote(options.password, safe='')}@" if options.password else ""
    return f"redis://{password}{options.host}:{options.port}/0"


def connect():
    return redis.Redis.from_url(url(), protocol=options.protocol)


admin = redis.Redis(host="127.0.0.1", port=options.admin_port, password=options.admin_password or None, protocol=2)


class Workers:
    """Workers as `rq worker` starts them."""

    def __init__(self, number, *words):
        program = os.path.join(os.path.dirname(sys.executable), "rq")
        folder = os.path.dirname(os.path.abspath(__file__))
        self.log = tempfile.TemporaryFile()
        where = f"{url()}{'&' if options.ca else '?'}protocol={options.protocol}"
        self.all = [
            subprocess.Popen(
                [program, "worker", "--url", where, "--path", folder, "--name", f"worker{each}", *words, "work"],
                stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
            for each in range(number)
        ]

    def end(self):
        """Asks them to end, and says how they did."""
        for each in self.all:
            each.send_signal(signal.SIGTERM)
        return [each.wait(30) for each in self.all]

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


async def queue():
    connection = connect()
    jobs = rq.Queue("work", connection=connection)
    many = [jobs.enqueue(rq_jobs.add, number, 1, job_id=f"add{number}") for number in range(30)]
    say("queue/waiting", [len(jobs), [job.id for job in many[:3]], many[0].get_status().value])
    first = jobs.enqueue(rq_jobs.echo, b"\x00\r\n\xff" * 500_000, job_id="first", at_front=True)
    second = jobs.enqueue(rq_jobs.add, 40, 2, depends_on=first, job_id="second")
    failing = jobs.enqueue(rq_jobs.fail, "on purpose", job_id="failing", retry=rq.Retry(max=1))
    say("queue/deferred", second.get_status().value)
    await step("queue/unique", lambda: jobs.enqueue(rq_jobs.echo, "once", job_id="once", unique=True).id)
    await step("queue/not unique", lambda: jobs.enqueue(rq_jobs.echo, "twice", job_id="once", unique=True).id)
    workers = Workers(2, "--with-scheduler")
    everything = [*many, first, second, jobs.fetch_job("once")]
    await until("all results", lambda: all(job.get_status(refresh=True).value == "finished" for job in everything))
    await until("a failure", lambda: failing.get_status(refresh=True).value == "failed")
    say("queue/results", [job.return_value() for job in many])
    say("queue/big result", hashlib.sha256(first.return_value()).hexdigest())
    say("queue/dependent", second.return_value())
    failed = failing.latest_result()
    say("queue/failure", [failed.type.value, failed.exc_string.strip().splitlines()[-1]])
    say("queue/workers", sorted(worker.name for worker in rq.Worker.all(connection=connection)))
    say("queue/finished", len(FinishedJobRegistry(queue=jobs)))
    say("queue/failed", FailedJobRegistry(queue=jobs).get_job_ids())
    later = jobs.enqueue_in(timedelta(seconds=1), rq_jobs.echo, "later", job_id="later")
    say("queue/scheduled", ScheduledJobRegistry(queue=jobs).get_job_ids())
    # The worker is told to stop it by a message on a channel.
    stopped = jobs.enqueue(rq_jobs.linger, 60, job_id="stopped")
    await until("a job that runs", lambda: stopped.get_status(refresh=True).value == "started")
    await until("its worker", lambda: stopped.refresh() or stopped.worker_name)
    rq.command.send_stop_job_command(connection, "stopped")
    await until("its end", lambda: stopped.get_status(refresh=True).value == "stopped")
    say("queue/stopped", stopped.get_status().value)
    await until("the later job", lambda: later.get_status(refresh=True).value == "finished")
    say("queue/later", later.return_value())
    say("queue/empty", len(jobs))
    # Not how: a worker's interpreter has been seen to crash while it ended, with all jobs done.
    say("queue/ended", len(workers.end()))
    connection.close()


async def refused():
    """Against a policy that denies scripts: what still works, and how the rest is told."""
    connection = connect()
    jobs = rq.Queue("work", connection=connection)
    job = jobs.enqueue(rq_jobs.add, 40, 2, job_id="plain")
    say("refused/enqueued", job.get_status().value)
    await step("refused/unique", lambda: jobs.enqueue(rq_jobs.echo, "once", job_id="once", unique=True).id)
    await step("refused/empty", jobs.empty)
    workers = Workers(1, "--burst")
    status = workers.all[0].wait(30)
    write({"step": "refused/worker", "error": f"status {status}", "text": workers.said()})
    say("refused/plain", job.get_status(refresh=True).value)
    # Its scheduler is a process of its own.
    workers = Workers(1, "--burst", "--with-scheduler")
    status = workers.all[0].wait(30)
    write({"step": "refused/scheduler", "error": f"status {status}", "text": workers.said()})
    connection.close()


async def main():
    write({"client": "RQ", "version": importlib.metadata.version("rq"), "protocol": options.protocol})
    await run_sections({"queue": queue, "refused": refused}, options.sections)


run(main)
