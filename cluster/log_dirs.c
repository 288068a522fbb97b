/*
 * The log directories: which there are, whether each is there, whose it is, its lock.
 *
 * Once there are several, each keeps in spoolfs.dirs the paths of all that were ever used together. One of those that is not there, or is empty, is a disk that is not
 * mounted: to make it anew would hide its messages and, when the disk is back, those that were written meanwhile.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cluster/model.h"
#include "store/diag.h"
#include "store/io.h"

enum { HOLDER_POLL_MS = 50, HOLDER_GRACE_MS = 300 };

/* ---- which ---- */

/* The real path, also of a directory that is to be made in one that is there. */
static int real_path(const char *path, char real[PATH_MAX], struct err *e)
{
	char above[PATH_MAX];
	if (realpath(path, real))
		return 0;
	if (errno != ENOENT)
		return err_sys(e, errno, "cannot use log directory %s", path);
	snprintf(above, sizeof above, "%s", path);
	size_t n = strlen(above);
	while (n > 1 && above[n - 1] == '/')
		above[--n] = 0;
	char *slash = strrchr(above, '/'), *name = slash ? slash + 1 : above;
	char top[PATH_MAX];
	if (slash)
		*slash = 0;
	if (!realpath(!slash ? "." : *above ? above : "/", top))
		return err_sys(e, errno, "cannot make log directory %s", path);
	if (snprintf(real, PATH_MAX, "%s/%s", strcmp(top, "/") ? top : "", name) >= PATH_MAX)
		return err_set(e, ERR_NAME, "the path %s is too long", path);
	return 0;
}

static int add_dir(struct broker *b, const char *path, struct err *e)
{
	char real[PATH_MAX];
	int rc = real_path(path, real, e);
	if (rc < 0)
		return rc;
	for (int i = 0; i < b->dir_count; i++)
		if (!strcmp(b->dir[i].path, real))
			return 0; /* -d and log.dirs may both name it */
	struct log_dir *more = realloc(b->dir, (size_t)(b->dir_count + 1) * sizeof *more);
	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for log directories");
	b->dir = more;
	struct log_dir *d = &b->dir[b->dir_count];
	*d = (struct log_dir){.lock = {-1}};
	if (!(d->path = strdup(real)))
		return err_set(e, ERR_NO_MEMORY, "no memory for log directories");
	pthread_mutex_init(&d->checkpoint_lock, NULL);
	pthread_mutex_init(&d->rows_lock, NULL);
	b->dir_count++;
	return 0;
}

/* ---- whether they are there ---- */

static void note_known(void *arg, const char *path)
{
	struct broker *b = arg;
	for (int i = 0; i < b->dir_count; i++)
		b->dir[i].known |= !strcmp(b->dir[i].path, path);
	wr_printf(&b->known_dirs, "%s\n", path);
}

static void load_known(struct broker *b, const char *dir)
{
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	snprintf(path, sizeof path, "%s/" LOG_DIRS_FILE, dir);
	int rc = log_dirs_load(path, note_known, b, &why);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		diag_warning("%s; it is made anew", why.text);
}

static int is_of_log(void *arg, const char *name, unsigned char type)
{
	struct dir_entry entry;
	(void)arg;
	(void)type;
	dir_entry_parse(name, &entry);
	return entry.kind != DIR_OTHER || !strcmp(name, "meta.properties");
}

static int check_there(struct broker *b, struct log_dir *d, struct err *e)
{
	struct stat st;
	int sys = io_stat(d->path, &st);
	if (sys == 0 && !S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVALID, "%s is not a directory", d->path);
	if (sys < 0 && sys != -ENOENT)
		return err_sys(e, sys, "cannot use log directory %s", d->path);
	if (d->known && (sys < 0 || io_list(d->path, is_of_log, NULL) == 0))
		return err_set(e, ERR_OFFLINE, "log directory %s %s, but it was in use: is its disk not mounted? If what was in it is gone for good, leave it out of log.dirs or, to "
			       "have it made anew, remove " LOG_DIRS_FILE " from the others (%s, ...)", d->path, sys < 0 ? "is not there" : "is empty", b->dir[d == b->dir].path);
	if (sys < 0 && (sys = io_mkdir(d->path, 0755)) < 0)
		return err_sys(e, sys, "cannot make log directory %s", d->path);
	else if (sys == 0 && d != b->dir && !d->known && io_list(d->path, is_of_log, NULL) == 0)
		diag_notice("log directory %s is a new one", d->path);
	/* what may not be written can be looked at */
	d->read_only = b->read_only && access(d->path, W_OK) < 0;
	return 0;
}

int log_dirs_add(struct broker *b, const char *data, struct err *e)
{
	char *list = strdup(conf_str(b->conf, "log.dirs")), *save;
	int rc = list ? add_dir(b, data, e) : err_set(e, ERR_NO_MEMORY, "no memory for log directories");
	for (char *path = rc == 0 ? strtok_r(list, ", ", &save) : NULL; path && rc == 0; path = strtok_r(NULL, ", ", &save))
		rc = add_dir(b, path, e);
	free(list);
	for (int i = 0; i < b->dir_count && rc == 0; i++)
		load_known(b, b->dir[i].path);
	for (int i = 0; i < b->dir_count && rc == 0; i++)
		rc = check_there(b, &b->dir[i], e);
	return rc;
}

/* All that are used, and those that are known although they are left out now. */
int log_dirs_record(struct broker *b, struct err *e)
{
	struct checkpoint_rows rows;
	int rc = 0;
	if (b->dir_count < 2)
		return 0;
	checkpoint_rows_init(&rows);
	for (int i = 0; i < b->dir_count; i++)
		log_dirs_row(&rows, b->dir[i].path);
	for (const char *p = (const char *)b->known_dirs.data, *end = p + b->known_dirs.len, *nl; p < end; p = nl + 1) {
		char path[PATH_MAX];
		nl = memchr(p, '\n', (size_t)(end - p));
		snprintf(path, sizeof path, "%.*s", (int)(nl - p), p);
		log_dirs_row(&rows, path);
	}
	for (int i = 0; i < b->dir_count && rc == 0; i++) {
		char path[PATH_MAX];
		snprintf(path, sizeof path, "%s/" LOG_DIRS_FILE, b->dir[i].path);
		if (!b->dir[i].read_only)
			rc = log_dirs_write(path, &rows, e);
	}
	checkpoint_rows_release(&rows);
	return rc;
}

/* ---- lock, and whose they are ---- */

/* Takes the lock; waits for a holder that is on its way out, refuses one that serves. A holder whose mount is gone is given a moment to say that it
 * is stopping: the mount goes before it can notice. */
static int lock_dir(struct log_dir *d, const struct broker_options *o, struct err *e)
{
	struct dir_holder *holder = calloc(1, sizeof *holder);
	if (!holder)
		return err_set(e, ERR_NO_MEMORY, "no memory to lock %s", d->path);
	int rc;
	for (int waited_ms = 0;; waited_ms += HOLDER_POLL_MS) {
		rc = d->read_only ? dir_lock_share(&d->lock, d->path, holder, e) : dir_lock_take(&d->lock, d->path, o->label, holder, e);
		if (rc != ERR_BUSY)
			break;
		bool gone = holder->stopping || !holder->label[0] || (o->holder_is_gone && o->holder_is_gone(o->arg, holder->label));
		if (!gone || waited_ms >= (holder->label[0] ? o->wait_ms : HOLDER_GRACE_MS))
			break;
		nanosleep(&(struct timespec){.tv_nsec = HOLDER_POLL_MS * 1000000L}, NULL);
	}
	free(holder);
	return rc;
}

static bool has_file(const struct log_dir *d, const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	snprintf(path, sizeof path, "%s/%s", d->path, name);
	return io_stat(path, &st) == 0;
}

/* Whose directory it is. A file of our own marks it as ours; without any but with partitions it is Kafka's. */
static int look_at(struct broker *b, struct log_dir *d, struct err *e)
{
	struct dir_meta meta = {0};
	struct err why = ERR_INIT;
	int rc = dir_meta_load(d->path, &meta, &why);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		return err_set(e, rc, "%s", why.text);
	d->starts_lost = !has_file(d, VIEW_START_FILE);
	d->foreign = d->starts_lost && !has_file(d, PARTITION_STATE_FILE) && !has_file(d, RESERVE_FILE);
	d->clean = has_file(d, CLEAN_SHUTDOWN_FILE);
	if (d->read_only && !(d->clean && clean_stop_is_ours(d->path)))
		return err_set(e, ERR_READ_ONLY, "%s may not be written, and was not stopped cleanly by spoolfs: what a start has to make anew there cannot be made. "
			       "spoolfs dump shows what is in it", d->path);
	if (rc == ERR_NOT_FOUND && !d->read_only) {
		meta = (struct dir_meta){.version = 0, .broker_id = b->id};
		if (!b->roles) /* else it takes part in whichever it finds (broker_enter_cluster) */
			uuid_text_new(meta.cluster_id);
		rc = dir_meta_write(d->path, &meta, e);
		if (rc < 0)
			return err_context(e, "log directory %s cannot be written (to look at it, use spoolfs dump)", d->path);
	} else if (rc == 0 && meta.broker_id >= 0 && !conf_is_set(b->conf, "broker.id", false)) {
		b->id = meta.broker_id;
	} else if (rc == 0 && meta.broker_id >= 0 && meta.broker_id != b->id && b->roles) {
		return err_set(e, ERR_INVALID, "log directory %s is that of broker %" PRId32 ", and broker.id=%" PRId32 ": in a cluster a broker keeps its id", d->path, meta.broker_id, b->id);
	}
	if (!*b->cluster_id)
		snprintf(b->cluster_id, sizeof b->cluster_id, "%s", meta.cluster_id);
	b->has_cluster = *b->cluster_id;
	return 0;
}

int log_dir_take(struct broker *b, struct log_dir *d, const struct broker_options *o, struct err *e)
{
	int rc = lock_dir(d, o, e);
	return rc == 0 ? look_at(b, d, e) : rc;
}
