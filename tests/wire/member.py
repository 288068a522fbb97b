"""member.py LIBRARY BOOTSTRAP GROUP TOPIC [NAME=VALUE...]: a member of a group until stdin ends. See lib/clients.py."""

import base64
import json
import os
import select
import sys
import time


def tell(**event):
    print(json.dumps(event), flush=True)


def record(topic, partition, offset, value):
    tell(topic=topic, partition=partition, offset=offset, value=base64.b64encode(value).decode(), at=time.time())


def asked_to_end():
    return bool(select.select([0], [], [], 0)[0]) and not os.read(0, 100)


def confluent(bootstrap, group, topic, properties):
    from confluent_kafka import Consumer
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "heartbeat.interval.ms": 200, "session.timeout.ms": 6000,
                         "topic.metadata.refresh.interval.ms": 1000} | properties)

    def telling(what):
        return lambda _, partitions: tell(**{what: sorted(p.partition for p in partitions)})
    consumer.subscribe([topic], on_assign=telling("assigned"), on_revoke=telling("revoked"), on_lost=telling("lost"))
    while not asked_to_end():
        message = consumer.poll(0.1)
        if message is None:
            continue
        if message.error():
            tell(error=message.error().name())
            continue
        record(message.topic(), message.partition(), message.offset(), message.value())
        consumer.commit(message, asynchronous=False)
    consumer.close()


def kafka_python(bootstrap, group, topic, properties):
    from kafka import ConsumerRebalanceListener, KafkaConsumer
    from kafka.errors import KafkaError

    class Listener(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            tell(revoked=sorted(p.partition for p in revoked))

        def on_partitions_assigned(self, assigned):
            tell(assigned=sorted(p.partition for p in assigned))
    numbers = {name.replace(".", "_"): int(value) if value.isdigit() else value for name, value in properties.items()}
    consumer = KafkaConsumer(**{"bootstrap_servers": bootstrap, "group_id": group, "auto_offset_reset": "earliest",
                                "enable_auto_commit": False, "heartbeat_interval_ms": 200, "session_timeout_ms": 6000,
                                "metadata_max_age_ms": 1000} | numbers)
    consumer.subscribe([topic], listener=Listener())
    # It joins knowing the topic's partitions, so that its group is not joined once more when it learns them. In such a join, one for the sake of metadata,
    # kafka-python 3.0.12 forgets what it is doing if poll's time ends while SyncGroup is under way: ConsumerCoordinator.need_rejoin() is false again since
    # _perform_assignment, nobody takes the result of _join_task, heartbeats stay off. Such a member has no partitions for ever, with Apache Kafka's broker too.
    assert consumer.partitions_for_topic(topic)
    while not asked_to_end():
        for messages in consumer.poll(100).values():
            for message in messages:
                record(message.topic, message.partition, message.offset, message.value)
            try:
                consumer.commit()
            except KafkaError as error:     # it gives up asking after request_timeout_ms; the next commit has these offsets, too
                if not error.retriable:
                    raise
                tell(again=type(error).__name__)
    consumer.close()


if __name__ == "__main__":
    library, bootstrap, group, topic, *properties = sys.argv[1:]
    {"confluent": confluent, "kafka-python": kafka_python}[library](bootstrap, group, topic, dict(p.split("=", 1) for p in properties))
