#include "fs/xattr.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "fs/version.h"

static const char prefix[] = "user.spoolfs.";

struct facts { /* of a partition, at one moment */
	struct visible v;
	struct partition_state s;
};

static void print_ids(struct wr *text, const int32_t *id, int count)
{
	for (int i = 0; i < count; i++)
		wr_printf(text, "%s%d", i ? "," : "", (int)id[i]);
}

static void leader(const struct facts *f, struct wr *t) { wr_printf(t, "%d", (int)f->s.leader); }
static void leader_epoch(const struct facts *f, struct wr *t) { wr_printf(t, "%d", (int)f->s.leader_epoch); }
static void isr(const struct facts *f, struct wr *t) { print_ids(t, f->s.isr, f->s.isr_count); }
static void replicas(const struct facts *f, struct wr *t) { print_ids(t, f->s.replicas, f->s.replica_count); }
static void high_watermark(const struct facts *f, struct wr *t) { wr_printf(t, "%" PRId64, f->s.high_watermark); }
static void last_stable_offset(const struct facts *f, struct wr *t) { wr_printf(t, "%" PRId64, f->s.last_stable_offset); }
static void log_end_offset(const struct facts *f, struct wr *t) { wr_printf(t, "%" PRId64, f->s.leo); }
static void log_start(const struct facts *f, struct wr *t) { wr_printf(t, "%" PRId64, f->v.start_offset); }
static void log_start_position(const struct facts *f, struct wr *t) { wr_printf(t, "%" PRId64, f->v.start_position); }
static void visible_end(const struct facts *f, struct wr *t) { wr_printf(t, "%" PRId64, f->v.end_offset); }
static void visible_end_position(const struct facts *f, struct wr *t) { wr_printf(t, "%" PRId64, f->v.end_position); }

static const struct {
	const char *name;
	void (*print)(const struct facts *f, struct wr *text);
} of_partition[] = {
	{"leader", leader}, {"leader_epoch", leader_epoch}, {"isr", isr}, {"replicas", replicas},
	{"high_watermark", high_watermark}, {"last_stable_offset", last_stable_offset}, {"log_end_offset", log_end_offset},
	{"log_start", log_start}, {"log_start_position", log_start_position},
	{"visible_end", visible_end}, {"visible_end_position", visible_end_position},
};
static const char *const of_topic[] = {"topic_id", "partitions"};
static const char *const of_root[] = {"pid", "data", "version"};

enum { OF_PARTITION = sizeof of_partition / sizeof *of_partition, OF_TOPIC = sizeof of_topic / sizeof *of_topic, OF_ROOT = sizeof of_root / sizeof *of_root };

/* A partition's facts are those of how it is now; where it is offline some cannot be had. */
static int print_of_partition(const struct node *n, const char *name, struct wr *text, struct err *e)
{
	struct facts f;
	for (size_t i = 0; i < OF_PARTITION; i++) {
		if (strcmp(name, of_partition[i].name))
			continue;
		int rc = partition_describe(n->partition, &f.s, e);
		if (rc == 0)
			rc = partition_visible(n->partition, &f.v, e);
		if (rc == 0)
			of_partition[i].print(&f, text);
		return rc;
	}
	return ERR_NOT_FOUND;
}

static int print_of_topic(const struct topic *t, const char *name, struct wr *text)
{
	char id[23];
	if (!strcmp(name, of_topic[0])) {
		topic_id_text(t, id);
		wr_printf(text, "%s", id);
	} else if (!strcmp(name, of_topic[1]))
		wr_printf(text, "%d", (int)topic_partition_count(t));
	else
		return ERR_NOT_FOUND;
	return 0;
}

static int print_of_root(const char *data, const char *name, struct wr *text)
{
	if (!strcmp(name, of_root[0]))
		wr_printf(text, "%d", (int)getpid());
	else if (!strcmp(name, of_root[1]))
		wr_printf(text, "%s", data);
	else if (!strcmp(name, of_root[2]))
		wr_printf(text, "%s", SPOOLFS_VERSION);
	else
		return ERR_NOT_FOUND;
	return 0;
}

int xattr_get(const struct node *n, const char *data, const char *name, struct wr *text, struct err *e)
{
	int rc = ERR_NOT_FOUND;
	if (strncmp(name, prefix, sizeof prefix - 1))
		return ERR_UNSUPPORTED;
	name += sizeof prefix - 1;
	if (n->kind == NODE_ROOT)
		rc = print_of_root(data, name, text);
	if (n->partition)
		rc = print_of_partition(n, name, text, e);
	if (n->topic && rc == ERR_NOT_FOUND)
		rc = print_of_topic(n->topic, name, text);
	return rc < 0 || !text->failed ? rc : err_set(e, ERR_NO_MEMORY, "no memory for an extended attribute");
}

static void add_name(struct wr *names, const char *name)
{
	wr_bytes(names, prefix, sizeof prefix - 1);
	wr_bytes(names, name, strlen(name) + 1);
}

int xattr_list(const struct node *n, struct wr *names, struct err *e)
{
	for (size_t i = 0; n->kind == NODE_ROOT && i < OF_ROOT; i++)
		add_name(names, of_root[i]);
	for (size_t i = 0; n->partition && i < OF_PARTITION; i++)
		add_name(names, of_partition[i].name);
	for (size_t i = 0; n->topic && i < OF_TOPIC; i++)
		add_name(names, of_topic[i]);
	return names->failed ? err_set(e, ERR_NO_MEMORY, "no memory for the names of extended attributes") : 0;
}
