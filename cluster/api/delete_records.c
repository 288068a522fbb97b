/*
 * DeleteRecords.
 *
 *  1. In the pool each partition's log start is moved here, where it is led: that is durable by then.
 *  2. Where there are other replicas the answer waits until all of them that are alive start there too, as they tell by their fetches, or for timeout_ms: so what was deleted does not come back with another
 *     leader. It waits without a thread.
 */
#include <inttypes.h>

#include "cluster/api/admin.h"
#include "cluster/delayed.h"
#include "cluster/join.h"
#include "cluster/partition_fetch.h"
#include "cluster/partition_role.h"
#include "store/clock.h"
#include "store/diag.h"

struct pending { /* a partition whose other replicas are waited for */
	struct partition *partition; /* referenced */
	int64_t offset;
	struct delete_records_response_partition *to;
};

struct deletion {
	struct delayed delayed;
	struct call *call;
	struct delete_records_response answer;
	struct pending *pending;
	struct delayed_key *key;
	uint32_t count;
	mono_t deadline;
};

/* ---- here ---- */

/* Everything below *offset, -1: below the high watermark; what it came to. What an open transaction holds back cannot be deleted yet: the answer is where the log starts then. */
static int delete_here(struct partition *p, int64_t *offset, struct err *e)
{
	struct visible v;
	struct partition_state s;
	int rc = partition_leads(p) ? 0 : err_set(e, ERR_NOT_LEADER, "this broker does not lead it");
	if (rc == 0)
		rc = partition_visible(p, &v, e);
	if (rc == 0)
		rc = partition_describe(p, &s, e);
	if (rc < 0)
		return rc;
	if (*offset < -1 || *offset > s.high_watermark)
		return err_set(e, ERR_OUT_OF_RANGE, "offset %" PRId64 " is not in the log", *offset);
	if (*offset == -1 || *offset > v.end_offset)
		*offset = v.end_offset;
	if ((rc = partition_acquire(p, e)) < 0)
		return rc;
	rc = partition_delete_before(p, *offset, e);
	partition_release(p);
	return rc;
}

static bool is_alive(void *arg, int32_t broker_id)
{
	char text[300];
	return join_address(arg, broker_id, text, sizeof text);
}

/* Where all replicas start that are alive. */
static int64_t low_watermark(const struct deletion *d, struct partition *p)
{
	struct join *j = call_join(d->call);
	return partition_low_watermark(p, j ? is_alive : NULL, j);
}

/* p: a reference, that goes. */
static void delete_in(struct deletion *d, struct partition *p, int64_t offset, struct delete_records_response_partition *a)
{
	struct err e = ERR_INIT;
	int rc = delete_here(p, &offset, &e);
	a->error_code = (int16_t)kafka_error_of(rc);
	if (rc < 0 && rc != ERR_OUT_OF_RANGE && rc != ERR_NOT_LEADER)
		diag_warning("cannot delete messages of %s-%" PRId32 ": %s", partition_topic_name(p), partition_index(p), e.text);
	if (rc == 0) {
		a->low_watermark = low_watermark(d, p);
		if (a->low_watermark < offset) {
			d->pending[d->count++] = (struct pending){p, offset, a};
			return;
		}
	}
	partition_unref(p);
}

static void delete_one(struct deletion *d, struct wire_string name, const struct delete_records_request_partition *asked, struct delete_records_response_partition *a)
{
	a->partition_index = asked->partition_index;
	a->low_watermark = -1;
	struct partition *p = call_partition(d->call, name, NULL, asked->partition_index, &a->error_code);
	if (!p)
		return;
	struct topic *t = partition_topic(p);
	if (topic_is_internal(t) || !topic_may_delete(t)) {
		a->error_code = topic_is_internal(t) ? KAFKA_INVALID_TOPIC_EXCEPTION : KAFKA_POLICY_VIOLATION;
		partition_unref(p);
		return;
	}
	delete_in(d, p, asked->offset, a);
}

/* ---- at the other replicas ---- */

static void finish(struct deletion *d)
{
	struct call *c = d->call;
	for (uint32_t i = 0; i < d->count; i++)
		partition_unref(d->pending[i].partition);
	call_answer(c, &d->answer);
}

/* Whether there is nothing to wait for in that partition any more. */
static bool is_settled(struct deletion *d, struct pending *x)
{
	if (!partition_leads(x->partition)) {
		x->to->error_code = KAFKA_NOT_LEADER_OR_FOLLOWER;
		x->to->low_watermark = -1;
		return true;
	}
	int64_t low = low_watermark(d, x->partition);
	if (low < x->offset)
		return false;
	x->to->error_code = KAFKA_NONE;
	x->to->low_watermark = low;
	return true;
}

static int64_t missing(struct delayed *w)
{
	struct deletion *d = (struct deletion *)w;
	uint32_t left = 0;
	for (uint32_t i = 0; i < d->count; i++)
		left += !is_settled(d, &d->pending[i]);
	return left;
}

static void complete(struct delayed *w, enum delayed_verdict how)
{
	struct deletion *d = (struct deletion *)w;
	for (uint32_t i = 0; how != DELAYED_SATISFIED && i < d->count; i++)
		if (!is_settled(d, &d->pending[i]))
			d->pending[i].to->error_code = KAFKA_REQUEST_TIMED_OUT;
	finish(d);
}

static void cancelled(struct net_request *r, enum net_why why)
{
	struct call *c = net_room(r);
	struct deletion *d = c->op;
	if (why != NET_PEER_DONE && d && delayed_cancel(&d->delayed))
		complete(&d->delayed, DELAYED_CANCELLED);
}

static void wait_for_replicas(struct deletion *d)
{
	for (uint32_t i = 0; i < d->count; i++)
		d->key[i] = (struct delayed_key){.list = partition_delayed(d->pending[i].partition), .channel = DELAYED_END};
	d->delayed.key = d->key;
	d->delayed.key_count = d->count;
	d->delayed.missing = missing;
	d->delayed.complete = complete;
	delayed_park(&d->delayed, broker_timers(call_broker(d->call)), d->deadline);
}

/* ---- the request ---- */

static bool delete_all(struct deletion *d, const struct delete_records_request *r)
{
	struct delete_records_response *a = &d->answer;
	for (int32_t t = 0; t < r->topics.n; t++) {
		const struct delete_records_request_topic *asked = &r->topics.v[t];
		struct delete_records_response_topic *to = &a->topics.v[a->topics.n++];
		to->name = asked->name;
		to->partitions.v = call_array(d->call, &wire_delete_records_response_partition, asked->partitions.n);
		if (!to->partitions.v)
			return false;
		for (int32_t k = 0; k < asked->partitions.n; k++)
			delete_one(d, asked->name, &asked->partitions.v[k], &to->partitions.v[to->partitions.n++]);
	}
	return true;
}

static void delete_in_pool(struct call *c)
{
	const struct delete_records_request *r = c->request;
	struct deletion *d = c->op;
	if (!delete_all(d, r)) {
		for (uint32_t i = 0; i < d->count; i++)
			partition_unref(d->pending[i].partition);
		call_close(c, "no memory");
	} else if (d->count)
		wait_for_replicas(d);
	else
		finish(d);
}

void handle_delete_records(struct call *c)
{
	const struct delete_records_request *r = c->request;
	struct deletion *d = call_get(c, sizeof *d);
	size_t n = 0;
	for (int32_t t = 0; t < r->topics.n; t++)
		n += (size_t)r->topics.v[t].partitions.n;
	if (d) {
		wire_init(&wire_delete_records_response, &d->answer);
		d->answer.topics.v = call_array(c, &wire_delete_records_response_topic, r->topics.n);
		d->pending = call_get(c, n * sizeof *d->pending);
		d->key = call_get(c, n * sizeof *d->key);
	}
	if (!d || !d->answer.topics.v || !d->pending || !d->key) {
		call_close(c, "no memory");
		return;
	}
	d->call = c;
	d->deadline = mono_after_ms(mono_now(), r->timeout_ms);
	delayed_init(&d->delayed);
	c->op = d;
	c->r->cancel = cancelled;
	call_to_pool(c, delete_in_pool, true);
}
