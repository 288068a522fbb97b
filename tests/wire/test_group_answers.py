"""Every answer about groups is Kafka's: recorded from one, in every version (lib/group_cases.py)."""

import json

import pytest

from lib.ask import Ask
from lib.group_cases import answers
from lib.record_groups import RECORD, asked_of_kafka


def recorded():
    lines = [json.loads(line) for line in RECORD.read_text().splitlines()]
    return list(zip(lines[::2], lines[1::2]))


def assert_alike(found, expected):
    found = json.loads(json.dumps(found))
    assert len(found) == len(expected)
    for (asked, answer), (of_kafka, answer_of_kafka) in zip(found, expected):
        assert asked == of_kafka
        assert answer == answer_of_kafka, f"asked {asked}"


def test_groups_are_answered_for_as_kafka_does(serve, build):
    server = serve("broker.id=1")
    with Ask(server.bootstrap, build) as ask:
        assert_alike(answers(ask), recorded())


@pytest.mark.long
def test_kafka_still_answers_so(tmp_path):
    assert_alike(asked_of_kafka(tmp_path), recorded())
