#!/usr/bin/env python3
"""Each message at most once: it counts as read first, then the work is done.

    examples/at_most_once.py HOST:PORT GROUP TOPIC COMMAND...

COMMAND is run for each message, which it has on stdin. If this program, or the machine, ends between the commit and the
end of the work, the message is not worked on again: for what must never be done twice, and may be lost. As many of
these as the topic has partitions can run at a time; they share it. Needs confluent-kafka (pip install confluent-kafka).
"""

import signal
import subprocess
import sys

from confluent_kafka import Consumer

signal.signal(signal.SIGTERM, signal.default_int_handler)
bootstrap, group, topic, *command = sys.argv[1:]
consumer = Consumer({
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "enable.auto.commit": False,        # we say what was read, and when
    "auto.offset.reset": "earliest",    # a new group begins at the oldest message
    "session.timeout.ms": 6000,         # one that died is missed after so long
})
consumer.subscribe([topic])
try:
    while True:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            sys.exit(str(message.error()))
        consumer.commit(message, asynchronous=False)                    # 1. on record; only if that is certain
        subprocess.run(command, input=message.value())                  # 2. the work, whatever comes of it
except KeyboardInterrupt:
    pass
finally:
    consumer.close()        # leaves the group: others take over at once
