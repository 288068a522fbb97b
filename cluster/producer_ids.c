#include "cluster/producer_ids.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/adopt.h"
#include "cluster/model.h"
#include "store/diag.h"
#include "store/io.h"
#include "store/scan.h"

enum { BLOCK = 1000, FILE_LIMIT = 1 << 20, VERSION = 1, DAMAGE_SKIP = 1000000, READ_BYTES = 4096, CRC_LINE = 13 /* "crc XXXXXXXX\n" */ };
static const int64_t BELIEVED = INT64_C(1) << 62;

struct producer_ids {
	struct broker *broker;
	_Atomic int64_t seen;        /* greatest id seen in logs and requests; -1: none */

	pthread_mutex_t write_lock;  /* the file, and the three below */
	int64_t recorded;            /* what the file says; 0 where there is none */
	bool damaged;                /* it cannot be read */
	bool *searched;              /* of each log directory; changed by the job alone */

	pthread_mutex_t lock;
	int64_t next, end;           /* to be given: reserved on disk */
	struct init_producer_id *waiting, **tail;
	bool running;                /* the job that reserves */
	struct pool_job job;
};

static void reserve(struct pool_job *job);

static bool of_cluster(const struct producer_ids *p)
{
	return p->broker->roles && p->broker->roles->producer_ids;
}

struct producer_ids *producer_ids_new(struct broker *b)
{
	struct producer_ids *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->broker = b;
	p->seen = -1;
	p->tail = &p->waiting;
	p->job.run = reserve;
	pthread_mutex_init(&p->write_lock, NULL);
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

void producer_ids_free(struct producer_ids *p)
{
	if (!p)
		return;
	pthread_mutex_destroy(&p->write_lock);
	pthread_mutex_destroy(&p->lock);
	free(p->searched);
	free(p);
}

void producer_ids_seen(struct broker *b, int64_t producer_id)
{
	struct producer_ids *p = b->producer_ids;
	int64_t seen = atomic_load_explicit(&p->seen, memory_order_relaxed);
	while (producer_id > seen && producer_id < BELIEVED && !atomic_compare_exchange_weak(&p->seen, &seen, producer_id))
		;
}

/* ---- the file ---- */

static void file_path(const struct producer_ids *p, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/" PRODUCER_IDS_FILE, p->broker->dir[0].path);
}

/* locks: write_lock, or nobody else has p yet. */
static int write_file(struct producer_ids *p, int64_t next, struct err *e)
{
	char path[PATH_MAX];
	struct wr w;
	wr_init(&w, 0);
	wr_printf(&w, "%d\nnext %" PRId64 "\n", VERSION, next);
	for (int i = 0; i < p->broker->dir_count; i++)
		if (p->searched[i])
			wr_printf(&w, "dir %s\n", p->broker->dir[i].path);
	wr_printf(&w, "crc %08" PRIx32 "\n", crc32c(0, w.data, w.len));
	file_path(p, path);
	int sys = w.failed ? -ENOMEM : io_replace_file(path, w.data, w.len, true);
	wr_release(&w);
	if (sys < 0)
		return err_sys(e, sys, "cannot write %s", path);
	p->recorded = next;
	p->damaged = false;
	return 0;
}

/* Above all that are known; with the file damaged, well above. locks: write_lock. */
static int64_t first_free(const struct producer_ids *p)
{
	int64_t free_from = p->seen + 1 > p->recorded ? p->seen + 1 : p->recorded;
	return p->damaged ? free_from + DAMAGE_SKIP : free_from;
}

static void take_dir(struct producer_ids *p, const char *path)
{
	for (int i = 0; i < p->broker->dir_count; i++)
		p->searched[i] |= !strcmp(p->broker->dir[i].path, path);
}

/* Its lines, in place. */
static int parse(struct producer_ids *p, char *text, size_t n, const char *path, struct err *e)
{
	int version = 0, end = 0;
	char *line, *save;
	uint32_t crc;
	if (sscanf(text, "%d", &version) == 1 && version > VERSION)
		return err_set(e, ERR_VERSION, "%s has version %d: a newer spoolfs wrote it", path, version);
	if (n < CRC_LINE || strlen(text) != n || sscanf(text + n - CRC_LINE, "crc %8" SCNx32 "\n%n", &crc, &end) != 1 || end != CRC_LINE || crc != crc32c(0, text, n - CRC_LINE))
		return err_set(e, ERR_CORRUPT, "%s is damaged", path);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		sscanf(line, "next %" SCNd64, &p->recorded);
		if (!strncmp(line, "dir ", 4))
			take_dir(p, line + 4);
	}
	return p->recorded < 0 ? err_set(e, ERR_CORRUPT, "%s: the next id cannot be %" PRId64, path, p->recorded) : 0;
}

static int read_file(struct producer_ids *p, bool *there, struct err *e)
{
	char path[PATH_MAX], *text;
	struct err why = ERR_INIT;
	size_t n;
	file_path(p, path);
	int sys = io_read_file(path, FILE_LIMIT, &text, &n);
	*there = sys == 0;
	if (sys == -ENOENT)
		return 0;
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", path);
	int rc = parse(p, text, n, path, &why);
	free(text);
	if (rc == ERR_CORRUPT) {
		diag_warning("%s; producer ids go on far above those that the logs have", why.text);
		memset(p->searched, 0, (size_t)p->broker->dir_count * sizeof *p->searched);
		p->recorded = 0;
		p->damaged = true;
		return 0;
	}
	return rc < 0 ? err_set(e, rc, "%s", why.text) : 0;
}

int producer_ids_load(struct producer_ids *p, struct err *e)
{
	bool there, forget = false;
	p->searched = calloc((size_t)p->broker->dir_count, sizeof *p->searched);
	if (!p->searched)
		return err_set(e, ERR_NO_MEMORY, "no memory for producer ids");
	int rc = read_file(p, &there, e);
	for (int i = 0; i < p->broker->dir_count && rc == 0; i++) {
		if (!p->broker->dir[i].others || !p->searched[i])
			continue;
		p->searched[i] = false;
		forget = true;
	}
	return rc == 0 && there && forget ? write_file(p, p->recorded, e) : rc;
}

int producer_ids_settle(struct producer_ids *p, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&p->write_lock);
	if (p->seen + 1 > p->recorded)
		rc = write_file(p, first_free(p), e);
	pthread_mutex_unlock(&p->write_lock);
	return rc;
}

/* ---- searching ---- */

struct search {
	struct broker *broker;
	struct log_dir *dir;
	const char *path;   /* of the partition */
	int64_t greatest;
	int rc;
	struct err *err;
};

static void found(struct search *x, int64_t id)
{
	if (id > x->greatest)
		x->greatest = id;
}

/* Every batch header of a .log. What is damaged is gone past, as far as a whole batch follows. */
static int search_log(struct search *x, const char *path)
{
	struct stat st;
	struct scan scan;
	struct batch b;
	struct err why = ERR_INIT;
	uint32_t position;
	int fd = io_open(path, O_RDONLY, 0), rc = 0, sys;
	if (fd == -ENOENT)
		return 0; /* retention was quicker */
	if (fd < 0)
		return err_sys(x->err, fd, "cannot open %s", path);
	if ((sys = io_fstat(fd, &st)) < 0)
		rc = err_sys(x->err, sys, "cannot look at %s", path);
	scan_init(&scan, fd, 0, rc == 0 && st.st_size <= UINT32_MAX ? (uint32_t)st.st_size : 0, READ_BYTES);
	while (rc == 0) {
		if (x->broker->stopping) {
			rc = err_set(x->err, ERR_STOPPING, "the broker is stopping");
			break;
		}
		rc = scan_next_header(&scan, &b, &position, &why);
		if (rc == ERR_CORRUPT || rc == ERR_UNSUPPORTED)
			rc = scan_find_valid(fd, scan.at + 1, scan.end, 0, &scan.at, &why);
		else if (rc == 1)
			found(x, b.producer_id);
		if (rc == 0)
			break;
		rc = rc == 1 ? 0 : err_set(x->err, rc, "%s: %s", path, why.text);
	}
	scan_release(&scan);
	io_close(fd);
	return rc;
}

static int search_snapshot(struct search *x, const char *path)
{
	struct err why = ERR_INIT;
	struct producers *state = producers_new();
	int rc = state ? producers_load(state, path, 0, &why) : ERR_NO_MEMORY;
	if (rc == 0)
		found(x, producers_greatest_id(state));
	producers_free(state);
	if (rc == 0 || rc == ERR_NOT_FOUND || rc == ERR_CORRUPT) /* the log has what it had */
		return 0;
	return err_set(x->err, rc, "%s", rc == ERR_NO_MEMORY ? "no memory to search logs for producer ids" : why.text);
}

static int search_file(void *arg, const char *name, unsigned char type)
{
	struct search *x = arg;
	char path[PATH_MAX];
	if (type != DT_REG || strspn(name, "0123456789") != 20)
		return 0;
	snprintf(path, sizeof path, "%s/%s", x->path, name);
	if (!strcmp(name + 20, ".log"))
		x->rc = search_log(x, path);
	else if (!strcmp(name + 20, ".snapshot"))
		x->rc = search_snapshot(x, path);
	return x->rc;
}

static bool search_topic(void *arg, struct topic *t)
{
	struct search *x = arg;
	for (int32_t i = 0; i < topic_partition_count(t) && x->rc == 0 && !t->deleted; i++) {
		struct partition *p = topic_partition(t, i);
		char *path = p && p->dir == x->dir ? partition_path(p) : NULL;
		x->path = path;
		int sys = path ? io_list(path, search_file, x) : 0;
		if (sys < 0 && x->rc == 0 && sys != -ENOENT)
			x->rc = err_sys(x->err, sys, "cannot search %s for producer ids", path);
		free(path);
		partition_unref(p);
	}
	return x->rc == 0;
}

/* The directories that were not, until now; *now tells which. */
static int search_dirs(struct producer_ids *p, bool *now, struct err *e)
{
	struct search x = {.broker = p->broker, .greatest = -1, .err = e};
	for (int i = 0; i < p->broker->dir_count && x.rc == 0; i++) {
		if (p->searched[i])
			continue;
		x.dir = &p->broker->dir[i];
		topics_list(p->broker, search_topic, &x);
		if (x.rc == 0)
			x.rc = adopt_txn_greatest_id(x.dir->path, &x.greatest, e);
		now[i] = true;
	}
	if (x.rc == 0)
		producer_ids_seen(p->broker, x.greatest);
	return x.rc;
}

/* ---- giving ---- */

static void finish(struct init_producer_id *r, int code, int64_t id)
{
	r->code = code;
	r->producer_id = code == 0 ? id : -1;
	r->producer_epoch = code == 0 ? 0 : -1;
	r->done(r);
}

/* locks: lock. false: no block is left. A cluster's block is this broker's alone, whatever ids of others' blocks are seen here. */
static bool take(struct producer_ids *p, int64_t *id)
{
	if (p->next <= p->seen && !of_cluster(p))
		p->next = p->seen + 1;
	if (p->next >= p->end)
		return false;
	*id = p->next++;
	return true;
}

/* In a cluster ZooKeeper has the next block. Ours are not given again, even if that is emptied: they go to the file all the same. */
static int find_block(struct producer_ids *p, int64_t *from, int64_t *end, struct err *e)
{
	const struct role_calls *calls = p->broker->roles;
	if (*from > INT64_MAX - BLOCK)
		return err_set(e, ERR_LIMIT, "all producer ids have been given");
	*end = *from + BLOCK;
	if (!of_cluster(p))
		return 0;
	int64_t last;
	int rc = calls->producer_ids(calls->arg, *from, from, &last, e);
	*end = last + 1;
	return rc;
}

/* thread: one at a time. */
static int reserve_block(struct producer_ids *p, struct err *e)
{
	bool *now = calloc((size_t)p->broker->dir_count, sizeof *now);
	int rc = now ? search_dirs(p, now, e) : err_set(e, ERR_NO_MEMORY, "no memory to search log directories");
	int64_t end = 0;
	pthread_mutex_lock(&p->write_lock);
	int64_t from = first_free(p);
	pthread_mutex_unlock(&p->write_lock);
	if (rc == 0)
		rc = find_block(p, &from, &end, e);
	pthread_mutex_lock(&p->write_lock);
	for (int i = 0; i < p->broker->dir_count && rc == 0; i++)
		p->searched[i] |= now[i];
	if (rc == 0)
		rc = write_file(p, end > p->recorded ? end : p->recorded, e);
	pthread_mutex_unlock(&p->write_lock);
	free(now);
	if (rc == 0) {
		pthread_mutex_lock(&p->lock);
		p->next = from;
		p->end = end;
		pthread_mutex_unlock(&p->lock);
	}
	return rc;
}

/* The first that waits, with an id or, where there is an error, without; NULL: none, or no id is left. */
static struct init_producer_id *next_served(struct producer_ids *p, int rc, int64_t *id)
{
	pthread_mutex_lock(&p->lock);
	struct init_producer_id *r = p->waiting;
	if (r && (rc < 0 || take(p, id))) {
		if (!(p->waiting = r->next))
			p->tail = &p->waiting;
	} else {
		r = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

/* thread: the pool's. */
static void reserve(struct pool_job *job)
{
	struct producer_ids *p = (struct producer_ids *)((char *)job - offsetof(struct producer_ids, job));
	for (;;) {
		struct err why = ERR_INIT;
		struct init_producer_id *r;
		int64_t id = -1;
		pthread_mutex_lock(&p->lock);
		if (!p->waiting) {
			p->running = false;
			pthread_mutex_unlock(&p->lock);
			return;
		}
		pthread_mutex_unlock(&p->lock);
		int rc = p->broker->stopping ? err_set(&why, ERR_STOPPING, "the broker is stopping") : reserve_block(p, &why);
		while ((r = next_served(p, rc, &id))) {
			r->err = why;
			finish(r, rc, id);
		}
	}
}

/* The request as such; 0: it gets an id. */
static int check_request(struct init_producer_id *r)
{
	if ((r->producer_id == -1) != (r->producer_epoch == -1))
		return err_set(&r->err, ERR_INVALID, "producer id %" PRId64 " and epoch %d do not go together", r->producer_id, r->producer_epoch);
	if (r->transactional_id && !*r->transactional_id)
		return err_set(&r->err, ERR_INVALID, "the transactional id is empty");
	if (r->transactional_id)
		return err_set(&r->err, ERR_UNSUPPORTED, "there are no transactions here: a producer with a transactional id cannot be initialized");
	return 0;
}

void producer_ids_init(struct broker *b, struct init_producer_id *r)
{
	struct producer_ids *p = b->producer_ids;
	int64_t id = -1;
	bool start = false;
	r->next = NULL;
	r->err = (struct err)ERR_INIT;
	int rc = check_request(r);
	if (rc == 0 && b->stopping)
		rc = err_set(&r->err, ERR_STOPPING, "the broker is stopping");
	if (rc < 0) {
		finish(r, rc, -1);
		return;
	}
	pthread_mutex_lock(&p->lock);
	bool given = !p->waiting && take(p, &id);
	if (!given) {
		*p->tail = r;
		p->tail = &r->next;
		start = !p->running;
		p->running = true;
	}
	pthread_mutex_unlock(&p->lock);
	if (given)
		finish(r, 0, id);
	else if (start)
		pool_run(b->pool, &p->job);
}
