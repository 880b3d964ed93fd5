"""What the jobs of rq_queue.py do; workers import it."""

import time


def add(one, other):
    return one + other


def echo(value):
    return value


def fail(text):
    raise ValueError(text)


def linger(seconds):
    time.sleep(seconds)
    return "not stopped"
