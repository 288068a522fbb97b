/*
 * spoolfs verify --cluster: whether the replicas of each partition hold the same.
 *
 *  1. Metadata names the partitions and their replicas; each replica says where its log starts and how far it is committed.
 *  2. The leader (or, without one, the first replica that answers) is what the others are held against. It is asked for the checksum of some megabytes of whole batches; the others for that of the same offsets, as far as they
 *     have them committed. Nothing but checksums crosses the network.
 *  3. Where they are not the same both are asked batch by batch, and the offsets that differ are told.
 *  4. Where positions are known they are compared at the end of each step, and where logs start alike.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cmd_verify.h"
#include "fs/commands.h"
#include "fs/progress.h"
#include "fs/remote.h"

enum { STEP_BYTES = 16 << 20, ALL_BYTES = INT32_MAX, MAX_REPLICAS = 64 };

static const char command[] = "spoolfs verify";

struct replica {
	int32_t id;
	bool leader, in_sync, there, compacted;
	int64_t start, start_position, high;
	bool moved;            /* positions were told to differ */
};

struct compared { /* one partition */
	const char *topic;
	struct wire_uuid id;
	int32_t index;
	struct replica replica[MAX_REPLICAS];
	int replicas;
	struct replica *model; /* what the others are held against; NULL: nobody */
	bool compacted;        /* each replica cleans as it sees fit */
};

struct cluster_verify {
	struct remote remote;
	struct progress progress;
	struct compared *partition;
	size_t partitions;
	uint64_t replicas, differences, left_out, bytes, done, total; /* of the last two: offsets */
	struct replica_sums_response_range *room; /* for the answers of a model that are still wanted when the next comes */
};

/* ---- what is told ---- */

static void say(struct cluster_verify *v, const struct compared *c, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(struct cluster_verify *v, const struct compared *c, const char *fmt, ...)
{
	va_list args;
	progress_clear(&v->progress);
	printf("%s/%" PRId32 ": ", c->topic, c->index);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
}

static const char *name_of(const struct replica *r, char text[40])
{
	snprintf(text, 40, "broker %" PRId32 "%s", r->id, r->leader ? " (leader)" : "");
	return text;
}

static void tell_difference(struct cluster_verify *v, const struct compared *c, const struct replica *r, int64_t from, int64_t to)
{
	char a[40], b[40];
	v->differences++;
	say(v, c, "offsets %" PRId64 " to %" PRId64 ": %s differs from %s", from, to - 1, name_of(r, a), name_of(c->model, b));
}

static void tell_position(struct cluster_verify *v, const struct compared *c, struct replica *r, int64_t offset, int64_t expected, int64_t found)
{
	char a[40], b[40];
	if (r->moved || expected < 0 || found < 0 || expected == found)
		return;
	r->moved = true;
	v->differences++;
	say(v, c, "offset %" PRId64 ": position %" PRId64 " at %s, %" PRId64 " at %s", offset, found, name_of(r, a), expected, name_of(c->model, b));
}

/* It is compared no further. */
static void tell_failed(struct cluster_verify *v, const struct compared *c, struct replica *r, bool damaged, const char *why)
{
	char a[40];
	r->there = false;
	if (damaged)
		v->differences++;
	else
		v->left_out++;
	say(v, c, damaged ? "%s: %s" : "%s is not compared: %s", name_of(r, a), why);
}

/* ---- asking ---- */

/* 0 with *a, borrowed until that broker is asked again; < 0: it could not be asked; > 0: Kafka's code, with *a. */
static int ask(struct cluster_verify *v, const struct compared *c, const struct replica *r, int64_t from, int64_t to, int32_t max_bytes, bool each, struct replica_sums_response *a, struct err *e)
{
	struct replica_sums_request q;
	wire_init(&wire_replica_sums_request, &q);
	q.topic_id = c->id;
	q.partition = c->index;
	q.from_offset = from;
	q.to_offset = to;
	q.max_bytes = max_bytes;
	q.each = each;
	int rc = remote_call(&v->remote, r->id, API_REPLICA_SUMS, &q, a, e);
	return rc < 0 ? rc : a->error_code;
}

/* The same, of one that is compared. false: its log starts behind that by now (r->start); else it is told why, and it is compared no further. */
static bool ask_sums(struct cluster_verify *v, const struct compared *c, struct replica *r, int64_t from, int64_t to, bool each, struct replica_sums_response *a)
{
	struct err e = ERR_INIT;
	char why[sizeof e.text];
	int rc = ask(v, c, r, from, to, r == c->model && !each ? STEP_BYTES : ALL_BYTES, each, a, &e);
	if (rc == 0)
		return true;
	if (rc == KAFKA_OFFSET_OUT_OF_RANGE && a->log_start > from) {
		r->start = a->log_start;
		return false;
	}
	if (rc < 0)
		snprintf(why, sizeof why, "%s", e.text);
	else if (a->error_message.n > 0)
		snprintf(why, sizeof why, "%.*s", a->error_message.n, a->error_message.s);
	else
		snprintf(why, sizeof why, "%s", kafka_error_name((int16_t)rc));
	tell_failed(v, c, r, rc == KAFKA_CORRUPT_MESSAGE, why);
	return false;
}

static void ask_ends(struct cluster_verify *v, struct compared *c, struct replica *r)
{
	struct replica_sums_response a;
	struct err e = ERR_INIT;
	int rc = ask(v, c, r, -1, -1, 0, false, &a, &e);
	if (rc != 0 && rc != KAFKA_OFFSET_OUT_OF_RANGE) {
		tell_failed(v, c, r, false, rc < 0 ? e.text : kafka_error_name((int16_t)rc));
		return;
	}
	r->there = true;
	r->compacted = a.compacted;
	r->start = a.log_start;
	r->start_position = a.log_start_position;
	r->high = a.high_watermark;
	v->replicas++;
}

/* ---- comparing ---- */

static bool same(const struct replica_sums_response_range *a, const struct replica_sums_response_range *b)
{
	return a->first_offset == b->first_offset && a->next_offset == b->next_offset && a->bytes == b->bytes && a->crc == b->crc;
}

/* Batch by batch, from *from on; the runs that differ are told. *from: how far both were seen. x: of the model. */
static void find_runs(struct cluster_verify *v, const struct compared *c, const struct replica *r, const struct replica_sums_response_range *x, int nx, const struct replica_sums_response_range *y, int ny,
	int64_t *from, int64_t to)
{
	int64_t at = *from, run = -1;
	int i = 0, k = 0;
	while (i < nx && k < ny) {
		if (same(&x[i], &y[k])) {
			if (run >= 0)
				tell_difference(v, c, r, run, at);
			run = -1;
			at = x[i++].next_offset;
			k++;
			continue;
		}
		int64_t ex = x[i++].next_offset, ey = y[k++].next_offset;
		while (ex < ey && i < nx)
			ex = x[i++].next_offset;
		while (ey < ex && k < ny)
			ey = y[k++].next_offset;
		run = run < 0 ? at : run;
		at = ex > ey ? ex : ey;
	}
	if (at == *from) { /* one of them has nothing there, or neither */
		run = nx || ny ? at : -1;
		at = to;
	}
	if (run >= 0)
		tell_difference(v, c, r, run, at);
	*from = at;
}

static void pinpoint(struct cluster_verify *v, struct compared *c, struct replica *r, int64_t from, int64_t to)
{
	struct replica_sums_response a, b;
	while (from < to && r->there && c->model->there) {
		if (!ask_sums(v, c, c->model, from, to, true, &a))
			return;
		int n = a.ranges.n;
		struct replica_sums_response_range *copy = realloc(v->room, ((size_t)n + 1) * sizeof *copy);
		if (!copy) {
			tell_failed(v, c, r, false, "no memory");
			return;
		}
		v->room = copy;
		if (n)
			memcpy(copy, a.ranges.v, (size_t)n * sizeof *copy);
		if (!ask_sums(v, c, r, from, to, true, &b))
			return;
		find_runs(v, c, r, copy, n, b.ranges.v, b.ranges.n, &from, to);
	}
}

/* x: what the model says of the offsets from `from` to x->next_offset. */
static void compare_range(struct cluster_verify *v, struct compared *c, struct replica *r, int64_t from, const struct replica_sums_response_range *x)
{
	struct replica_sums_response a;
	if (!ask_sums(v, c, r, from, x->next_offset, false, &a))
		return;
	if (a.ranges.n != 1 || !same(x, &a.ranges.v[0]))
		pinpoint(v, c, r, from, x->next_offset);
	else
		tell_position(v, c, r, x->next_offset, x->position, a.ranges.v[0].position);
}

/* What only this one has of a step. */
static void compare_part(struct cluster_verify *v, struct compared *c, struct replica *r, int64_t from, int64_t to)
{
	struct replica_sums_response a;
	while (from < to && r->there && c->model->there) {
		if (!ask_sums(v, c, c->model, from, to, false, &a) || !a.ranges.n)
			return;
		struct replica_sums_response_range x = a.ranges.v[0];
		compare_range(v, c, r, from, &x);
		from = x.next_offset;
	}
}

static int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t less(int64_t a, int64_t b) { return a < b ? a : b; }

static void compare_step(struct cluster_verify *v, struct compared *c, int64_t at, const struct replica_sums_response_range *x)
{
	for (int i = 0; i < c->replicas; i++) {
		struct replica *r = &c->replica[i];
		int64_t from = greater(at, r->start), to = less(x->next_offset, r->high);
		if (r == c->model || !r->there || from >= to)
			continue;
		if (from == at && to == x->next_offset)
			compare_range(v, c, r, at, x);
		else
			compare_part(v, c, r, from, to);
	}
}

static void compare_partition(struct cluster_verify *v, struct compared *c)
{
	struct replica *m = c->model;
	struct replica_sums_response a;
	int64_t at = m->high, end = m->start;
	char text[40];
	for (int i = 0; i < c->replicas; i++) {
		struct replica *r = &c->replica[i];
		if (r == m || !r->there)
			continue;
		at = less(at, greater(r->start, m->start));
		end = greater(end, less(r->high, m->high));
		if (r->start == m->start)
			tell_position(v, c, r, r->start, m->start_position, r->start_position);
		if (!r->in_sync && r->high < m->high)
			say(v, c, "note: %s is not in sync: it knows of %" PRId64 " as committed, and not of %" PRId64, name_of(r, text), r->high, m->high);
	}
	while (at < end && m->there) {
		if (!ask_sums(v, c, m, at, end, false, &a)) { /* retention, which goes on */
			at = greater(at, m->start);
			continue;
		}
		if (!a.ranges.n)
			break;
		struct replica_sums_response_range x = a.ranges.v[0];
		compare_step(v, c, at, &x);
		v->bytes += (uint64_t)x.bytes;
		v->done += (uint64_t)(x.next_offset - at);
		at = x.next_offset;
		progress_show(&v->progress, "comparing", v->done, v->total);
	}
}

/* ---- who there is ---- */

static bool has(const int32_t *v, int32_t n, int32_t id)
{
	for (int32_t i = 0; i < n; i++)
		if (v[i] == id)
			return true;
	return false;
}

static void take_partition(struct compared *c, const char *topic, const struct metadata_response_topic *t, const struct metadata_response_partition *p)
{
	*c = (struct compared){.topic = topic, .id = t->topic_id, .index = p->partition_index};
	for (int32_t i = 0; i < p->replica_nodes.n && i < MAX_REPLICAS; i++) {
		int32_t id = p->replica_nodes.v[i];
		c->replica[c->replicas++] = (struct replica){.id = id, .leader = id == p->leader_id, .in_sync = has(p->isr_nodes.v, p->isr_nodes.n, id)};
	}
}

/* names: count of them; 0: all topics. */
static int take_topics(struct cluster_verify *v, char **names, int count, struct err *e)
{
	struct metadata_request q;
	struct metadata_response a;
	size_t n = 0;
	wire_init(&wire_metadata_request, &q);
	q.allow_auto_topic_creation = false;
	q.topics.n = count ? count : -1;
	q.topics.v = count ? remote_get(&v->remote, (size_t)count * sizeof *q.topics.v, e) : NULL;
	if (count && !q.topics.v)
		return ERR_NO_MEMORY;
	for (int i = 0; i < count; i++)
		q.topics.v[i].name = wire_string(names[i]);
	int rc = remote_call(&v->remote, REMOTE_ANY, API_METADATA, &q, &a, e);
	for (int32_t t = 0; rc == 0 && t < a.topics.n; t++) {
		const struct metadata_response_topic *topic = &a.topics.v[t];
		n += (size_t)topic->partitions.n;
		if (topic->error_code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION)
			rc = err_set(e, ERR_NOT_FOUND, "there is no topic %.*s", topic->name.n, topic->name.s);
		else if (wire_uuid_is_zero(&topic->topic_id))
			rc = err_set(e, ERR_UNSUPPORTED, "topic %.*s has no id: is that a cluster of spoolfs?", topic->name.n, topic->name.s);
	}
	if (rc == 0 && !(v->partition = calloc(n + 1, sizeof *v->partition)))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for %zu partitions", n);
	for (int32_t t = 0; rc == 0 && t < a.topics.n; t++) {
		const char *name = remote_text(&v->remote, a.topics.v[t].name, e);
		if (!name)
			return ERR_NO_MEMORY;
		for (int32_t i = 0; i < a.topics.v[t].partitions.n; i++)
			take_partition(&v->partition[v->partitions++], name, &a.topics.v[t], &a.topics.v[t].partitions.v[i]);
	}
	return rc;
}

static int by_name(const void *a, const void *b)
{
	const struct compared *x = a, *y = b;
	int c = strcmp(x->topic, y->topic);
	return c ? c : (x->index > y->index) - (x->index < y->index);
}

/* Against whom; what there is to be compared is counted. */
static void choose_model(struct cluster_verify *v, struct compared *c)
{
	int there = 0;
	int64_t least = INT64_MAX, most = 0;
	for (int i = 0; i < c->replicas; i++) {
		struct replica *r = &c->replica[i];
		if (!r->there)
			continue;
		c->compacted |= r->compacted;
		there++;
		least = less(least, r->start);
		most = greater(most, r->high);
		if (!c->model || r->leader)
			c->model = r;
	}
	if (there < 2 || c->compacted)
		c->model = NULL;
	else
		v->total += (uint64_t)greater(most - least, 0);
}

static int run(struct cluster_verify *v, char **names, int count, struct err *e)
{
	int rc = take_topics(v, names, count, e);
	if (rc < 0)
		return rc;
	qsort(v->partition, v->partitions, sizeof *v->partition, by_name);
	for (size_t i = 0; i < v->partitions; i++) {
		struct compared *c = &v->partition[i];
		for (int k = 0; k < c->replicas; k++)
			ask_ends(v, c, &c->replica[k]);
		choose_model(v, c);
		if (c->compacted && (!i || strcmp(c[-1].topic, c->topic) || !c[-1].compacted))
			say(v, c, "note: the topic is compacted, or was: its replicas need not hold the same, and are not compared");
	}
	for (size_t i = 0; i < v->partitions; i++)
		if (v->partition[i].model)
			compare_partition(v, &v->partition[i]);
	progress_clear(&v->progress);
	printf("%zu partition%s, %" PRIu64 " replica%s, %" PRIu64 " bytes compared with what others have: %" PRIu64 " difference%s", v->partitions, v->partitions == 1 ? "" : "s", v->replicas,
	       v->replicas == 1 ? "" : "s", v->bytes, v->differences, v->differences == 1 ? "" : "s");
	if (v->left_out)
		printf("; %" PRIu64 " replica%s could not be compared", v->left_out, v->left_out == 1 ? "" : "s");
	printf("\n");
	return 0;
}

int verify_cluster(const char *bootstrap, int timeout_ms, char **names, int count)
{
	struct cluster_verify v = {0};
	struct err e = ERR_INIT;
	int rc = remote_open(&v.remote, bootstrap, timeout_ms, &e);
	if (rc < 0) {
		command_say(command, "%s", e.text);
		return EXIT_USAGE;
	}
	progress_init(&v.progress);
	rc = run(&v, names, count, &e);
	progress_end(&v.progress);
	if (rc < 0)
		command_say(command, "%s", e.text);
	free(v.partition);
	free(v.room);
	remote_release(&v.remote);
	return v.differences ? EXIT_FAILURE : rc < 0 || v.left_out ? EXIT_USAGE : EXIT_SUCCESS;
}
