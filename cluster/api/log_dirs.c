/* DescribeLogDirs: what lies where, and how much. Runs in the pool. */
#include <stdlib.h>

#include "cluster/api/call.h"
#include "store/diag.h"

/* The partitions wanted, of all topics first, then sorted into directories. */
struct found { struct topic *topic; int32_t partition; int dir; int64_t bytes; };
struct listing { struct call *call; struct found *v; size_t n, cap; bool failed; };

static void add(struct listing *l, struct topic *t, struct partition *p)
{
	struct visible v;
	struct err e = ERR_INIT;
	int dir = partition_dir(p);
	if (dir < 0 || l->failed)
		return;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 256;
		struct found *more = realloc(l->v, cap * sizeof *more);
		if (!more) {
			l->failed = true;
			return;
		}
		l->v = more;
		l->cap = cap;
	}
	if (partition_visible(p, &v, &e) < 0)
		v.bytes = 0;
	topic_ref(t);
	l->v[l->n++] = (struct found){t, partition_index(p), dir, v.bytes};
}

static bool add_topic(void *arg, struct topic *t)
{
	struct listing *l = arg;
	int32_t n = topic_partition_count(t);
	for (int32_t i = 0; i < n; i++) {
		struct partition *p = topic_partition(t, i);
		if (p)
			add(l, t, p);
		partition_unref(p);
	}
	return !l->failed;
}

static void add_asked(struct listing *l)
{
	const struct describe_log_dirs_request *r = l->call->request;
	int16_t error;
	for (int32_t t = 0; t < r->topics.n; t++)
		for (int32_t i = 0; i < r->topics.v[t].partitions.n; i++) {
			struct partition *p = call_partition(l->call, r->topics.v[t].topic, NULL, r->topics.v[t].partitions.v[i], &error);
			if (p)
				add(l, partition_topic(p), p);
			partition_unref(p);
		}
}

static int in_order(const void *a, const void *b)
{
	const struct found *x = a, *y = b;
	int order = (x->dir > y->dir) - (x->dir < y->dir);
	if (order == 0)
		order = strcmp(topic_name(x->topic), topic_name(y->topic));
	return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

/* Each once, though it was asked for twice. */
static void sort(struct listing *l)
{
	size_t kept = 0;
	if (l->n)
		qsort(l->v, l->n, sizeof *l->v, in_order);
	for (size_t i = 0; i < l->n; i++) {
		if (kept && in_order(&l->v[kept - 1], &l->v[i]) == 0)
			topic_unref(l->v[i].topic);
		else
			l->v[kept++] = l->v[i];
	}
	l->n = kept;
}

/* What stands in [from, to) of the listing, all of one directory. false: no memory. */
static bool describe(struct listing *l, size_t from, size_t to, struct describe_log_dirs_response_dir *a)
{
	a->topics.v = call_array(l->call, &wire_describe_log_dirs_response_topic, (int32_t)(to - from));
	if (!a->topics.v)
		return false;
	for (size_t i = from, end; i < to; i = end) {
		struct describe_log_dirs_response_topic *t = &a->topics.v[a->topics.n++];
		for (end = i + 1; end < to && l->v[end].topic == l->v[i].topic;)
			end++;
		char *name = call_text(l->call, wire_string(topic_name(l->v[i].topic)));
		t->partitions.v = call_array(l->call, &wire_describe_log_dirs_response_partition, (int32_t)(end - i));
		if (!name || !t->partitions.v)
			return false;
		t->name = wire_string(name);
		t->partitions.n = (int32_t)(end - i);
		for (size_t k = i; k < end; k++)
			t->partitions.v[k - i] = (struct describe_log_dirs_response_partition){.partition_index = l->v[k].partition, .partition_size = l->v[k].bytes};
	}
	return true;
}

static bool describe_dirs(struct listing *l, struct describe_log_dirs_response *a)
{
	struct broker_dir d;
	int dirs = 0;
	while (broker_dir(call_broker(l->call), dirs, &d))
		dirs++;
	a->results.v = call_array(l->call, &wire_describe_log_dirs_response_dir, dirs);
	bool good = a->results.v;
	size_t from = 0, to;
	for (int i = 0; good && broker_dir(call_broker(l->call), i, &d); i++, from = to) {
		struct describe_log_dirs_response_dir *out = &a->results.v[i];
		for (to = from; to < l->n && l->v[to].dir == i;)
			to++;
		out->log_dir = wire_string(d.path);
		if (d.offline) {
			out->error_code = KAFKA_KAFKA_STORAGE_ERROR;
			continue;
		}
		if (d.total_bytes) {
			out->total_bytes = (int64_t)d.total_bytes;
			out->usable_bytes = (int64_t)d.available_bytes;
		}
		good = describe(l, from, to, out);
	}
	a->results.n = dirs;
	return good;
}

void handle_describe_log_dirs(struct call *c)
{
	const struct describe_log_dirs_request *r = c->request;
	struct describe_log_dirs_response a;
	struct listing l = {.call = c};
	wire_init(&wire_describe_log_dirs_response, &a);
	if (r->topics.n < 0)
		topics_list(call_broker(c), add_topic, &l);
	else
		add_asked(&l);
	bool good = !l.failed;
	if (good)
		sort(&l);
	good = good && describe_dirs(&l, &a);
	for (size_t i = 0; i < l.n; i++)
		topic_unref(l.v[i].topic);
	free(l.v);
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "no memory");
}
