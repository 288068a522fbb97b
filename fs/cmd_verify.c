#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/cmd_verify.h"
#include "fs/commands.h"
#include "fs/progress.h"
#include "fs/remote_command.h"
#include "store/dirs.h"
#include "store/io.h"
#include "store/pool.h"

static const char command[] = "spoolfs verify";


struct log_dir {
	const char *path;               /* borrowed from argv */
	struct partition_check *partition;
	size_t count, cap;
	struct partition_row *states;   /* owned: rows of the partition-state-checkpoint, pointed at by the partitions */
	size_t state_count, state_cap;
	const struct conf_schema *schema; /* borrowed */
	bool ours;                      /* spoolfs has written in it */
	bool starts_at_zero;            /* a partition without a row starts at (0, 0); not where Kafka may have had it since */
	struct faults faults, notes;
	bool failed;                    /* no memory */
};

struct verify {
	struct log_dir *dir;
	size_t dir_count;
	struct segment_check **segment; /* of all partitions, the largest first */
	size_t segment_count;
	uint64_t total_bytes;
	_Atomic uint64_t done_bytes;
	struct progress progress;
	struct conf_schema *schema;
	bool unreadable;
};

/* ---- the names in a log directory ---- */

static bool is_known(const char *name)
{
	static const char *const names[] = {
		".lock", "meta.properties", CLEANER_FILE, RECOVERY_POINT_FILE, LOG_START_FILE, HIGH_WATERMARK_FILE, VIEW_START_FILE, PARTITION_STATE_FILE, RESERVE_FILE, LOG_DIRS_FILE,
		DATA_ID_FILE, INTACT_FILE, SESSION_FILE,
		CLEAN_SHUTDOWN_FILE, DYNAMIC_FILE, DYNAMIC_FALLBACK_FILE, PRODUCER_IDS_FILE, "bootstrap.checkpoint", "spoolfs.log", "spoolfs.log.1",
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static bool add_partition(struct log_dir *d, const struct dir_entry *entry, const char *name)
{
	if (d->count == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 64;
		struct partition_check *p = realloc(d->partition, cap * sizeof *p);
		if (!p)
			return false;
		d->partition = p;
		d->cap = cap;
	}
	struct partition_check *p = &d->partition[d->count];
	*p = (struct partition_check){.partition = entry->partition, .recovery_point = -1, .high_watermark = -1, .pair_offset = -1, .pair_position = -1};
	memcpy(p->topic, entry->topic, sizeof p->topic);
	if (asprintf(&p->dir, "%s/%s", d->path, name) < 0)
		return false;
	d->count++;
	return true;
}

static int take_name(void *arg, const char *name, unsigned char type)
{
	struct log_dir *d = arg;
	struct dir_entry entry;
	char path[PATH_MAX];
	dir_entry_parse(name, &entry);
	if (type == DT_DIR && entry.kind == DIR_PARTITION)
		return add_partition(d, &entry, name) ? 0 : -ENOMEM;
	snprintf(path, sizeof path, "%s/%s", d->path, name);
	if (type == DT_DIR && entry.kind == DIR_DELETED)
		fault(&d->notes, path, "a deleted partition, to be removed at the next start");
	else if (!is_known(name))
		fault(&d->notes, path, "not of spoolfs or Kafka");
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct partition_check *x = a, *y = b;
	int c = strcmp(x->topic, y->topic);
	return c ? c : x->partition < y->partition ? -1 : x->partition > y->partition;
}

/* ---- its checkpoints ---- */

static struct partition_check *find_partition(struct log_dir *d, const char *topic, int32_t partition)
{
	struct partition_check wanted = {.partition = partition};
	snprintf(wanted.topic, sizeof wanted.topic, "%s", topic);
	return d->count ? bsearch(&wanted, d->partition, d->count, sizeof wanted, by_name) : NULL;
}

static void take_recovery_point(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	struct partition_check *p = find_partition(arg, topic, partition);
	if (p)
		p->recovery_point = offset;
}

static void take_high_watermark(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	struct partition_check *p = find_partition(arg, topic, partition);
	if (p)
		p->high_watermark = offset;
}

static void take_log_start(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	struct partition_check *p = find_partition(arg, topic, partition);
	if (p)
		p->log_start = offset;
}

/* What a cleaner has been through has gaps. */
static void take_cleaned(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	struct partition_check *p = find_partition(arg, topic, partition);
	if (p && offset > 0)
		p->compacted = true;
}

static void take_start(void *arg, const struct start_row *r)
{
	struct partition_check *p = find_partition(arg, r->topic, r->partition);
	if (!p)
		return;
	p->pair_offset = r->offset;
	p->pair_position = r->position;
	memcpy(p->topic_id, r->topic_id, sizeof p->topic_id);
}

static void take_state(void *arg, const struct partition_row *r)
{
	struct log_dir *d = arg;
	if (d->failed || !find_partition(d, r->topic, r->partition))
		return;
	if (d->state_count == d->state_cap) {
		size_t cap = d->state_cap ? 2 * d->state_cap : 64;
		struct partition_row *more = realloc(d->states, cap * sizeof *more);
		d->failed = !more;
		if (d->failed)
			return;
		d->states = more;
		d->state_cap = cap;
	}
	d->states[d->state_count++] = *r;
}

static void load_offsets(struct log_dir *d, const char *name, offset_row_fn fn)
{
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	snprintf(path, sizeof path, "%s/%s", d->path, name);
	if (offset_checkpoint_load(path, fn, d, &why) < 0)
		fault(&d->faults, path, "%s", why.text);
}

static void load_checkpoints(struct log_dir *d)
{
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	struct dir_meta meta;
	struct stat st;
	bool same_boot;
	load_offsets(d, RECOVERY_POINT_FILE, take_recovery_point);
	load_offsets(d, HIGH_WATERMARK_FILE, take_high_watermark);
	load_offsets(d, LOG_START_FILE, take_log_start);
	load_offsets(d, CLEANER_FILE, take_cleaned);
	snprintf(path, sizeof path, "%s/" VIEW_START_FILE, d->path);
	int rc = view_start_load(path, take_start, d, &why);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		fault(&d->faults, path, "%s", why.text);
	bool starts = rc == 0;
	rc = dir_meta_load(d->path, &meta, &why);
	if (rc < 0 && (rc != ERR_NOT_FOUND || d->count))
		fault(&d->faults, d->path, "%s", why.text);
	snprintf(path, sizeof path, "%s/" PARTITION_STATE_FILE, d->path);
	rc = partition_state_load(path, &same_boot, take_state, d, &why);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		fault(&d->faults, path, "%s", why.text);
	d->ours = starts || rc != ERR_NOT_FOUND;
	/* after an unclean stop it may be older than the logs */
	snprintf(path, sizeof path, "%s/" CLEAN_SHUTDOWN_FILE, d->path);
	bool clean = io_stat(path, &st) == 0;
	for (size_t i = 0; i < d->state_count && clean; i++)
		find_partition(d, d->states[i].topic, d->states[i].partition)->state = &d->states[i];
	d->starts_at_zero = starts && (!clean || clean_stop_is_ours(d->path));
}

static int load_dir(struct log_dir *d, struct err *e)
{
	faults_init(&d->faults);
	faults_init(&d->notes);
	int sys = io_list(d->path, take_name, d);
	if (sys < 0)
		return err_sys(e, sys, "cannot list %s", d->path);
	if (d->count)
		qsort(d->partition, d->count, sizeof *d->partition, by_name);
	load_checkpoints(d);
	for (size_t i = 0; i < d->count; i++) {
		d->partition[i].schema = d->schema;
		d->partition[i].ours = d->ours;
		d->partition[i].starts_at_zero = d->starts_at_zero;
	}
	return d->failed ? err_set(e, ERR_NO_MEMORY, "no memory for %s", d->path) : 0;
}

/* ---- going through it all ---- */

static int by_size(const void *a, const void *b)
{
	const struct segment_check *x = *(struct segment_check *const *)a, *y = *(struct segment_check *const *)b;
	return x->size_bytes > y->size_bytes ? -1 : x->size_bytes < y->size_bytes;
}

/* The largest first: then no thread is left alone with one at the end. */
static int gather_segments(struct verify *v, struct err *e)
{
	for (size_t i = 0; i < v->dir_count; i++)
		for (size_t k = 0; k < v->dir[i].count; k++)
			v->segment_count += v->dir[i].partition[k].segment_count;
	v->segment = calloc(v->segment_count + 1, sizeof *v->segment);
	if (!v->segment)
		return err_set(e, ERR_NO_MEMORY, "no memory for %zu segments", v->segment_count);
	size_t n = 0;
	for (size_t i = 0; i < v->dir_count; i++)
		for (size_t k = 0; k < v->dir[i].count; k++)
			for (size_t s = 0; s < v->dir[i].partition[k].segment_count; s++) {
				v->segment[n] = &v->dir[i].partition[k].segment[s];
				v->total_bytes += v->segment[n++]->size_bytes;
			}
	qsort(v->segment, v->segment_count, sizeof *v->segment, by_size);
	return 0;
}

static void show_progress(void *arg, uint64_t bytes)
{
	struct verify *v = arg;
	progress_show(&v->progress, "verifying", atomic_fetch_add(&v->done_bytes, bytes) + bytes, v->total_bytes);
}

static void run_segment(void *arg, size_t i)
{
	struct verify *v = arg;
	verify_segment(v->segment[i], show_progress, v);
}

static int run_all(struct verify *v, struct err *e)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct pool *pool = pool_new("verify", cpus > 1 ? (unsigned)cpus : 1);
	if (!pool)
		return err_set(e, ERR_NO_MEMORY, "no memory");
	pool_for_each(pool, v->segment_count, run_segment, v);
	progress_clear(&v->progress);
	pool_free(pool);
	return 0;
}

static size_t print_partition(struct partition_check *p)
{
	size_t n = p->faults.count;
	faults_print(&p->faults, p->dir);
	for (size_t i = 0; i < p->segment_count; i++) {
		char path[PATH_MAX];
		segment_path(p->dir, p->segment[i].base_offset, "", path, sizeof path);
		faults_print(&p->segment[i].faults, path);
		n += p->segment[i].faults.count;
	}
	return n;
}

static void print_notes(const struct faults *notes)
{
	const char *text = (const char *)notes->text.data, *end = text + notes->text.len;
	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		printf("note: %.*s\n", (int)(nl - text), text);
		text = nl + 1;
	}
}

static size_t report(struct verify *v)
{
	size_t faults = 0, partitions = 0;
	for (size_t i = 0; i < v->dir_count; i++) {
		struct log_dir *d = &v->dir[i];
		faults_print(&d->faults, d->path);
		faults += d->faults.count;
		partitions += d->count;
		for (size_t k = 0; k < d->count; k++)
			faults += print_partition(&d->partition[k]);
		print_notes(&d->notes);
		for (size_t k = 0; k < d->count; k++)
			print_notes(&d->partition[k].notes);
	}
	printf("%zu partition%s, %zu segment%s, %" PRIu64 " bytes: %zu fault%s\n", partitions, partitions == 1 ? "" : "s", v->segment_count, v->segment_count == 1 ? "" : "s",
	       v->total_bytes, faults, faults == 1 ? "" : "s");
	return faults;
}

/* Whoever writes there now would be taken for damage. */
static int check_unused(const struct verify *v, struct err *e)
{
	for (size_t i = 0; i < v->dir_count; i++) {
		struct dir_holder h;
		int rc = dir_lock_holder(v->dir[i].path, &h, e);
		if (rc < 0)
			return rc;
		if (rc && h.pid)
			return err_set(e, ERR_BUSY, "%s is in use by process %d%s%s%s first", v->dir[i].path, (int)h.pid,
				       *h.label == '/' ? ", mounted at " : *h.label ? " (" : "", h.label, *h.label == '/' ? "; unmount it" : *h.label ? "); stop it" : "; stop it");
		if (rc)
			return err_set(e, ERR_BUSY, "%s is in use by a process that cannot be seen from here", v->dir[i].path);
	}
	return 0;
}

/* A mount takes the one it finds first. */
static void check_twice(struct verify *v, size_t i)
{
	for (size_t k = 0; k < v->dir[i].count; k++)
		for (size_t before = 0; before < i; before++) {
			const struct partition_check *p = &v->dir[i].partition[k], *other = find_partition(&v->dir[before], p->topic, p->partition);
			if (other)
				fault(&v->dir[i].faults, p->dir, "the partition is in %s too: one of them is left out by a mount", other->dir);
		}
}

static int verify_run(struct verify *v, size_t *faults, struct err *e)
{
	int rc = check_unused(v, e);
	if (rc == 0 && !(v->schema = commands_schema()))
		rc = err_set(e, ERR_NO_MEMORY, "no memory");
	for (size_t i = 0; i < v->dir_count && rc == 0; i++) {
		v->dir[i].schema = v->schema;
		if ((rc = load_dir(&v->dir[i], e)) == 0)
			check_twice(v, i);
	}
	for (size_t i = 0; i < v->dir_count && rc == 0; i++)
		for (size_t k = 0; k < v->dir[i].count; k++) {
			struct err why = ERR_INIT;
			if (verify_partition_load(&v->dir[i].partition[k], &why) == 0)
				continue;
			command_say(command, "%s", why.text);
			v->unreadable = true;
		}
	if (rc < 0 || (rc = gather_segments(v, e)) < 0 || (rc = run_all(v, e)) < 0)
		return rc;
	for (size_t i = 0; i < v->dir_count; i++)
		for (size_t k = 0; k < v->dir[i].count; k++)
			verify_partition_join(&v->dir[i].partition[k]);
	*faults = report(v);
	return *faults ? check_unused(v, e) : 0;
}

static void verify_release(struct verify *v)
{
	for (size_t i = 0; i < v->dir_count; i++) {
		struct log_dir *d = &v->dir[i];
		for (size_t k = 0; k < d->count; k++)
			verify_partition_release(&d->partition[k]);
		free(d->partition);
		free(d->states);
		faults_release(&d->faults);
		faults_release(&d->notes);
	}
	conf_schema_free(v->schema);
	free(v->segment);
	free(v->dir);
}

static int verify_dirs(char **name, int count)
{
	struct verify v = {.dir = calloc((size_t)count, sizeof *v.dir), .dir_count = (size_t)count};
	struct err e = ERR_INIT;
	size_t faults = 0;
	if (!v.dir) {
		command_say(command, "no memory");
		return EXIT_USAGE;
	}
	for (int i = 0; i < count; i++)
		v.dir[i].path = name[i];
	progress_init(&v.progress);
	int rc = verify_run(&v, &faults, &e);
	progress_end(&v.progress);
	if (rc < 0)
		command_say(command, "%s", e.text);
	int status = rc < 0 || v.unreadable ? EXIT_USAGE : faults ? EXIT_FAILURE : EXIT_SUCCESS;
	verify_release(&v);
	return status;
}

/* ---- the command ---- */

enum { OPT_CLUSTER = 0x100 };

struct args {
	char **name;             /* log directories; with --cluster: topics */
	int count;
	bool cluster, remote;    /* --cluster; an option that goes with it */
	const char *bootstrap;
	int timeout_ms;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct args *a = state->input;
	int64_t n;
	switch (key) {
	case OPT_CLUSTER:
		a->cluster = true;
		return 0;
	case 'b':
		a->bootstrap = arg;
		a->remote = true;
		return 0;
	case 't':
		if (!remote_parse_number(arg, &n) || n < 1 || n > 86400)
			argp_error(state, "'%s' is not a number of seconds", arg);
		a->timeout_ms = (int)n * 1000;
		a->remote = true;
		return 0;
	case ARGP_KEY_ARG:
		a->name[a->count++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->cluster && a->remote)
			argp_error(state, "--bootstrap-server and --timeout go with --cluster");
		else if (!a->cluster && !a->count)
			argp_error(state, "which directory of messages?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_verify(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"cluster", OPT_CLUSTER, NULL, 0, "Compare the replicas of a running cluster, of these topics or of all", 1},
		{"bootstrap-server", 'b', "HOST[:PORT],...", 0, "With --cluster: a broker of it; default localhost:9092", 1},
		{"timeout", 't', "SECONDS", 0, "With --cluster: how long to wait for an answer; default 30", 1},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "DATA...\n--cluster [TOPIC...]",
		.doc = "Check every batch, record, index entry and view entry of the log directory DATA (of each, where there are several), which must not be mounted; or whether all replicas of a running cluster hold the same."
		       "\vEach fault is a line on stdout. Exit status: 0 without a fault, 1 with one, 2 where something could not be checked. "
		       "The manual is spoolfs-verify(1).",
	};
	struct args a = {.name = calloc((size_t)argc, sizeof *a.name), .bootstrap = "localhost:9092", .timeout_ms = CLIENT_TIMEOUT_MS};
	if (!a.name) {
		command_say(command, "no memory");
		return EXIT_USAGE;
	}
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	int status = a.cluster ? verify_cluster(a.bootstrap, a.timeout_ms, a.name, a.count) : verify_dirs(a.name, a.count);
	free(a.name);
	return command_flush(command) ? status : EXIT_USAGE;
}
