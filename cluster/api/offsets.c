/* ListOffsets and OffsetForLeaderEpoch. In the pool: they read the disk. */
#include "cluster/api/admin.h"
#include "cluster/api/call.h"
#include "cluster/partition_fetch.h"

enum { ANY_REPLICA = -2 }; /* Kafka's "debug consumer": of whoever is asked, be it the leader or not */

static bool list_partition(struct call *c, struct wire_string topic, const struct list_offsets_request_partition *asked, struct list_offsets_response_partition *a)
{
	const struct list_offsets_request *r = c->request;
	struct err e = ERR_INIT;
	struct log_offset found;
	a->partition_index = asked->partition_index;
	struct partition *p = call_partition(c, topic, NULL, asked->partition_index, &a->error_code);
	if (!p)
		return true;
	/* times that are no times came one by one: whoever speaks an older version does not know them */
	int least = c->version >= 9 ? OFFSET_LATEST_TIERED : c->version >= 8 ? OFFSET_EARLIEST_LOCAL : c->version >= 7 ? OFFSET_MAX_TIMESTAMP : OFFSET_EARLIEST;
	enum isolation isolation = r->replica_id >= 0 ? ISOLATION_NONE : r->isolation_level == 1 ? ISOLATION_COMMITTED : ISOLATION_UNCOMMITTED;
	int rc;
	if (asked->timestamp < least)
		rc = ERR_UNSUPPORTED;
	else if (r->replica_id == ANY_REPLICA && asked->timestamp == OFFSET_LATEST)
		rc = partition_replica_end(p, &found, &e);
	else
		rc = partition_list_offset(p, asked->timestamp, isolation, asked->current_leader_epoch, true, &found, &e);
	partition_unref(p);
	a->error_code = (int16_t)(rc == ERR_NOT_YET && c->version < 5 ? KAFKA_LEADER_NOT_AVAILABLE : kafka_error_of(rc));
	if (rc == 0) {
		a->timestamp = found.timestamp_ms;
		a->offset = found.offset;
		if (c->version >= 4)
			a->leader_epoch = found.leader_epoch;
	}
	return true;
}

/* Of all partitions of the request, one after the other, those that stand there more than once: Kafka refuses them, each once. NULL: no memory. */
static uint8_t *asked_twice(struct call *c)
{
	const struct list_offsets_request *r = c->request;
	int32_t n = 0;
	for (int32_t t = 0; t < r->topics.n; t++)
		n += r->topics.v[t].partitions.n;
	struct admin_key *key = call_get(c, ((size_t)n + 1) * sizeof *key);
	n = 0;
	for (int32_t t = 0; key && t < r->topics.n; t++)
		for (int32_t k = 0; k < r->topics.v[t].partitions.n; k++)
			key[n++] = (struct admin_key){r->topics.v[t].name, r->topics.v[t].partitions.v[k].partition_index};
	return key ? admin_twice(c, key, n) : NULL;
}

void handle_list_offsets(struct call *c)
{
	const struct list_offsets_request *r = c->request;
	struct list_offsets_response a;
	wire_init(&wire_list_offsets_response, &a);
	const uint8_t *twice = asked_twice(c);
	bool good = twice && (a.topics.v = call_array(c, &wire_list_offsets_response_topic, r->topics.n));
	for (int32_t t = 0; good && t < r->topics.n; t++) {
		struct list_offsets_response_topic *topic = &a.topics.v[t];
		topic->name = r->topics.v[t].name;
		good = (topic->partitions.v = call_array(c, &wire_list_offsets_response_partition, r->topics.v[t].partitions.n));
		for (int32_t k = 0; good && k < r->topics.v[t].partitions.n; k++, twice++) {
			const struct list_offsets_request_partition *asked = &r->topics.v[t].partitions.v[k];
			struct list_offsets_response_partition *answer = &topic->partitions.v[topic->partitions.n];
			topic->partitions.n += *twice < 2;
			if (*twice == 0)
				good = list_partition(c, topic->name, asked, answer);
			else if (*twice == 1) {
				answer->partition_index = asked->partition_index;
				answer->error_code = KAFKA_INVALID_REQUEST;
			}
		}
	}
	a.topics.n = r->topics.n;
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "no memory");
}

static void end_of_epoch(struct call *c, struct wire_string topic, const struct offset_for_leader_epoch_request_partition *asked, struct offset_for_leader_epoch_response_partition *a)
{
	struct err e = ERR_INIT;
	a->partition = asked->partition;
	struct partition *p = call_partition(c, topic, NULL, asked->partition, &a->error_code);
	if (!p)
		return;
	int rc = partition_epoch_end(p, asked->current_leader_epoch, asked->leader_epoch, true, &a->leader_epoch, &a->end_offset, &e);
	partition_unref(p);
	a->error_code = (int16_t)kafka_error_of(rc);
}

void handle_offset_for_leader_epoch(struct call *c)
{
	const struct offset_for_leader_epoch_request *r = c->request;
	struct offset_for_leader_epoch_response a;
	wire_init(&wire_offset_for_leader_epoch_response, &a);
	bool good = (a.topics.v = call_array(c, &wire_offset_for_leader_epoch_response_topic, r->topics.n));
	for (int32_t t = 0; good && t < r->topics.n; t++) {
		struct offset_for_leader_epoch_response_topic *topic = &a.topics.v[t];
		topic->topic = r->topics.v[t].topic;
		topic->partitions.n = r->topics.v[t].partitions.n;
		good = (topic->partitions.v = call_array(c, &wire_offset_for_leader_epoch_response_partition, topic->partitions.n));
		for (int32_t k = 0; good && k < topic->partitions.n; k++)
			end_of_epoch(c, topic->topic, &r->topics.v[t].partitions.v[k], &topic->partitions.v[k]);
	}
	a.topics.n = r->topics.n;
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "no memory");
}
