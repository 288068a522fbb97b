/* ViewLookup: where records stand in a partition's file, and where that begins and ends, for brokers that have nothing of it (../remote). In the pool where it may read the disk: a stat does not. */
#include "cluster/api/call.h"
#include "cluster/partition_fetch.h"

/* false: it would have to wait. */
static bool look(struct call *c, bool wait, const struct wire_uuid *topic_id, const struct view_lookup_request_partition *asked, struct view_lookup_response_partition *a)
{
	struct err e = ERR_INIT;
	struct partition_place x = {.offset = asked->offset, .position = asked->position};
	a->partition = asked->partition;
	struct partition *p = call_partition(c, WIRE_NULL_STRING, topic_id, asked->partition, &a->error_code);
	if (!p)
		return true;
	int rc = partition_place(p, asked->current_leader_epoch, wait, &x, &e);
	partition_unref(p);
	if (rc == PARTITION_WOULD_BLOCK)
		return false;
	a->error_code = (int16_t)kafka_error_of(rc);
	if (rc < 0 && rc != ERR_OUT_OF_RANGE)
		return true;
	a->leader_epoch = x.leader_epoch;
	a->leads = x.leads;
	a->settled = x.settled;
	a->sequential = x.visible.sequential;
	a->start_offset = x.visible.start_offset;
	a->start_position = x.visible.start_position;
	a->end_offset = x.visible.end_offset;
	a->end_position = x.visible.end_position;
	a->log_end_offset = x.log_end;
	a->mtime_ms = x.visible.mtime_ms;
	a->bytes = x.visible.bytes;
	if (rc == 0) {
		a->offset = x.offset;
		a->position = x.position;
	}
	return true;
}

static void look_in_pool(struct call *c);

static void look_at_all(struct call *c, bool wait)
{
	const struct view_lookup_request *r = c->request;
	struct view_lookup_response a;
	wire_init(&wire_view_lookup_response, &a);
	bool good = (a.topics.v = call_array(c, &wire_view_lookup_response_topic, r->topics.n));
	for (int32_t t = 0; good && t < r->topics.n; t++) {
		const struct view_lookup_request_topic *asked = &r->topics.v[t];
		struct view_lookup_response_topic *topic = &a.topics.v[a.topics.n++];
		topic->topic_id = asked->topic_id;
		good = (topic->partitions.v = call_array(c, &wire_view_lookup_response_partition, asked->partitions.n));
		for (int32_t i = 0; good && i < asked->partitions.n; i++)
			if (!look(c, wait, &topic->topic_id, &asked->partitions.v[i], &topic->partitions.v[topic->partitions.n++])) {
				call_to_pool(c, look_in_pool, true);
				return;
			}
	}
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "no memory");
}

static void look_in_pool(struct call *c)
{
	look_at_all(c, true);
}

void handle_view_lookup(struct call *c)
{
	look_at_all(c, false);
}
