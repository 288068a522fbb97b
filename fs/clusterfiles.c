#include "fs/clusterfiles.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/broker.h"
#include "cluster/join.h"
#include "cluster/partition.h"
#include "cluster/topics.h"

static const char *const names[CLUSTER_FILES] = {"brokers", "controller", "offline", "under-replicated"};

const char *clusterfile_name(enum cluster_file f)
{
	return names[f];
}

int clusterfile_find(const char *name)
{
	int i = 0;
	while (i < CLUSTER_FILES && strcmp(names[i], name))
		i++;
	return i < CLUSTER_FILES ? i : -1;
}

/* ---- partitions ---- */

static void print_ids(struct wr *text, const int32_t *id, int count)
{
	wr_printf(text, "\t");
	for (int i = 0; i < count; i++)
		wr_printf(text, "%s%" PRId32, i ? "," : "", id[i]);
	if (!count)
		wr_printf(text, "-");
}

struct search { enum cluster_file what; struct wr *text; };

static bool is_wanted(enum cluster_file what, const struct partition_metadata *m)
{
	return what == CLUSTER_OFFLINE ? m->leader < 0 : m->isr_count < m->replica_count;
}

static bool print_partitions(void *arg, struct topic *t)
{
	const struct search *s = arg;
	for (int32_t i = 0; i < topic_partition_count(t) && !s->text->failed; i++) {
		struct partition_metadata m;
		struct partition *p = topic_partition(t, i);
		if (p && partition_metadata(p, &m) && is_wanted(s->what, &m)) {
			wr_printf(s->text, "%s/%" PRId32 "\t", topic_name(t), i);
			wr_printf(s->text, m.leader < 0 ? "-" : "%" PRId32, m.leader);
			print_ids(s->text, m.replicas, m.replica_count);
			print_ids(s->text, m.isr, m.isr_count);
			print_ids(s->text, m.offline, m.offline_count);
			wr_printf(s->text, "\n");
		}
		partition_unref(p);
	}
	return !s->text->failed;
}

/* ---- brokers ---- */

struct broker_ids { int32_t *v; size_t n, room; bool failed; };

static int by_id(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
	return (x > y) - (x < y);
}

static void add_id(struct broker_ids *x, int32_t id)
{
	for (size_t i = 0; i < x->n; i++)
		if (x->v[i] == id)
			return;
	if (x->n == x->room) {
		size_t room = x->room ? 2 * x->room : 16;
		int32_t *v = realloc(x->v, room * sizeof *v);
		if (!v) {
			x->failed = true;
			return;
		}
		x->v = v;
		x->room = room;
	}
	x->v[x->n++] = id;
}

static bool add_replicas(void *arg, struct topic *t)
{
	struct broker_ids *x = arg;
	for (int32_t i = 0; i < topic_partition_count(t); i++) {
		struct partition_metadata m;
		struct partition *p = topic_partition(t, i);
		if (p && partition_metadata(p, &m))
			for (int k = 0; k < m.replica_count; k++)
				add_id(x, m.replicas[k]);
		partition_unref(p);
	}
	return true;
}

static const struct join_broker *find(const struct join_broker *v, size_t n, int32_t id)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].id == id)
			return &v[i];
	return NULL;
}

static void print_address(struct wr *text, const struct join_broker *b)
{
	wr_printf(text, strchr(b->host, ':') ? "[%s]:%" PRId32 : "%s:%" PRId32, b->host, b->port);
}

static void print_broker(struct wr *text, int32_t id, const struct join_broker *b, int32_t controller)
{
	wr_printf(text, "%" PRId32 "\t", id);
	if (b)
		print_address(text, b);
	else
		wr_printf(text, "-");
	wr_printf(text, "\t%s\t%s\n", b && b->rack ? b->rack : "-", !b ? "away" : id == controller ? "controller" : "alive");
}

static int print_brokers(const struct cluster_source *s, struct wr *text, struct err *e)
{
	size_t n;
	struct broker_ids all = {0};
	struct join_broker *v = join_brokers(s->join, &n);
	for (size_t i = 0; i < n; i++)
		add_id(&all, v[i].id);
	topics_list(s->broker, add_replicas, &all);
	if (all.n)
		qsort(all.v, all.n, sizeof *all.v, by_id);
	for (size_t i = 0; i < all.n; i++)
		print_broker(text, all.v[i], find(v, n, all.v[i]), join_controller(s->join));
	int rc = v && !all.failed ? 0 : err_set(e, ERR_NO_MEMORY, "no memory for the brokers of the cluster");
	free(all.v);
	free(v);
	return rc;
}

static int print_controller(const struct cluster_source *s, struct wr *text, struct err *e)
{
	size_t n;
	struct join_broker *v = join_brokers(s->join, &n);
	int32_t id = join_controller(s->join);
	const struct join_broker *b = find(v, n, id);
	if (id >= 0)
		wr_printf(text, "%" PRId32 "\t", id);
	if (b)
		print_address(text, b);
	if (id >= 0)
		wr_printf(text, b ? "\n" : "-\n");
	free(v);
	return v ? 0 : err_set(e, ERR_NO_MEMORY, "no memory for the brokers of the cluster");
}

static void print_alone(const struct cluster_source *s, enum cluster_file f, struct wr *text)
{
	wr_printf(text, "%" PRId32 "\t%s", broker_id(s->broker), s->address ? s->address : "-");
	if (f == CLUSTER_BROKERS)
		wr_printf(text, "\t-\tcontroller");
	wr_printf(text, "\n");
}

int clusterfile_print(const struct cluster_source *s, enum cluster_file f, struct wr *text, struct err *e)
{
	int rc = 0;
	if (f == CLUSTER_OFFLINE || f == CLUSTER_UNDER_REPLICATED)
		topics_list(s->broker, print_partitions, &(struct search){f, text});
	else if (!s->join)
		print_alone(s, f, text);
	else
		rc = f == CLUSTER_BROKERS ? print_brokers(s, text, e) : print_controller(s, text, e);
	return rc == 0 && text->failed ? err_set(e, ERR_NO_MEMORY, "no memory for " CLUSTER_DIR "/%s", names[f]) : rc;
}
