#!/usr/bin/env python3
"""Each message at least once: the work is done first, then the message counts as read.

    examples/at_least_once.py HOST:PORT GROUP TOPIC COMMAND...

COMMAND is run for each message, which it has on stdin. If this program, or the machine, ends between the work and the
commit, the message is worked on again when it goes on: so the work should do no harm when it is done twice. As many of
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
        subprocess.run(command, input=message.value(), check=True)      # 1. the work; what fails ends us, and is tried again
        consumer.commit(message, asynchronous=False)                    # 2. on record
except KeyboardInterrupt:
    pass
finally:
    consumer.close()        # leaves the group: others take over at once
