#include "cluster/broker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cluster/adopt.h"
#include "cluster/model.h"
#include "cluster/producer_ids.h"
#include "store/diag.h"
#include "store/io.h"

enum { DESCRIPTORS_A_SEGMENT = 4 };

/* ---- loading ---- */

struct loading {
	struct broker *b;
	struct log_dir *d;
	bool recovery_lost;         /* recovery-point-offset-checkpoint is damaged */
	bool same_boot, our_stop;   /* the state checkpoint is of this boot; and was written by the stop that left the marker */
	bool deleted;               /* there are directories of deleted topics */
	struct partition **open;    /* owned: to be opened before the broker serves */
	size_t open_count, open_cap;
	_Atomic size_t opened;
	const struct broker_options *o;
	struct err err;
	int rc;
};

static void later(struct loading *x, struct partition *p)
{
	if (x->open_count == x->open_cap) {
		size_t cap = x->open_cap ? 2 * x->open_cap : 64;
		struct partition **more = realloc(x->open, cap * sizeof *more);
		if (!more) {
			x->rc = err_set(&x->err, ERR_NO_MEMORY, "no memory for %zu partitions", x->open_count);
			return;
		}
		x->open = more;
		x->open_cap = cap;
	}
	x->open[x->open_count++] = p;
}

struct contents { bool any, log; };

static int note_content(void *arg, const char *name, unsigned char type)
{
	struct contents *c = arg;
	size_t n = strlen(name);
	(void)type;
	c->any = true;
	c->log |= n > 4 && !strcmp(name + n - 4, ".log");
	return c->log;
}

/* Somebody's directory, that happens to end in a number: it has something in it, but nothing of a partition. */
static bool is_foreign_dir(const char *path)
{
	struct contents c = {false, false};
	return io_list(path, note_content, &c) == 0 && c.any && !c.log;
}

static int found_entry(void *arg, const char *name, unsigned char type)
{
	struct loading *x = arg;
	struct dir_entry entry;
	char path[PATH_MAX], id[TOPIC_ID_CHARS + 1];
	if (type != DT_DIR || x->rc < 0)
		return 0;
	dir_entry_parse(name, &entry);
	x->deleted |= entry.kind == DIR_DELETED;
	if (entry.kind != DIR_PARTITION || !strcmp(entry.topic, "__cluster_metadata")) {
		if (entry.kind == DIR_OTHER && strncmp(name, "__cluster_metadata", 18) && strcmp(name, "lost+found"))
			diag_notice("%s/%s is no partition and is left alone", x->d->path, name);
		return 0;
	}
	struct topic *t;
	struct partition *p;
	struct err why = ERR_INIT;
	HASH_FIND_STR(x->b->topics, entry.topic, t);
	if (!t || !t->id[0]) {
		snprintf(path, sizeof path, "%s/%s", x->d->path, name);
		int loaded = partition_metadata_load(path, id, &why);
		if (loaded == ERR_NOT_FOUND && is_foreign_dir(path)) {
			diag_notice("%s is no partition and is left alone", path);
			return 0;
		}
		if (loaded < 0) {
			id[0] = 0; /* another partition of the topic, or a checkpoint, may know it */
			diag_warning("%s", why.text);
		}
		if (t)
			snprintf(t->id, sizeof t->id, "%s", id);
		else
			t = topics_load(x->b, entry.topic, id);
	}
	if (!t) {
		x->rc = err_set(&x->err, ERR_NO_MEMORY, "no memory for topic %s", entry.topic);
		return 0;
	}
	int rc = topic_load_partition(t, entry.partition, x->d, &p, &why);
	if (rc == ERR_EXISTS || rc == ERR_INVALID)
		diag_error("%s", why.text);
	else if (rc < 0)
		x->rc = err_set(&x->err, rc, "%s", why.text);
	else {
		p->known.foreign = x->d->foreign;
		p->known.clean = x->d->clean;
		if (x->d->foreign)
			t->adopted = true;
	}
	return 0;
}

static struct partition *find_partition(struct loading *x, const char *topic, int32_t index)
{
	struct topic *t;
	HASH_FIND_STR(x->b->topics, topic, t);
	if (!t || index < 0 || index >= t->partition_count || t->partition[index]->dir != x->d)
		return NULL;
	return t->partition[index];
}

static void recovery_row(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	struct partition *p = find_partition(arg, topic, partition);
	if (p)
		p->known.recovery_point = p->noted_recovery = offset;
}

static void high_watermark_row(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	struct partition *p = find_partition(arg, topic, partition);
	if (p)
		p->high_watermark = offset;
}

static void clean_row(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	struct partition *p = find_partition(arg, topic, partition);
	if (p)
		p->clean_offset = offset;
}

static void log_start_row(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	struct partition *p = find_partition(arg, topic, partition);
	if (p)
		p->known.log_start = offset;
}

/* A row belongs to the topic of its id: one of the same name may have been made since. A topic whose own files lost the id takes the row's. */
static bool is_of_topic(struct topic *t, const char *row_id)
{
	if (!t->id[0]) {
		snprintf(t->id, sizeof t->id, "%s", row_id);
		t->id_found = true;
	}
	return strcmp(t->id, row_id) == 0;
}

/* A new topic begins at offset 0. One that does not, but whose id has no row, has its id damaged: the rows have checksums, partition.metadata has none. */
static bool must_be_of_topic(struct partition *p, const char *row_id)
{
	char path[PATH_MAX], *dir = partition_path(p);
	struct stat st;
	if (!dir)
		return false;
	segment_path(dir, 0, ".log", path, sizeof path);
	bool must = io_stat(path, &st) == -ENOENT;
	free(dir);
	if (must) {
		diag_warning("topic %s: its id is %s, not %s as a damaged partition.metadata says", p->topic->name, row_id, p->topic->id);
		snprintf(p->topic->id, sizeof p->topic->id, "%s", row_id);
		p->topic->id_found = true;
	}
	return must;
}

static void start_row(void *arg, const struct start_row *row)
{
	struct partition *p = find_partition(arg, row->topic, row->partition);
	if (!p || (!is_of_topic(p->topic, row->topic_id) && !must_be_of_topic(p, row->topic_id)))
		return;
	p->known.pair_offset = p->recorded_offset = row->offset;
	p->known.pair_position = p->recorded_position = row->position;
}

/* Whether the partition's directory and its active segment look as the row has them. A directory of which no log was ever opened has no time in it. */
static bool looks_untouched(struct partition *p, const struct partition_row *r, bool ever_opened)
{
	char path[PATH_MAX], *dir = partition_path(p);
	struct stat st;
	if (!dir)
		return false;
	bool same = (!ever_opened && r->dir_mtime_ns == 0) ||
		    (io_stat(dir, &st) == 0 && st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec == r->dir_mtime_ns);
	if (same && r->active_base >= 0) {
		segment_path(dir, r->active_base, ".log", path, sizeof path);
		same = io_stat(path, &st) == 0 && st.st_size == r->active_bytes;
	}
	free(dir);
	return same;
}

/* Whether the partition is still as the row has it, so that it need not be opened. After our own clean stop it is (what was not flushed then has no snapshot, which
 * log_open asks for); else it must look untouched, and what it holds must be on disk or in this boot's page cache. */
static bool row_holds(struct loading *x, struct partition *p, const struct partition_row *r)
{
	return x->our_stop || ((x->same_boot || r->recovery_point >= r->leo) && looks_untouched(p, r, true));
}

static void state_row(void *arg, const struct partition_row *r)
{
	struct loading *x = arg;
	struct partition *p = find_partition(x, r->topic, r->partition);
	struct partition_row row = *r;
	if (!p || !is_of_topic(p->topic, r->topic_id))
		return;
	/* Kafka's file has no checksum: what is greater there than here may be damage, and what cannot be read there is here */
	if (x->recovery_lost || p->known.recovery_point > r->recovery_point)
		p->known.recovery_point = r->recovery_point;
	if (!row_holds(x, p, r))
		return;
	if (p->recorded_offset > row.start_offset) { /* recorded since */
		row.start_offset = p->recorded_offset;
		row.start_position = p->recorded_position;
	}
	p->known = (struct known){
		.trusted = true, .leader_epoch = row.leader_epoch, .active_base = row.active_base, .active_bytes = row.active_bytes, .leo = row.leo,
		.last_stable = row.last_stable_offset, .recovery_point = row.recovery_point, .log_start = row.start_offset, .pair_offset = row.start_offset,
		.pair_position = row.start_position, .dir_mtime_ns = row.dir_mtime_ns,
	};
	if (!x->b->roles)
		p->leader_epoch = row.leader_epoch < 0 ? 0 : row.leader_epoch;
	partition_publish_known(p, &row);
	if (x->our_stop && !looks_untouched(p, r, false)) /* something may be missing: who opens it says so */
		later(x, p);
}

/* Without a row a log starts at (0, 0): a row is durable before any segment goes. (Not where Kafka had the directory since: its topics have none.) */
static bool starts_at_zero(void *arg, struct topic *t)
{
	struct loading *x = arg;
	for (int32_t i = 0; i < t->partition_count; i++)
		if (t->partition[i]->dir == x->d && t->partition[i]->known.pair_offset < 0)
			t->partition[i]->known.pair_offset = t->partition[i]->known.pair_position = 0;
	return true;
}

/* A checkpoint that cannot be read costs time, not messages: the logs have it all. But for the start pairs; see recover.c. */
static int load_checkpoints(struct loading *x, struct err *e)
{
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	snprintf(path, sizeof path, "%s/" RECOVERY_POINT_FILE, x->d->path);
	x->recovery_lost = offset_checkpoint_load(path, recovery_row, x, &why) < 0;
	if (x->recovery_lost)
		diag_warning("%s; more of the logs is read instead", why.text);
	snprintf(path, sizeof path, "%s/" LOG_START_FILE, x->d->path);
	if (offset_checkpoint_load(path, log_start_row, x, &why) < 0)
		diag_warning("%s", why.text);
	snprintf(path, sizeof path, "%s/" HIGH_WATERMARK_FILE, x->d->path);
	if (x->b->roles && offset_checkpoint_load(path, high_watermark_row, x, &why) < 0)
		diag_warning("%s; high watermarks are learned from the partitions' leaders", why.text);
	snprintf(path, sizeof path, "%s/" CLEANER_FILE, x->d->path);
	if (offset_checkpoint_load(path, clean_row, x, &why) < 0)
		diag_warning("%s; logs are compacted from their start", why.text);
	snprintf(path, sizeof path, "%s/" VIEW_START_FILE, x->d->path);
	int rc = x->d->foreign || !x->d->partition_count ? 0 : view_start_load(path, start_row, x, &why);
	if (rc == ERR_VERSION || rc == ERR_IO)
		return err_set(e, rc, "%s", why.text);
	if (rc < 0) {
		diag_warning("%s; log starts are taken from the .view files instead", why.text);
		x->d->starts_lost = true;
	}
	x->our_stop = x->d->clean && clean_stop_is_ours(x->d->path);
	x->d->others = x->d->foreign || (x->d->clean && !x->our_stop);
	if (!x->d->starts_lost && (x->our_stop || !x->d->clean))
		topics_list(x->b, starts_at_zero, x);
	snprintf(path, sizeof path, "%s/" PARTITION_STATE_FILE, x->d->path);
	rc = partition_state_load(path, &x->same_boot, state_row, x, &why);
	if (rc == ERR_VERSION)
		return err_set(e, rc, "%s", why.text);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		diag_warning("%s; the partitions are opened instead", why.text);
	return 0;
}

static void adopt_config(void *arg, const char *topic, const char *name, const char *value)
{
	struct loading *x = arg;
	struct topic *t;
	struct err why = ERR_INIT;
	HASH_FIND_STR(x->b->topics, topic, t);
	if (!t || t->internal)
		return;
	/* what would delete messages waits until it is asked for here */
	if (!strncmp(name, "retention.", 10) || !strcmp(name, "cleanup.policy") || !strncmp(name, "local.retention.", 16)) {
		diag_notice("topic %s: Kafka had %s=%s; nothing is deleted until that is set in its .config", topic, name, value);
		return;
	}
	if (topic_adopt_property(t, name, value, &why) < 0)
		diag_notice("topic %s: Kafka's %s=%s is not taken over: %s", topic, name, value, why.text);
}

/* Every partition of a topic whose id was lost somewhere has it in its own file again. */
static void mend_id(struct topic *t)
{
	if (t->id[0] && !t->id_found)
		return;
	if (!t->id[0]) {
		uuid_text_new(t->id);
		diag_warning("topic %s gets a new id: nothing knows the one it had", t->name);
	}
	for (int32_t i = 0; i < t->partition_count; i++) {
		struct err why = ERR_INIT;
		char *path = t->partition[i]->dir ? partition_path(t->partition[i]) : NULL;
		if (path && partition_metadata_write(path, t->id, &why) < 0)
			diag_warning("%s", why.text);
		free(path);
	}
}

static bool load_topic(void *arg, struct topic *t)
{
	struct loading *x = arg;
	struct err why = ERR_INIT;
	bool adopted = t->adopted;
	topic_load_properties(t);
	mend_id(t);
	topic_id_changed(t);
	if (adopted && topic_adopt_property(t, "spoolfs.adopted", "true", &why) < 0)
		diag_error("topic %s: %s", t->name, why.text);
	for (int32_t i = 0; i < t->partition_count; i++)
		if (t->partition[i]->dir && !t->partition[i]->visible_known)
			later(x, t->partition[i]);
	return true;
}

static bool save_topic(void *arg, struct topic *t)
{
	struct loading *x = arg;
	struct err why = ERR_INIT;
	if (t->adopted && !t->damaged && t->partition_count && t->partition[0]->dir && t->partition[0]->dir->foreign && topic_save_properties(t, &why) < 0)
		x->rc = err_set(&x->err, why.code, "%s", why.text);
	return true;
}

static void open_one(void *arg, size_t i)
{
	struct loading *x = arg;
	struct err why = ERR_INIT;
	int rc = partition_acquire(x->open[i], &why);
	if (rc == 0)
		partition_release(x->open[i]);
	else if (rc != ERR_OFFLINE && rc != ERR_DELETED)
		diag_error("%s-%" PRId32 ": %s", x->open[i]->topic->name, x->open[i]->index, why.text);
	size_t done = atomic_fetch_add(&x->opened, 1) + 1;
	if (x->o->progress)
		x->o->progress(x->o->arg, "opening partitions", done, x->open_count);
}

static int load(struct broker *b, const struct broker_options *o, struct err *e)
{
	struct loading x = {.b = b, .o = o};
	int rc = 0;
	for (int i = 0; i < b->dir_count && rc == 0; i++) {
		x.d = &b->dir[i];
		int sys = io_list(x.d->path, found_entry, &x);
		if (sys < 0)
			rc = err_sys(e, sys, "cannot list %s", x.d->path);
		else if (x.rc < 0)
			rc = err_set(e, x.rc, "%s", x.err.text);
		else {
			x.d->foreign &= x.d->partition_count > 0; /* an empty directory is nobody's yet */
			rc = load_checkpoints(&x, e);
		}
	}
	if (rc == 0)
		topics_list(b, load_topic, &x);
	for (int i = 0; i < b->dir_count && rc == 0; i++) {
		struct err why = ERR_INIT;
		if (b->dir[i].foreign && adopt_topic_configs(b->dir[i].path, adopt_config, &x, &why) < 0)
			diag_warning("%s: topic configurations are not taken over: %s", b->dir[i].path, why.text);
	}
	if (rc == 0 && x.rc < 0)
		rc = err_set(e, x.rc, "%s", x.err.text);
	if (rc == 0) {
		pool_for_each(b->pool, x.open_count, open_one, &x);
		topics_list(b, save_topic, &x);
		if (x.rc < 0)
			rc = err_set(e, x.rc, "%s", x.err.text);
	}
	if (rc == 0 && x.deleted)
		agent_delete_later(b->agent, conf_int(b->defaults->topic, "file.delete.delay.ms"));
	free(x.open);
	return rc;
}

/* ---- in use ---- */

static bool note_starts(void *arg, struct topic *t)
{
	(void)arg;
	for (int32_t i = 0; i < t->partition_count; i++) {
		struct partition *p = t->partition[i];
		if (p->visible_known && p->start_offset > p->recorded_offset) {
			p->recorded_offset = p->start_offset;
			p->recorded_position = p->start_position;
		}
	}
	return true;
}

/* From here on the directory is in use: it is marked as ours, its starts are on disk, and the marker of the last clean stop goes. */
static int begin_dirs(struct broker *b, struct err *e)
{
	topics_list(b, note_starts, NULL);
	int rc = log_dirs_record(b, e);
	if (rc == 0 && b->roles)
		rc = broker_look_intact(b, e);
	for (int i = 0; i < b->dir_count && rc == 0; i++) {
		char path[PATH_MAX];
		struct log_dir *d = &b->dir[i];
		if (d->read_only)
			continue;
		pthread_mutex_lock(&d->checkpoint_lock);
		if (d->starts_lost || d->foreign || !d->clean)
			rc = broker_write_starts(b, d, e);
		pthread_mutex_unlock(&d->checkpoint_lock);
		snprintf(path, sizeof path, "%s/" CLEAN_SHUTDOWN_FILE, d->path);
		int sys = rc == 0 ? io_unlink(path) : 0;
		if (sys == 0 && rc == 0) /* a power cut must not bring it back beside logs that were written to since */
			sys = io_fsync_dir(d->path);
		if (sys < 0 && sys != -ENOENT)
			rc = err_sys(e, sys, "cannot remove %s", path);
	}
	return rc;
}

/* ---- failures ---- */

static bool fail_topic(void *arg, struct topic *t)
{
	struct log_dir *d = arg;
	for (int32_t i = 0; i < topic_partition_count(t); i++) {
		struct partition *p = topic_partition(t, i);
		if (p && p->dir == d)
			partition_fail_waiting(p, ERR_OFFLINE, "its log directory is out of service after an I/O error");
		partition_unref(p);
	}
	return true;
}

void broker_dir_failed(struct broker *b, struct log_dir *d, const char *why)
{
	if (atomic_exchange(&d->offline, true))
		return;
	diag_error("log directory %s is out of service from now on: %s. Its partitions answer EIO; the others go on. Mend the disk, then mount again", d->path, why);
	if (b->roles)
		broker_spoil_intact(b);
	topics_list(b, fail_topic, d);
}

int broker_offline_dirs(struct broker *b)
{
	int n = 0;
	for (int i = 0; i < b->dir_count; i++)
		n += b->dir[i].offline;
	return n;
}

/* ---- open and close ---- */

/* Four descriptors a segment, and most of the limit left to others. */
static unsigned open_segments(struct broker *b)
{
	struct rlimit files;
	uint64_t most = (uint64_t)conf_int(b->conf, "log.open.segments.max");
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && most > files.rlim_cur / 2 / DESCRIPTORS_A_SEGMENT)
		most = files.rlim_cur / 2 / DESCRIPTORS_A_SEGMENT;
	return most < 16 ? 16 : (unsigned)most;
}

static void free_broker(struct broker *b)
{
	pool_free(b->pool);
	agent_free(b->agent);
	topics_free_all(b);
	segment_cache_free(b->cache);
	producer_ids_free(b->producer_ids);
	for (int i = 0; i < b->dir_count; i++) {
		dir_lock_release(&b->dir[i].lock);
		pthread_mutex_destroy(&b->dir[i].checkpoint_lock);
		pthread_mutex_destroy(&b->dir[i].rows_lock);
		free(b->dir[i].path);
	}
	free(b->dir);
	wr_release(&b->known_dirs);
	defaults_unref(b->defaults);
	free(b->label);
	pthread_rwlock_destroy(&b->topics_lock);
	pthread_rwlock_destroy(&b->told_lock);
	pthread_mutex_destroy(&b->create_lock);
	pthread_mutex_destroy(&b->defaults_lock);
	for (int i = 0; i < THROTTLE_SIDES; i++)
		pthread_mutex_destroy(&b->throttle[i].lock);
	pthread_mutex_destroy(&b->listen_lock);
	pthread_mutex_destroy(&b->configure_lock);
	free(b);
}

static enum flush_acks flush_acks_of(const char *word)
{
	return !strcmp(word, "always") ? FLUSH_ACKS_ALWAYS : !strcmp(word, "never") ? FLUSH_ACKS_NEVER : FLUSH_ACKS_AUTO;
}

int broker_open(struct broker **out, const struct broker_options *o, struct err *e)
{
	struct broker *b = calloc(1, sizeof *b);
	if (!b)
		return err_set(e, ERR_NO_MEMORY, "no memory for a broker");
	b->conf = o->conf;
	b->read_only = o->read_only;
	b->roles = o->roles;
	b->topic_calls = o->topic_calls;
	b->property_calls = o->property_calls;
	b->flush_acks = flush_acks_of(conf_str(o->conf, "log.flush.acks.all"));
	b->replica_lag_ms = conf_int(o->conf, "replica.lag.time.max.ms");
	wr_init(&b->known_dirs, 0);
	b->id = (int32_t)conf_int(o->conf, "broker.id");
	pthread_rwlock_init(&b->topics_lock, NULL);
	pthread_rwlock_init(&b->told_lock, NULL);
	pthread_mutex_init(&b->create_lock, NULL);
	pthread_mutex_init(&b->defaults_lock, NULL);
	for (int i = 0; i < THROTTLE_SIDES; i++)
		pthread_mutex_init(&b->throttle[i].lock, NULL);
	pthread_mutex_init(&b->listen_lock, NULL);
	pthread_mutex_init(&b->configure_lock, NULL);
	b->label = strdup(o->label ? o->label : "");
	b->defaults = defaults_new(b, NULL, NULL);
	b->cache = segment_cache_new(open_segments(b));
	b->producer_ids = producer_ids_new(b);
	int rc = b->label && b->defaults && b->cache && b->producer_ids ? log_dirs_add(b, o->data, e) : err_set(e, ERR_NO_MEMORY, "no memory for a broker");
	unsigned threads = (unsigned)conf_int(o->conf, "num.recovery.threads.per.data.dir") * (unsigned)(b->dir_count ? b->dir_count : 1) + 2;
	if (conf_bool(o->conf, "log.cleaner.enable"))
		threads += (unsigned)conf_int(o->conf, "log.cleaner.threads");
	if (rc == 0 && !(b->pool = pool_new("worker", threads)))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for worker threads");
	for (int i = 0; i < b->dir_count && rc == 0; i++)
		rc = log_dir_take(b, &b->dir[i], o, e);
	if (rc == 0)
		rc = broker_conf_open(b, e);
	if (rc == 0 && !(b->agent = agent_start(b, e)))
		rc = ERR_LIMIT;
	if (rc == 0)
		rc = load(b, o, e);
	if (rc == 0)
		rc = producer_ids_load(b->producer_ids, e);
	if (rc == 0)
		rc = begin_dirs(b, e);
	if (rc < 0) {
		b->stopping = true;
		agent_stop(b->agent);
		free_broker(b);
		return rc;
	}
	agent_begin(b->agent);
	struct err why = ERR_INIT;
	if (!b->read_only && !(b->cleaner = cleaner_start(b, &why)) && why.code)
		diag_error("%s", why.text);
	*out = b;
	return 0;
}

struct closing { struct broker *b; struct err *err; int rc; };

static bool close_topic(void *arg, struct topic *t)
{
	struct closing *x = arg;
	for (int32_t i = 0; i < t->partition_count; i++) {
		struct partition *p = t->partition[i];
		struct err why = ERR_INIT;
		if (p->dir && p->log && !p->dir->offline) {
			if (!t->broker->read_only)
				partition_remove_deleted(p, NULL);
			if (partition_close(p, &why) < 0 && x->rc == 0)
				x->rc = err_set(x->err, why.code, "%s-%" PRId32 ": %s", t->name, i, why.text);
		}
	}
	return true;
}

int broker_close(struct broker *b, struct err *e)
{
	struct closing x = {.b = b, .err = e};
	b->stopping = true;
	for (int i = 0; i < b->dir_count; i++)
		dir_lock_stopping(&b->dir[i].lock, b->label);
	cleaner_stop(b->cleaner);
	agent_stop(b->agent);
	pool_free(b->pool); /* runs out what was given to it */
	b->pool = NULL;
	cleaner_free(b->cleaner);
	b->cleaner = NULL;
	topics_list(b, close_topic, &x);
	for (int i = 0; i < b->dir_count; i++) {
		if (b->dir[i].offline) {
			if (x.rc == 0)
				x.rc = err_set(e, ERR_IO, "log directory %s failed while it was in use", b->dir[i].path);
			continue;
		}
		struct err why = ERR_INIT;
		if (broker_checkpoint(b, &b->dir[i], x.rc == 0, &why) < 0 && x.rc == 0)
			x.rc = err_set(e, why.code, "%s", why.text);
	}
	free_broker(b);
	return x.rc;
}

void broker_set_remote(struct broker *b, struct remote *r)
{
	b->remote = r;
}

struct remote *broker_remote(const struct broker *b)
{
	return b->remote;
}

int32_t broker_id(const struct broker *b)
{
	return b->id;
}

const char *broker_cluster_id(const struct broker *b)
{
	return b->has_cluster ? b->cluster_id : "";
}

const char *broker_data(const struct broker *b)
{
	return b->dir[0].path;
}

const struct conf *broker_conf(const struct broker *b)
{
	return b->conf;
}

struct pool *broker_pool(struct broker *b)
{
	return b->pool;
}

struct timer_heap *broker_timers(struct broker *b)
{
	return agent_timers(b->agent);
}

int broker_space(struct broker *b, struct broker_space *s, struct err *e)
{
	struct statvfs v;
	int at = 0;
	while (at + 1 < b->dir_count && b->dir[at].offline)
		at++;
	if (statvfs(b->dir[at].path, &v) < 0)
		return err_sys(e, errno, "cannot ask for the space of %s", b->dir[at].path);
	*s = (struct broker_space){(uint64_t)v.f_blocks * v.f_frsize, (uint64_t)v.f_bfree * v.f_frsize, (uint64_t)v.f_bavail * v.f_frsize, v.f_files, v.f_ffree};
	return 0;
}

bool broker_dir(struct broker *b, int index, struct broker_dir *d)
{
	struct statvfs v;
	if (index < 0 || index >= b->dir_count)
		return false;
	*d = (struct broker_dir){.path = b->dir[index].path, .offline = b->dir[index].offline};
	if (!d->offline && statvfs(d->path, &v) == 0) {
		d->total_bytes = (uint64_t)v.f_blocks * v.f_frsize;
		d->available_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	}
	return true;
}
