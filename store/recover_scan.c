#include "store/recover_scan.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#include "store/bridge.h"
#include "store/io.h"
#include "store/log_view.h"
#include "store/scan.h"

static bool push(void **list, size_t *count, size_t *cap, size_t size)
{
	if (*count == *cap) {
		size_t more = *cap ? 2 * *cap : 64;
		void *bigger = realloc(*list, more * size);
		if (!bigger)
			return false;
		*list = bigger;
		*cap = more;
	}
	++*count;
	return true;
}

void part_release(struct part *p)
{
	free(p->entry);
	free(p->epoch);
	free(p->hole);
	wr_release(&p->scratch);
	p->entry = NULL;
	p->epoch = NULL;
	p->hole = NULL;
}

static int no_memory(struct part *p)
{
	return p->rc = err_set(&p->err, ERR_NO_MEMORY, "no memory to scan %s/%020" PRId64 ".log", p->segment->dir, p->segment->base_offset);
}

/* ---- one batch ---- */

static void add_entry(struct part *p, int64_t position, int64_t offset, uint32_t byte)
{
	if (push((void **)&p->entry, &p->entry_count, &p->entry_cap, sizeof *p->entry))
		p->entry[p->entry_count - 1] = (struct view_entry){position, offset, p->position, byte};
	else
		no_memory(p);
}

static void add_mark(void *arg, const struct batch_mark *m)
{
	struct part *p = arg;
	add_entry(p, p->view_bytes + (int64_t)m->view_bytes, p->base_offset + m->record, m->byte);
}

/* Entries of .index and .timeindex up to this batch say what the log says, and there are as many as there should be: the interval may have been another, and
 * the count begins anew when a segment is opened, so no more than twice as far apart. */
static void compare_indexes(struct part *p, const struct batch *b, uint32_t position)
{
	int64_t offset, timestamp;
	uint32_t at;
	bool entry = false;
	if (!p->index_fits)
		return;
	while (p->times_at < entries_count(&p->times.e)) {
		time_index_entry(&p->times, p->times_at, &timestamp, &offset);
		if (offset > batch_last_offset(b))
			break;
		if (p->hole_count && timestamp > p->max_timestamp_ms) /* it was in the hole, as it seems */
			p->max_timestamp_ms = timestamp;
		p->index_fits &= timestamp == p->max_timestamp_ms;
		p->last_index_timestamp_ms = timestamp;
		p->times_at++;
	}
	while (p->index_at < entries_count(&p->index.e)) {
		offset_index_entry(&p->index, p->index_at, &offset, &at);
		if (at > position)
			break;
		p->index_fits &= at == position && offset >= b->base_offset;
		p->index_at++;
		entry = true;
	}
	/* what an .index entry covers, the last .timeindex entry knows */
	if (entry && p->max_timestamp_ms >= 0 && !p->hole_count)
		p->index_fits &= p->last_index_timestamp_ms == p->max_timestamp_ms;
	p->index_fits &= p->since_index_bytes <= 2 * (int64_t)p->interval_bytes + BATCH_HEADER_BYTES || entry || p->hole_count;
	p->since_index_bytes = (entry ? 0 : p->since_index_bytes) + b->size_bytes;
}

static int check_offsets(struct part *p, const struct batch *b, uint32_t position)
{
	if (b->base_offset < p->end_offset || batch_last_offset(b) - p->segment->base_offset > INT32_MAX)
		return err_set(&p->err, ERR_CORRUPT, "position %u: offsets %" PRId64 " to %" PRId64 " cannot stand behind offset %" PRId64, position, b->base_offset,
			       batch_last_offset(b), p->end_offset - 1);
	if (b->base_offset > p->end_offset && !p->gaps && !p->behind_hole)
		return err_set(&p->err, ERR_CORRUPT, "position %u: offset %" PRId64 " stands where %" PRId64 " should", position, b->base_offset, p->end_offset);
	return 0;
}

static int note_epoch(struct part *p, const struct batch *b)
{
	if (p->epoch_count && p->epoch[p->epoch_count - 1].epoch == b->leader_epoch)
		return 0;
	if (!push((void **)&p->epoch, &p->epoch_count, &p->epoch_cap, sizeof *p->epoch))
		return no_memory(p);
	p->epoch[p->epoch_count - 1] = (struct epoch_start){b->leader_epoch, b->base_offset};
	return 0;
}

static int scan_batch(struct part *p, const struct batch *b, const uint8_t *bytes, uint32_t position, struct view_builder *rule)
{
	uint64_t view_bytes = 0;
	int rc = check_offsets(p, b, position);
	if (rc < 0)
		return rc;
	if (!batch_crc_matches(b, bytes))
		return err_set(&p->err, ERR_CORRUPT, "position %u: the batch does not match its crc", position);
	const size_t entries = p->entry_count;
	const int64_t since = rule->since_bytes;
	p->base_offset = b->base_offset;
	p->position = position;
	view_builder_batch(rule, b->base_offset, position, b->size_bytes, 0, NULL, 0);
	bool entry = rule->since_bytes < since + b->size_bytes;
	if (entry)
		add_entry(p, p->view_bytes, b->base_offset, 0);
	if (!batch_is_control(b) && (rc = batch_scan(b, bytes, &p->scratch, VIEW_STEP_BYTES, &view_bytes, entry ? add_mark : NULL, p, &p->err)) < 0) {
		p->entry_count = entries;
		rule->since_bytes = since;
		return rc == ERR_NO_MEMORY ? rc : ERR_CORRUPT;
	}
	if (p->rc < 0 || note_epoch(p, b) < 0)
		return ERR_NO_MEMORY;
	if (b->max_timestamp_ms > p->max_timestamp_ms) {
		p->max_timestamp_ms = b->max_timestamp_ms;
		p->max_timestamp_offset = batch_last_offset(b);
	}
	compare_indexes(p, b, position);
	p->view_bytes += (int64_t)view_bytes;
	p->producers |= b->producer_id >= 0;
	p->transactional |= batch_is_transactional(b);
	p->end_offset = batch_last_offset(b) + 1;
	p->behind_hole = false;
	return 0;
}

/* ---- holes ---- */

/* Damage in a part that was safely on disk costs no more than itself, where the old .view tells at which position the view goes on. true: the scan goes on behind it. */
static bool bridge_hole(struct part *p, struct scan *scan)
{
	char path[PATH_MAX];
	struct segment *s = p->segment;
	const struct bridge_log g = {scan->fd, s->size_bytes, NULL, &p->scratch};
	struct view view;
	struct bridge anchor, behind;
	struct hole hole = {.from = scan->at, .from_offset = p->end_offset};
	segment_path(s->dir, s->base_offset, ".view", path, sizeof path);
	if (p->end_offset >= p->recovery_point || view_open(&view, path, s->base_offset, false, 0, NULL) < 0)
		return false;
	bool found = bridge_entry(&g, &view, hole.from, p->end_offset, &anchor);
	anchor.position -= view.first_position;
	view_close(&view);
	if (!found || anchor.offset > p->recovery_point || anchor.position < p->view_bytes)
		return false;
	behind = anchor;
	if (!bridge_back(&g, hole.from, p->end_offset, &behind) || behind.position < p->view_bytes)
		behind = anchor;
	hole.to = behind.at;
	hole.to_offset = behind.offset;
	if (!push((void **)&p->hole, &p->hole_count, &p->hole_cap, sizeof hole)) {
		no_memory(p);
		return false;
	}
	p->hole[p->hole_count - 1] = hole;
	p->view_bytes = behind.position;
	p->behind_hole = true;
	scan->at = hole.to;
	return true;
}

/* ---- all of it ---- */

/* Whether a message of format 0 or 1 stands there, and not damage that looks like one: those have a crc of their own, over all from the magic on. */
static bool is_old_message(int fd, uint32_t at, uint32_t end)
{
	enum { SIZE_AT = 8, CRC_AT = 12, MAGIC_AT = 16 };
	uint8_t head[MAGIC_AT];
	if (io_pread(fd, head, sizeof head, at) != sizeof head)
		return false;
	uint32_t size = be32_get(head + SIZE_AT);
	if (size < 14 || size > end - at - CRC_AT)
		return false;
	uint8_t *body = malloc(size);
	bool good = body && io_pread(fd, body, size - 4, (off_t)at + MAGIC_AT) == (ssize_t)size - 4 && crc32(0, body, size - 4) == be32_get(head + CRC_AT);
	free(body);
	return good;
}

/* .index entries of what is in a hole are neither right nor wrong. */
static void skip_entries(struct part *p, uint32_t upto)
{
	int64_t offset;
	uint32_t position;
	for (; p->index_fits && p->index_at < entries_count(&p->index.e); p->index_at++) {
		offset_index_entry(&p->index, p->index_at, &offset, &position);
		if (position >= upto)
			break;
	}
}

/* The next batch: 1; 0: the end, or an error in p. */
static int scan_one(struct part *p, struct scan *scan, struct view_builder *rule)
{
	struct batch b;
	const uint8_t *bytes;
	uint32_t position, at = scan->at;
	int rc = scan_next(scan, &b, &bytes, &position, &p->err);
	if (rc == 0)
		return 0;
	if (rc == 1)
		rc = scan_batch(p, &b, bytes, position, rule);
	else if (rc == ERR_UNSUPPORTED && !is_old_message(scan->fd, at, scan->end))
		rc = err_set(&p->err, ERR_CORRUPT, "position %u: no batch begins there", at);
	if (rc == 0) {
		p->valid_bytes = scan->at;
		return 1;
	}
	scan->at = at;
	if (rc == ERR_CORRUPT && bridge_hole(p, scan)) {
		rule->since_bytes = INT32_MAX; /* the next batch gets an entry: only that tells where it is */
		skip_entries(p, scan->at);
		return 1;
	}
	p->rc = p->rc < 0 ? p->rc : rc;
	return 0;
}

static int open_log(struct part *p)
{
	char path[PATH_MAX];
	struct segment *s = p->segment;
	segment_path(s->dir, s->base_offset, ".log", path, sizeof path);
	p->fd = io_open(path, O_RDONLY, 0);
	return p->fd < 0 ? err_sys(&p->err, p->fd, "cannot open %s", path) : 0;
}

/* Both, or none: what cannot be read is made anew. */
static bool open_indexes(struct part *p)
{
	char path[PATH_MAX];
	struct segment *s = p->segment;
	segment_path(s->dir, s->base_offset, ".index", path, sizeof path);
	if (offset_index_open(&p->index, path, s->base_offset, false, false, 0, s->size_bytes, NULL) < 0)
		return false;
	segment_path(s->dir, s->base_offset, ".timeindex", path, sizeof path);
	if (time_index_open(&p->times, path, s->base_offset, false, false, 0, NULL) == 0)
		return true;
	offset_index_close(&p->index);
	return false;
}

void part_scan(struct part *p)
{
	struct scan scan;
	struct view_builder rule = {.since_bytes = INT32_MAX};
	p->end_offset = p->segment->base_offset;
	p->max_timestamp_ms = p->max_timestamp_offset = p->last_index_timestamp_ms = -1;
	wr_init(&p->scratch, 0);
	if ((p->rc = open_log(p)) < 0)
		return;
	bool indexes = p->index_fits = open_indexes(p);
	scan_init(&scan, p->fd, 0, p->segment->size_bytes, 0);
	while (scan_one(p, &scan, &rule))
		;
	if (indexes) {
		p->index_fits &= p->index_at == entries_count(&p->index.e) && p->times_at == entries_count(&p->times.e);
		offset_index_close(&p->index);
		time_index_close(&p->times);
	}
	scan_release(&scan);
	wr_release(&p->scratch);
	io_close(p->fd);
}

int part_has_more(struct part *p, struct err *e)
{
	uint32_t found;
	int rc = open_log(p);
	if (rc < 0)
		return err_set(e, rc, "%s", p->err.text);
	rc = scan_find_valid(p->fd, p->valid_bytes + 1, p->segment->size_bytes, p->end_offset, &found, e);
	io_close(p->fd);
	return rc;
}
