#include "store/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/diag.h"
#include "store/io.h"
#include "store/log_view.h"
#include "store/scan.h"

enum {
	VERIFIED_STEP_BYTES = 4096,
	SHORT_SCAN_BYTES = 16 << 10,
	FIND_SCAN_BYTES = 8192, /* index entries are half as far apart, mostly, and a batch */
	LARGEST_ENTRY_BYTES = 12,
	VIEW_RESERVE_BYTES = 32 << 20, /* two entries each 4 KiB of the largest .log: address space only */
};

static const char *const suffixes[] = {".log", ".index", ".timeindex", ".view", ".txnindex"};

/* ---- which segments are open ---- */

struct segment_cache {
	pthread_mutex_t lock;
	struct segment *hand; /* a ring; the clock's hand */
	unsigned count, max_open;
};

struct segment_cache *segment_cache_new(unsigned max_open)
{
	struct segment_cache *c = calloc(1, sizeof *c);
	if (c) {
		pthread_mutex_init(&c->lock, NULL);
		c->max_open = max_open;
	}
	return c;
}

void segment_cache_free(struct segment_cache *c)
{
	if (!c)
		return;
	pthread_mutex_destroy(&c->lock);
	free(c);
}

unsigned segment_cache_open_count(struct segment_cache *c)
{
	pthread_mutex_lock(&c->lock);
	unsigned n = c->count;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void cache_add(struct segment_cache *c, struct segment *s)
{
	pthread_mutex_lock(&c->lock);
	if (c->hand) {
		s->cache_next = c->hand;
		s->cache_prev = c->hand->cache_prev;
		s->cache_prev->cache_next = s;
		s->cache_next->cache_prev = s;
	} else {
		c->hand = s->cache_next = s->cache_prev = s;
	}
	c->count++;
	pthread_mutex_unlock(&c->lock);
}

static void cache_remove(struct segment_cache *c, struct segment *s)
{
	pthread_mutex_lock(&c->lock);
	if (s->cache_next) {
		if (c->hand == s)
			c->hand = s->cache_next == s ? NULL : s->cache_next;
		s->cache_prev->cache_next = s->cache_next;
		s->cache_next->cache_prev = s->cache_prev;
		s->cache_next = s->cache_prev = NULL;
		c->count--;
	}
	pthread_mutex_unlock(&c->lock);
}

static void close_files(struct segment *s)
{
	if (!s->sealed)
		segment_close_times(s);
	io_close(s->fd);
	offset_index_close(&s->index);
	time_index_close(&s->times);
	if (s->view_ok)
		view_close(&s->view);
	s->view_ok = false;
	s->fd = -1;
}

/* Closes the files if nobody has them pinned. The order of the two atomics here and in segment_pin decides the race: a pin either is seen
 * here, or finds the segment closed and opens it again. */
static void try_close(struct segment *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->open || s->shut) {
		s->open = false;
		if (s->pins == 0) {
			close_files(s);
			cache_remove(s->cache, s);
			s->shut = false;
		} else {
			s->open = !s->shut;
		}
	}
	pthread_mutex_unlock(&s->lock);
}

/* One that nobody has any more is about to leave the ring and be freed, by who let go of it last. locks: the cache's, so that it is there still. */
static bool ref_if_alive(struct segment *s)
{
	uint32_t refs = s->refs;
	while (refs && !atomic_compare_exchange_weak(&s->refs, &refs, refs + 1))
		;
	return refs > 0;
}

/* Closes segments that were not used since the hand last passed, until few enough are open. thread: any, with no segment's lock held. */
static void cache_trim(struct segment_cache *c)
{
	for (unsigned tries = 64; tries; tries--) {
		struct segment *victim = NULL;
		pthread_mutex_lock(&c->lock);
		if (c->count > c->max_open && c->hand) {
			victim = c->hand;
			c->hand = victim->cache_next;
			if (atomic_exchange(&victim->used, false) || victim->pins > 0 || !ref_if_alive(victim))
				victim = NULL;
		} else {
			tries = 1;
		}
		pthread_mutex_unlock(&c->lock);
		if (!victim)
			continue;
		try_close(victim);
		segment_unref(victim);
	}
}

/* ---- life ---- */

struct segment *segment_new(const char *dir, int64_t base_offset, uint32_t size_bytes, bool sealed, uint32_t index_max_bytes, struct segment_cache *cache)
{
	struct segment *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	static _Atomic uint64_t serials;
	s->refs = 1;
	s->serial = ++serials;
	s->dir = dir;
	s->base_offset = base_offset;
	s->size_bytes = size_bytes;
	s->sealed = sealed;
	s->index_max_bytes = index_max_bytes;
	s->interval_bytes = INTERVAL_DEFAULT_BYTES;
	s->cache = cache;
	s->first_position = POSITION_UNKNOWN;
	s->max_timestamp_ms = s->max_timestamp_offset = s->first_timestamp_ms = -1;
	s->view_until = UINT32_MAX;
	s->fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

struct segment *segment_again(const struct segment *old, bool sealed, uint32_t index_max_bytes)
{
	struct segment *s = segment_new(old->dir, old->base_offset, old->size_bytes, sealed, index_max_bytes, old->cache);
	if (!s)
		return NULL;
	s->interval_bytes = old->interval_bytes;
	s->max_timestamp_ms = (int64_t)old->max_timestamp_ms;
	s->max_timestamp_offset = (int64_t)old->max_timestamp_offset;
	s->first_timestamp_ms = old->first_timestamp_ms;
	s->times_learned = old->times_learned;
	s->needs_dir_sync = (bool)old->needs_dir_sync;
	s->needs_index_sync = (bool)old->needs_index_sync;
	s->needs_txn_sync = (bool)old->needs_txn_sync;
	return s;
}

void segment_ref(struct segment *s)
{
	atomic_fetch_add(&s->refs, 1);
}

void segment_unref(struct segment *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	cache_remove(s->cache, s);
	if (s->open || s->shut)
		close_files(s);
	pthread_mutex_destroy(&s->lock);
	free(s->verified);
	free(s);
}

void segment_path(const char *dir, int64_t base_offset, const char *suffix, char *out, size_t out_bytes)
{
	snprintf(out, out_bytes, "%s/%020" PRId64 "%s", dir, base_offset, suffix);
}

/* Removes the files with suffix `first` and the ones behind it in the list. */
static void remove_files(const char *dir, int64_t base_offset, size_t first)
{
	char path[PATH_MAX];
	for (size_t i = first; i < sizeof suffixes / sizeof *suffixes; i++) {
		segment_path(dir, base_offset, suffixes[i], path, sizeof path);
		io_unlink(path);
	}
}

/* An empty one may be there already, where the removal of one that failed to be made failed too. Indexes that a segment of the same base has left behind (a crash
 * came between the renames of its files) must not become those of this one. */
static int make_log_file(const char *dir, int64_t base_offset, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	segment_path(dir, base_offset, ".log", path, sizeof path);
	int fd = io_open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
	if (fd == -EEXIST && io_stat(path, &st) == 0 && st.st_size == 0)
		fd = io_open(path, O_RDWR, 0);
	if (fd < 0)
		return err_sys(e, fd, "cannot make %s", path);
	io_close(fd);
	remove_files(dir, base_offset, 1);
	return 0;
}

int segment_create(const char *dir, int64_t base_offset, int64_t first_position, uint32_t index_max_bytes, struct segment_cache *cache, struct segment **out, struct err *e)
{
	int rc = make_log_file(dir, base_offset, e);
	if (rc < 0)
		return rc;
	struct segment *s = segment_new(dir, base_offset, 0, false, index_max_bytes, cache);
	if (!s) {
		remove_files(dir, base_offset, 0);
		return err_set(e, ERR_NO_MEMORY, "no memory for a segment");
	}
	s->needs_dir_sync = s->needs_index_sync = true;
	s->times_learned = true;
	rc = segment_pin(s, e);
	if (rc == 0) {
		if (first_position != POSITION_UNKNOWN)
			rc = segment_make_view(s, first_position, e);
		segment_unpin(s);
	}
	if (rc < 0) {
		segment_unref(s);
		remove_files(dir, base_offset, 0);
		return rc;
	}
	*out = s;
	return 0;
}

/* ---- opening ---- */

/* Whether the entries reach to the segment's end: what view_builder_batch leaves uncovered is at most a step, or one batch. */
static bool view_is_complete(struct segment *s)
{
	struct view_entry last = {0};
	struct batch b;
	uint8_t header[BATCH_HEADER_BYTES];
	uint32_t until = s->size_bytes;
	if (!s->sealed && s->view_until < until)
		until = s->view_until;
	if (view_last(&s->view, &last) < 0 || last.batch_position > s->size_bytes)
		return false;
	if (last.batch_position >= until || until - last.batch_position <= VIEW_STEP_BYTES)
		return true;
	return io_pread(s->fd, header, sizeof header, last.batch_position) == sizeof header &&
	       batch_decode(&b, header, sizeof header, s->size_bytes - last.batch_position, NULL) == 0 &&
	       (last.batch_position + b.size_bytes >= until);
}

static void open_view(struct segment *s)
{
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	segment_path(s->dir, s->base_offset, ".view", path, sizeof path);
	int rc = view_open(&s->view, path, s->base_offset, !s->sealed, s->sealed ? 0 : VIEW_RESERVE_BYTES, &why);
	if (rc == 0) {
		s->first_position = s->view.first_position;
		if (!view_is_complete(s)) {
			view_close(&s->view);
			rc = err_set(&why, ERR_CORRUPT, "%s does not cover its segment", path);
		}
	}
	s->view_ok = rc == 0;
	if (rc == 0)
		return;
	if (rc != ERR_NOT_FOUND)
		diag_notice("%s; it will be rebuilt", why.text);
}

static int open_indexes(struct segment *s, bool create, struct err *e)
{
	char path[PATH_MAX];
	segment_path(s->dir, s->base_offset, ".index", path, sizeof path);
	int rc = offset_index_open(&s->index, path, s->base_offset, !s->sealed, create, s->index_max_bytes, s->size_bytes, e);
	if (rc < 0)
		return rc;
	segment_path(s->dir, s->base_offset, ".timeindex", path, sizeof path);
	rc = time_index_open(&s->times, path, s->base_offset, !s->sealed, create, s->index_max_bytes, e);
	if (rc < 0)
		offset_index_close(&s->index);
	return rc;
}

int segment_make_view(struct segment *s, int64_t first_position, struct err *e)
{
	char path[PATH_MAX];
	segment_path(s->dir, s->base_offset, ".view", path, sizeof path);
	pthread_mutex_lock(&s->lock);
	if (s->view_ok)
		view_close(&s->view);
	int rc = view_create(&s->view, path, s->base_offset, first_position, VIEW_RESERVE_BYTES, e);
	s->view_ok = rc == 0;
	s->first_position = rc == 0 ? first_position : POSITION_UNKNOWN;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void segment_forget_view(struct segment *s)
{
	char path[PATH_MAX];
	pthread_mutex_lock(&s->lock);
	if (s->view_ok)
		view_close(&s->view);
	s->view_ok = false;
	segment_path(s->dir, s->base_offset, ".view", path, sizeof path);
	io_unlink(path);
	pthread_mutex_unlock(&s->lock);
}

void segment_unseal(struct segment *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->sealed && s->open) { /* its files are open for reading alone */
		s->open = false;
		close_files(s);
		cache_remove(s->cache, s);
	}
	s->sealed = false;
	s->needs_index_sync = true;
	free(atomic_exchange(&s->verified, NULL)); /* it was made for the size that a sealed one has */
	pthread_mutex_unlock(&s->lock);
}

static int rebuild_locked(struct segment *s, struct err *e);

static int open_files(struct segment *s, struct err *e)
{
	char path[PATH_MAX];
	segment_path(s->dir, s->base_offset, ".log", path, sizeof path);
	if (s->gone)
		return err_set(e, ERR_NOT_FOUND, "%s was deleted or replaced", path);
	s->fd = io_open(path, s->sealed ? O_RDONLY : O_RDWR, 0);
	if (s->fd < 0)
		return err_sys(e, s->fd, "cannot open %s", path);
	struct err why = ERR_INIT;
	int rc = open_indexes(s, s->size_bytes == 0, &why);
	if (rc == ERR_CORRUPT || rc == ERR_NOT_FOUND) {
		diag_notice("%s; rebuilding it from the log", why.text);
		rc = rebuild_locked(s, &why);
		if (rc == 0)
			rc = open_indexes(s, false, &why);
	}
	if (rc < 0) {
		io_close(s->fd);
		s->fd = -1;
		return err_set(e, rc, "%s", why.text);
	}
	open_view(s);
	return 0;
}

int segment_pin(struct segment *s, struct err *e)
{
	atomic_fetch_add(&s->pins, 1);
	if (s->open) {
		if (!atomic_load_explicit(&s->used, memory_order_relaxed))
			s->used = true;
		return 0;
	}
	pthread_mutex_lock(&s->lock);
	int rc = 0;
	bool opened = false;
	if (!s->open) {
		rc = open_files(s, e);
		s->open = opened = rc == 0;
		if (opened)
			cache_add(s->cache, s);
	}
	pthread_mutex_unlock(&s->lock);
	if (rc < 0) {
		atomic_fetch_sub(&s->pins, 1);
		return rc;
	}
	s->used = true;
	if (opened)
		cache_trim(s->cache);
	return 0;
}

void segment_unpin(struct segment *s)
{
	atomic_fetch_sub(&s->pins, 1);
}

/* Noted before the pin: who shuts the segment then either sees it, or the pin fails. */
int segment_lend(struct segment *s, int64_t to, struct err *e)
{
	int64_t before = s->lent_to;
	while (before < to && !atomic_compare_exchange_weak(&s->lent_to, &before, to))
		;
	return segment_pin(s, e);
}

/* ---- writing ---- */

int segment_append(struct segment *s, struct iovec *iov, int count, uint32_t bytes, struct err *e)
{
	uint32_t at = s->size_bytes;
	int sys = io_pwritev(s->fd, iov, count, at);
	if (sys < 0) {
		int rc = err_sys(e, sys, "cannot write %u bytes at position %u of %s/%020" PRId64 ".log", bytes, at, s->dir, s->base_offset);
		int cut = io_truncate(s->fd, at);
		return cut < 0 ? err_sys(e, EIO, "%s/%020" PRId64 ".log could not be cut back to %u after a failed write (errno %d)", s->dir, s->base_offset, at, -cut) : rc;
	}
	s->size_bytes = at + bytes;
	return 0;
}

/* Indexes are sparse: an entry that finds no room costs speed, not correctness. */
static void entry_failed(const struct segment *s, const struct err *why)
{
	static struct diag_limit limit;
	diag_limited(&limit, 60000, DIAG_WARNING, "%s/%020" PRId64 ": an index entry was left out: %s", s->dir, s->base_offset, why->text);
}

void segment_index_batch(struct segment *s, int64_t last_offset, uint32_t position, int64_t max_timestamp_ms, int64_t max_timestamp_offset)
{
	struct err why = ERR_INIT;
	s->needs_index_sync = true;
	if (offset_index_append(&s->index, last_offset, position, &why) < 0 || time_index_append(&s->times, max_timestamp_ms, max_timestamp_offset, &why) < 0)
		entry_failed(s, &why);
}

void segment_close_times(struct segment *s)
{
	struct err why = ERR_INIT;
	s->needs_index_sync = true;
	if (s->max_timestamp_ms >= 0 && time_index_append(&s->times, s->max_timestamp_ms, s->max_timestamp_offset, &why) < 0)
		entry_failed(s, &why);
}

int segment_truncate_indexes(struct segment *s, uint32_t view_position, int64_t offset, struct err *e)
{
	int rc = offset_index_truncate(&s->index, offset, e);
	if (rc == 0)
		rc = time_index_truncate(&s->times, offset, e);
	if (rc == 0 && s->view_ok)
		rc = view_truncate(&s->view, view_position, e);
	return rc;
}

int segment_truncate(struct segment *s, uint32_t position, int64_t offset, struct err *e)
{
	int rc = segment_truncate_indexes(s, position, offset, e);
	if (rc < 0)
		return rc;
	int sys = io_truncate(s->fd, position);
	if (sys < 0)
		return err_sys(e, sys, "cannot cut %s/%020" PRId64 ".log to %u bytes", s->dir, s->base_offset, position);
	s->size_bytes = position;
	/* looked up again when wanted; which batches were checked need not be forgotten: what is cut was not there yet, or this struct is new */
	s->max_timestamp_ms = s->max_timestamp_offset = s->first_timestamp_ms = -1;
	s->times_learned = false;
	return 0;
}

/* Flags are taken down before what they stand for is synced: what comes meanwhile puts them up again. */
static int sync_indexes(struct segment *s)
{
	s->needs_index_sync = false;
	int sys = io_fdatasync(s->index.e.fd);
	if (sys == 0)
		sys = io_fdatasync(s->times.e.fd);
	if (sys == 0 && s->view_ok)
		sys = io_fdatasync(s->view.e.fd);
	if (sys < 0)
		s->needs_index_sync = true;
	return sys;
}

static int sync_txnindex(struct segment *s)
{
	char path[PATH_MAX];
	segment_path(s->dir, s->base_offset, ".txnindex", path, sizeof path);
	s->needs_txn_sync = false;
	int fd = io_open(path, O_RDWR, 0);
	if (fd == -ENOENT) /* its one entry was taken back */
		return 0;
	int sys = fd < 0 ? fd : io_fdatasync(fd);
	io_close(fd < 0 ? -1 : fd);
	if (sys < 0)
		s->needs_txn_sync = true;
	return sys;
}

static int sync_dir(struct segment *s)
{
	s->needs_dir_sync = false;
	int sys = io_fsync_dir(s->dir);
	if (sys < 0)
		s->needs_dir_sync = true;
	return sys;
}

int segment_flush(struct segment *s, bool indexes, struct err *e)
{
	int sys = io_fdatasync(s->fd);
	if (sys == 0 && s->needs_txn_sync)
		sys = sync_txnindex(s);
	if (sys == 0 && indexes && s->needs_index_sync)
		sys = sync_indexes(s);
	if (sys == 0 && s->needs_dir_sync)
		sys = sync_dir(s);
	return sys < 0 ? err_sys(e, sys, "cannot flush %s/%020" PRId64, s->dir, s->base_offset) : 0;
}

/* ---- finding ---- */

/* An entry is believed when a batch begins at its position that does not begin past its offset: that is all a scan from there needs. (Brokers
 * before Kafka 3.9 noted the last offset of a whole append, which may be several batches.) */
bool segment_entry_fits(struct segment *s, int64_t entry_offset, uint32_t position)
{
	struct batch b;
	uint8_t header[BATCH_HEADER_BYTES];
	if (position == 0)
		return true; /* the start of the segment needs no proof */
	return position < s->size_bytes && io_pread(s->fd, header, sizeof header, position) == sizeof header &&
	       batch_decode(&b, header, sizeof header, s->size_bytes - position, NULL) == 0 && b.base_offset <= entry_offset;
}

/* Scans from an entry for the batch that holds offset. *fits: whether the entry can be believed; else what is found counts for nothing. */
static int find_from(struct segment *s, int64_t entry_offset, uint32_t from, int64_t offset, struct batch *b, uint32_t *position, bool *fits, struct err *e)
{
	struct scan scan;
	scan_init(&scan, s->fd, from, s->size_bytes, FIND_SCAN_BYTES);
	int rc = scan_next_header(&scan, b, position, e);
	*fits = from == 0 || (rc == 1 ? b->base_offset <= entry_offset : rc == ERR_IO || rc == ERR_NO_MEMORY);
	while (rc == 1 && *fits && batch_last_offset(b) < offset)
		rc = scan_next_header(&scan, b, position, e);
	scan_release(&scan);
	if (rc < 0)
		err_context(e, "%s/%020" PRId64 ".log", s->dir, s->base_offset);
	return rc;
}

int segment_find_offset(struct segment *s, int64_t offset, struct batch *b, uint32_t *position, struct err *e)
{
	int64_t entry_offset;
	uint32_t from;
	bool fits;
	offset_index_find(&s->index, offset, &entry_offset, &from);
	int rc = find_from(s, entry_offset, from, offset, b, position, &fits, e);
	if (fits)
		return rc;
	diag_warning("%s/%020" PRId64 ".index does not fit its log; reading past it", s->dir, s->base_offset);
	return find_from(s, entry_offset, 0, offset, b, position, &fits, e);
}

int segment_end_offset(struct segment *s, int64_t *end, struct err *e)
{
	struct batch b;
	struct scan scan;
	int64_t entry_offset;
	uint32_t from, position;
	int rc;
	*end = s->base_offset;
	offset_index_find(&s->index, INT64_MAX, &entry_offset, &from);
	if (!segment_entry_fits(s, entry_offset, from))
		from = 0;
	scan_init(&scan, s->fd, from, s->size_bytes, SHORT_SCAN_BYTES);
	while ((rc = scan_next_header(&scan, &b, &position, e)) == 1)
		*end = batch_last_offset(&b) + 1;
	scan_release(&scan);
	if (rc < 0)
		err_context(e, "%s/%020" PRId64 ".log", s->dir, s->base_offset);
	return rc;
}

/* The greatest timestamp of the batches from `from` on. It begins with what the last time index entry claims, which lies at or behind `from`; *met: whether a
 * batch there bears it out. */
static int scan_times(struct segment *s, uint32_t from, int64_t *timestamp_ms, int64_t *offset, bool *met, struct err *e)
{
	struct batch b;
	struct scan scan;
	uint32_t position;
	const int64_t claimed = *timestamp_ms;
	int rc;
	scan_init(&scan, s->fd, from, s->size_bytes, SHORT_SCAN_BYTES);
	while ((rc = scan_next_header(&scan, &b, &position, e)) == 1) {
		*met |= b.max_timestamp_ms == claimed;
		if (b.max_timestamp_ms > *timestamp_ms) {
			*timestamp_ms = b.max_timestamp_ms;
			*offset = batch_last_offset(&b);
		}
	}
	scan_release(&scan);
	return rc;
}

/* locks: a pin. */
static int look_up_max(struct segment *s, int64_t *timestamp_ms, int64_t *offset, struct err *e)
{
	bool met = false;
	*timestamp_ms = *offset = -1;
	if (time_index_last(&s->times, timestamp_ms, offset)) {
		int64_t entry_offset;
		uint32_t from;
		offset_index_find(&s->index, *offset - 1, &entry_offset, &from); /* an entry before the batch that has it */
		if (!segment_entry_fits(s, entry_offset, from))
			from = 0;
		int rc = scan_times(s, from, timestamp_ms, offset, &met, e);
		if (rc < 0 || met)
			return rc;
		*timestamp_ms = *offset = -1; /* it is not to be believed */
	}
	return scan_times(s, 0, timestamp_ms, offset, &met, e);
}

int segment_max_timestamp(struct segment *s, int64_t *timestamp_ms, struct err *e)
{
	*timestamp_ms = s->max_timestamp_ms;
	if (*timestamp_ms >= 0 || s->size_bytes == 0)
		return 0;
	int64_t offset;
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	rc = look_up_max(s, timestamp_ms, &offset, e);
	if (rc == 0) {
		s->max_timestamp_offset = offset;
		s->max_timestamp_ms = *timestamp_ms;
	}
	segment_unpin(s);
	return rc;
}

void segment_learn_times(struct segment *s)
{
	uint8_t header[BATCH_HEADER_BYTES];
	struct batch b;
	int64_t ignored;
	if (s->times_learned)
		return;
	s->times_learned = true;
	if (!s->size_bytes)
		return;
	if (io_pread(s->fd, header, sizeof header, 0) == sizeof header && batch_decode(&b, header, sizeof header, s->size_bytes, NULL) == 0)
		s->first_timestamp_ms = b.max_timestamp_ms;
	segment_max_timestamp(s, &ignored, NULL); /* without it, as without the first: only when to roll, and one entry, depend on it */
}

uint32_t segment_unindexed_bytes(const struct segment *s)
{
	int64_t offset;
	uint32_t position = 0, n = entries_count(&s->index.e);
	if (n)
		offset_index_entry(&s->index, n - 1, &offset, &position);
	return position < s->size_bytes ? s->size_bytes - position : 0;
}

/* ---- rebuilding ---- */

/* Entries by the rule of LogSegment.append, for the whole .log; a damaged batch ends them: reading meets it and says so. */
static int fill_indexes(struct segment *s, struct offset_index *index, struct time_index *times, struct err *e)
{
	struct scan scan;
	struct batch b;
	uint32_t position;
	int64_t timestamp = -1, timestamp_offset = -1;
	size_t since = 0;
	int rc;
	scan_init(&scan, s->fd, 0, s->size_bytes, SHORT_SCAN_BYTES);
	while ((rc = scan_next_header(&scan, &b, &position, e)) == 1) {
		if (b.max_timestamp_ms > timestamp) {
			timestamp = b.max_timestamp_ms;
			timestamp_offset = batch_last_offset(&b);
		}
		if (since > s->interval_bytes) {
			if ((rc = offset_index_append(index, batch_last_offset(&b), position, e)) < 0 ||
			    (rc = time_index_append(times, timestamp, timestamp_offset, e)) < 0)
				break;
			since = 0;
		}
		since += b.size_bytes;
	}
	if (rc == ERR_CORRUPT || rc == ERR_UNSUPPORTED)
		rc = 0;
	if (rc == 0)
		rc = time_index_append(times, timestamp, timestamp_offset, e);
	scan_release(&scan);
	return rc;
}

/* locks: s->lock. Makes both files anew beside the old ones and renames them over, so that a failure leaves what there was. */
static int rebuild_locked(struct segment *s, struct err *e)
{
	static const char *const made[] = {".index.rebuilt", ".timeindex.rebuilt"};
	char path[2][PATH_MAX], final[PATH_MAX];
	struct offset_index index;
	struct time_index times;
	for (int i = 0; i < 2; i++) {
		segment_path(s->dir, s->base_offset, made[i], path[i], PATH_MAX);
		io_unlink(path[i]);
	}
	/* as many entries as the log asks for, whatever segment.index.bytes is by now */
	size_t most = (s->size_bytes / (s->interval_bytes > BATCH_HEADER_BYTES ? s->interval_bytes : BATCH_HEADER_BYTES) + 2) * LARGEST_ENTRY_BYTES;
	int rc = offset_index_open(&index, path[0], s->base_offset, true, true, most, s->size_bytes, e);
	if (rc < 0)
		return rc;
	rc = time_index_open(&times, path[1], s->base_offset, true, true, most, e);
	if (rc < 0) {
		offset_index_close(&index);
		io_unlink(path[0]);
		return rc;
	}
	rc = fill_indexes(s, &index, &times, e);
	offset_index_close(&index);
	time_index_close(&times);
	for (int i = 0; i < 2 && rc == 0; i++) {
		segment_path(s->dir, s->base_offset, suffixes[1 + i], final, sizeof final);
		int sys = io_rename(path[i], final);
		if (sys < 0)
			rc = err_sys(e, sys, "cannot rename %s", path[i]);
	}
	if (rc < 0)
		for (int i = 0; i < 2; i++)
			io_unlink(path[i]);
	return rc;
}

int segment_rebuild_index(struct segment *s, struct err *e)
{
	pthread_mutex_lock(&s->lock);
	int rc = rebuild_locked(s, e);
	if (rc == 0 && s->open) {
		offset_index_close(&s->index);
		time_index_close(&s->times);
		rc = open_indexes(s, false, e);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* ---- which batches were checked ---- */

static uint64_t *verified_words(struct segment *s)
{
	uint64_t *words = s->verified;
	if (words)
		return words;
	/* as large as the segment can become: .log positions are at most INT32_MAX, and an idle segment has none */
	uint32_t bytes = s->sealed ? s->size_bytes : INT32_MAX;
	words = calloc(bytes / VERIFIED_STEP_BYTES / 64 + 1, sizeof *words);
	uint64_t *none = NULL;
	if (words && !atomic_compare_exchange_strong(&s->verified, &none, words)) {
		free(words);
		words = none;
	}
	return words;
}

bool segment_is_verified(const struct segment *s, uint32_t position, uint32_t size_bytes)
{
	uint64_t *words = size_bytes < VERIFIED_STEP_BYTES ? NULL : s->verified;
	uint32_t bit = position / VERIFIED_STEP_BYTES;
	return words && (__atomic_load_n(&words[bit / 64], __ATOMIC_RELAXED) >> (bit % 64) & 1);
}

void segment_set_verified(struct segment *s, uint32_t position, uint32_t size_bytes)
{
	uint64_t *words = size_bytes < VERIFIED_STEP_BYTES ? NULL : verified_words(s);
	uint32_t bit = position / VERIFIED_STEP_BYTES;
	if (words)
		__atomic_fetch_or(&words[bit / 64], UINT64_C(1) << (bit % 64), __ATOMIC_RELAXED);
}

/* ---- deleting ---- */

void segment_retire(struct segment *s)
{
	pthread_mutex_lock(&s->lock);
	s->gone = true;
	pthread_mutex_unlock(&s->lock);
}

int segment_shut(struct segment *s, uint32_t view_position, int64_t offset, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	s->gone = s->sealed = true;
	if (s->open) {
		s->open = false; /* a pin that was not seen by the look at the count sees this */
		s->shut = s->pins > 0;
		if (!s->shut) {
			close_files(s);
			cache_remove(s->cache, s);
		}
	}
	if (s->shut) {
		rc = offset_index_hide(&s->index, offset, e);
		if (rc == 0)
			rc = time_index_hide(&s->times, offset, e);
		if (rc == 0 && s->view_ok)
			rc = view_hide(&s->view, view_position, e);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int segment_mark_deleted(struct segment *s, struct err *e)
{
	segment_retire(s);
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
		char from[PATH_MAX], to[PATH_MAX], gone[SEGMENT_SUFFIX_BYTES];
		snprintf(gone, sizeof gone, "%s.deleted", suffixes[i]);
		segment_path(s->dir, s->base_offset, suffixes[i], from, sizeof from);
		segment_path(s->dir, s->base_offset, gone, to, sizeof to);
		int sys = io_rename(from, to);
		if (sys < 0 && sys != -ENOENT)
			return err_sys(e, sys, "cannot rename %s", from);
	}
	return 0;
}
