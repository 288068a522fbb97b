/*
 * role_fixture: two or three brokers in one process, each with a topic of one partition, whose roles the test gives and whose bytes the test carries from leader to follower. Included by
 * test programs; everything is static.
 */
#ifndef TESTS_UNIT_ROLE_FIXTURE_H
#define TESTS_UNIT_ROLE_FIXTURE_H

#include "tests/unit/broker_fixture.h"

#include "cluster/partition_fetch.h"

#ifndef ROLE_TOPIC
#define ROLE_TOPIC "t"
#endif

enum { NODES = 3 };

struct node {
	int32_t id;
	char data[100];
	struct conf *conf;
	struct role_calls calls;
	const struct topic_calls *topics; /* NULL: topics are made as by a broker by itself */
	_Atomic bool has_lease;
	struct broker *b;
	struct partition *p;           /* acquired */
	pthread_mutex_t lock;
	struct isr_change asked;       /* lock: what was asked for last */
	int asked_count;               /* lock */
};

static struct node node[NODES + 1]; /* by id, from 1 on */

static void node_alter(void *arg, struct partition *p, const struct isr_change *c)
{
	struct node *n = arg;
	(void)p;
	pthread_mutex_lock(&n->lock);
	n->asked = *c;
	n->asked_count++;
	pthread_mutex_unlock(&n->lock);
}

static bool node_lease(void *arg)
{
	return ((struct node *)arg)->has_lease;
}

static void node_use(struct node *n)
{
	struct topic *t = topics_find(n->b, ROLE_TOPIC);
	assert_non_null(t);
	n->p = topic_partition(t, 0);
	topic_unref(t);
	if (partition_acquire(n->p, &err) < 0)
		fail_msg("partition_acquire: %s", err.text);
}

static void node_let_go(struct node *n)
{
	if (n->p)
		done_with(n->p);
	n->p = NULL;
}

static void node_open(struct node *n)
{
	struct broker_options o = {.data = n->data, .conf = n->conf, .roles = &n->calls, .topic_calls = n->topics};
	if (broker_open(&n->b, &o, &err) < 0)
		fail_msg("broker_open: %s", err.text);
	struct topic *t = topics_find(n->b, ROLE_TOPIC);
	if (!t && topics_create(n->b, ROLE_TOPIC, 1, NULL, &t, &err) < 0)
		fail_msg("topics_create: %s", err.text);
	topic_unref(t);
	node_use(n);
}

static UNUSED void node_close(struct node *n)
{
	node_let_go(n);
	if (n->b && broker_close(n->b, &err) < 0)
		fail_msg("broker_close: %s", err.text);
	n->b = NULL;
}

static UNUSED void node_set(struct node *n, const char *property)
{
	if (conf_set_line(n->conf, property, &err) < 0)
		fail_msg("%s", err.text);
}

static int setup_nodes(void **state)
{
	setup(state);
	for (int i = 1; i <= NODES; i++) {
		char line[40];
		struct node *n = &node[i];
		memset(n, 0, sizeof *n);
		n->id = i;
		n->has_lease = true;
		n->calls = (struct role_calls){.alter = node_alter, .lease = node_lease, .arg = n};
		pthread_mutex_init(&n->lock, NULL);
		snprintf(n->data, sizeof n->data, "%s/%d", root, i);
		snprintf(line, sizeof line, "broker.id=%d", i);
		n->conf = conf_new(schema, NULL, CONF_BROKER);
		node_set(n, line);
	}
	return 0;
}

static int teardown_nodes(void **state)
{
	b = NULL; /* one of these, if any */
	for (int i = 1; i <= NODES; i++) {
		struct node *n = &node[i];
		if (n->b) {
			node_let_go(n);
			broker_close(n->b, NULL);
			n->b = NULL;
		}
		conf_free(n->conf);
		pthread_mutex_destroy(&n->lock);
	}
	return teardown(state);
}

static UNUSED void open_nodes(int count)
{
	for (int i = 1; i <= count; i++)
		node_open(&node[i]);
}

/* ---- what a controller does ---- */

static int32_t partition_epoch; /* rises with each state that is given */

/* isr: the ids as digits, "12". */
static int try_become(int id, int32_t leader, int32_t epoch, const char *isr, const char *replicas)
{
	int32_t in[9], all[9];
	struct partition_role r = {.leader = leader, .leader_epoch = epoch, .partition_epoch = ++partition_epoch, .controller_epoch = 1, .isr = in, .replicas = all};
	while (isr[r.isr_count]) {
		in[r.isr_count] = isr[r.isr_count] - '0';
		r.isr_count++;
	}
	while (replicas[r.replica_count]) {
		all[r.replica_count] = replicas[r.replica_count] - '0';
		r.replica_count++;
	}
	err = (struct err)ERR_INIT;
	return partition_become(node[id].p, &r, &err);
}

static UNUSED void become(int id, int32_t leader, int32_t epoch, const char *isr, const char *replicas)
{
	if (try_become(id, leader, epoch, isr, replicas) < 0)
		fail_msg("partition_become: %s", err.text);
}

/* Commits what the leader has asked for last, and answers. */
static UNUSED void grant(int id)
{
	struct node *n = &node[id];
	int32_t isr[ISR_REPLICAS];
	pthread_mutex_lock(&n->lock);
	struct isr_change c = n->asked;
	pthread_mutex_unlock(&n->lock);
	for (int i = 0; i < c.count; i++)
		isr[i] = c.member[i].id;
	partition_altered(n->p, &c, ISR_ALTERED, isr, c.count, ++partition_epoch);
}

/* The ISR of the leader as it was asked for last, as digits. */
static UNUSED const char *asked_of(int id)
{
	static char text[ISR_REPLICAS + 1];
	struct node *n = &node[id];
	pthread_mutex_lock(&n->lock);
	for (int i = 0; i < n->asked.count; i++)
		text[i] = (char)('0' + n->asked.member[i].id);
	text[n->asked.count] = 0;
	pthread_mutex_unlock(&n->lock);
	return text;
}

/* ---- what a fetcher does ---- */

static int64_t now_ms(void)
{
	return mono_now().ns / 1000000;
}

static UNUSED int64_t end_of(int id)
{
	struct partition_ends x;
	partition_take_ends(node[id].p, &x);
	return x.log_end;
}

static UNUSED int64_t high_of(int id)
{
	struct partition_ends x;
	partition_take_ends(node[id].p, &x);
	return x.high_watermark;
}

/* OffsetForLeaderEpoch and cutting, until the logs do not part: KIP-101, KIP-279. */
static int try_align(int follower, int leader, int32_t epoch)
{
	struct partition *f = node[follower].p, *l = node[leader].p;
	for (;;) {
		int32_t mine, theirs;
		int64_t end, own;
		bool aligned;
		int rc = partition_follower_end(f, epoch, &own, &mine, &err);
		if (rc < 0 || mine < 0)
			return rc;
		rc = partition_epoch_end(l, epoch, mine, true, &theirs, &end, &err);
		if (rc == 0)
			rc = partition_follower_align(f, theirs, end, epoch, &aligned, &err);
		if (rc < 0 || aligned)
			return rc;
	}
}

static UNUSED void align(int follower, int leader, int32_t epoch)
{
	if (try_align(follower, leader, epoch) < 0)
		fail_msg("broker %d cannot follow %d: %s", follower, leader, err.text);
}

struct carried { uint8_t *bytes; size_t n; int64_t high, log_start; };

/* What the leader answers to a Fetch at `offset`. */
static int ask_leader(int follower, int leader, int32_t epoch, int64_t offset, uint32_t max_bytes, struct carried *c)
{
	struct follower_fetch who = {.id = follower, .broker_epoch = 1, .current_epoch = epoch, .offset = offset, .now_ms = now_ms()};
	struct partition_fetch f = {.offset = offset, .max_bytes = max_bytes, .min_one = true, .isolation = ISOLATION_NONE, .current_epoch = epoch, .last_fetched_epoch = -1, .wait = true,
				    .follower = &who};
	*c = (struct carried){0};
	int rc = partition_fetch(node[leader].p, &f, &err);
	if (rc < 0)
		return rc;
	c->bytes = malloc(f.data.bytes + 1);
	for (uint32_t i = 0; i < f.data.range_count; i++) {
		const struct log_range *r = &f.data.range[i];
		ssize_t got = pread(r->segment->fd, c->bytes + c->n, r->bytes, r->position);
		c->n += got > 0 ? (size_t)got : 0;
	}
	c->high = f.ends.high_watermark;
	c->log_start = f.ends.log_start;
	partition_fetch_release(node[leader].p, &f);
	return 0;
}

static int try_fetch(int follower, int leader, int32_t epoch, uint32_t max_bytes)
{
	struct carried c = {0};
	int64_t end;
	int32_t last;
	int rc = partition_follower_end(node[follower].p, epoch, &end, &last, &err);
	if (rc == 0)
		rc = ask_leader(follower, leader, epoch, end, max_bytes, &c);
	if (rc == 0)
		rc = partition_follower_append(node[follower].p, c.bytes, c.n, c.high, c.log_start, epoch, &end, &err);
	free(c.bytes);
	return rc;
}

/* One Fetch of all there is. The next one tells the leader of it. */
static UNUSED void fetch(int follower, int leader, int32_t epoch)
{
	if (try_fetch(follower, leader, epoch, 1 << 20) < 0)
		fail_msg("broker %d cannot fetch from %d: %s", follower, leader, err.text);
}

static UNUSED int try_say_at(int id, const char *text, enum acks acks)
{
	return try_say(node[id].p, text, acks);
}

static UNUSED void say_at(int id, const char *text)
{
	if (try_say_at(id, text, ACKS_LEADER) < 0)
		fail_msg("append: %s", err.text);
}

static int gather_value(void *arg, const struct batch *batch, const struct record *r)
{
	struct wr *text = arg;
	(void)batch;
	if (r->value)
		wr_bytes(text, r->value, (size_t)r->value_len);
	wr_bytes(text, " ", 1);
	return 0;
}

/* All that is in the log, visible or not: the values, each with a blank behind it. In one of two buffers, in turn. */
static UNUSED const char *log_of(int id)
{
	static char text[2][4000];
	static int turn;
	struct log *l = node[id].p->log;
	struct wr values;
	char *to = text[turn ^= 1];
	wr_init(&values, 0);
	if (log_scan_records(l, l->start_offset, l->leo, gather_value, &values, &err) < 0)
		fail_msg("scan: %s", err.text);
	snprintf(to, sizeof text[0], "%.*s", (int)values.len, (const char *)values.data);
	wr_release(&values);
	return to;
}

/* What can be seen through the mount, newlines as blanks. */
static UNUSED const char *seen_at(int id)
{
	static char text[2][4000];
	static int turn;
	int64_t n;
	char *all = all_of(node[id].p, &n), *to = text[turn ^= 1];
	snprintf(to, sizeof text[0], "%s", all);
	for (char *at = to; *at; at++)
		if (*at == '\n')
			*at = ' ';
	free(all);
	return to;
}

#endif
