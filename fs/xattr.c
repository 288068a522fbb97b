#include "fs/xattr.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cluster/broker.h"
#include "fs/version.h"

static const char prefix[] = "user.spoolfs.";

/* What a value takes to be known: what the controller tells (of a broker by itself: what it is), a replica here, or the file, which may be elsewhere. */
enum needs { TOLD, REPLICA, FILE_VIEW };

struct facts { /* of a partition, at one moment; of what is needed */
	int32_t here;                /* this broker */
	struct partition_metadata m;
	struct partition_state s;
	struct visible v;
};

static void print_ids(struct wr *text, const int32_t *id, int count)
{
	for (int i = 0; i < count; i++)
		wr_printf(text, "%s%d", i ? "," : "", (int)id[i]);
}

static void role(const struct facts *f, struct wr *t)
{
	bool replica = false;
	for (int i = 0; i < f->m.replica_count; i++)
		replica |= f->m.replicas[i] == f->here;
	wr_printf(t, "%s", f->m.leader == f->here ? "leader" : replica ? "follower" : "none");
}

static void leader(const struct facts *f, struct wr *t) { wr_printf(t, "%d", (int)f->m.leader); }
static void leader_epoch(const struct facts *f, struct wr *t) { wr_printf(t, "%d", (int)f->m.leader_epoch); }
static void isr(const struct facts *f, struct wr *t) { print_ids(t, f->m.isr, f->m.isr_count); }
static void replicas(const struct facts *f, struct wr *t) { print_ids(t, f->m.replicas, f->m.replica_count); }
static void offline(const struct facts *f, struct wr *t) { print_ids(t, f->m.offline, f->m.offline_count); }
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
	enum needs needs;
} of_partition[] = {
	{"role", role, TOLD}, {"leader", leader, TOLD}, {"leader_epoch", leader_epoch, TOLD}, {"isr", isr, TOLD}, {"replicas", replicas, TOLD}, {"offline_replicas", offline, TOLD},
	{"high_watermark", high_watermark, REPLICA}, {"last_stable_offset", last_stable_offset, REPLICA}, {"log_end_offset", log_end_offset, REPLICA},
	{"log_start", log_start, FILE_VIEW}, {"log_start_position", log_start_position, FILE_VIEW},
	{"visible_end", visible_end, FILE_VIEW}, {"visible_end_position", visible_end_position, FILE_VIEW},
};
static const char *const of_topic[] = {"topic_id", "partitions"};
static const char *const of_root[] = {"pid", "data", "version"};

enum { OF_PARTITION = sizeof of_partition / sizeof *of_partition, OF_TOPIC = sizeof of_topic / sizeof *of_topic, OF_ROOT = sizeof of_root / sizeof *of_root };

int xattr_find(const struct node *n, const char *name)
{
	if (!n->partition || strncmp(name, prefix, sizeof prefix - 1))
		return -1;
	for (int i = 0; i < OF_PARTITION; i++)
		if (!strcmp(name + sizeof prefix - 1, of_partition[i].name))
			return i;
	return -1;
}

bool xattr_may_wait(const struct node *n, int which)
{
	return of_partition[which].needs == FILE_VIEW && partition_may_wait(n->partition);
}

/* A partition's facts are those of how it is now; where it is offline some cannot be had. */
int xattr_get_one(const struct node *n, const struct broker *b, int which, struct wr *text, struct err *e)
{
	struct facts f = {.here = broker_id(b), .m = {.leader = -1, .leader_epoch = -1}};
	int rc = 0;
	if (of_partition[which].needs == TOLD)
		partition_metadata(n->partition, &f.m);
	else if (of_partition[which].needs == FILE_VIEW)
		rc = partition_look(n->partition, &f.v, e);
	else
		rc = partition_dir(n->partition) < 0 ? ERR_NOT_FOUND : partition_describe(n->partition, &f.s, e);
	if (rc == 0)
		of_partition[which].print(&f, text);
	return rc == 0 && text->failed ? err_set(e, ERR_NO_MEMORY, "no memory for an extended attribute") : rc;
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

int xattr_get(const struct node *n, const struct broker *b, const char *data, const char *name, struct wr *text, struct err *e)
{
	int rc = ERR_NOT_FOUND, which = xattr_find(n, name);
	if (strncmp(name, prefix, sizeof prefix - 1))
		return ERR_UNSUPPORTED;
	name += sizeof prefix - 1;
	if (n->kind == NODE_ROOT)
		rc = print_of_root(data, name, text);
	if (which >= 0)
		return xattr_get_one(n, b, which, text, e);
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
		if (of_partition[i].needs != REPLICA || partition_dir(n->partition) >= 0)
			add_name(names, of_partition[i].name);
	for (size_t i = 0; n->topic && i < OF_TOPIC; i++)
		add_name(names, of_topic[i]);
	return names->failed ? err_set(e, ERR_NO_MEMORY, "no memory for the names of extended attributes") : 0;
}
