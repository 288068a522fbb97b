#include "store/scan.h"

#include <stdlib.h>

#include "store/io.h"

enum { READ_BYTES = 1 << 20 };

void scan_init(struct scan *s, int fd, uint32_t at, uint32_t end, size_t read_bytes)
{
	*s = (struct scan){.fd = fd, .at = at, .end = end, .read_bytes = read_bytes ? read_bytes : READ_BYTES};
}

void scan_release(struct scan *s)
{
	free(s->window);
	s->window = NULL;
	s->cap = 0;
	s->have = 0;
}

/* Makes [s->at, s->at + want) lie in the window; want is within the file. */
static int fill(struct scan *s, size_t want, struct err *e)
{
	if (s->at >= s->from && s->at + want <= (size_t)s->from + s->have)
		return 0;
	/* of large batches just one, with the next one's header: what is read of the next would have to be moved */
	size_t left = s->end - s->at, take = want > s->read_bytes / 2 ? want + BATCH_HEADER_BYTES : s->read_bytes;
	if (take > left)
		take = left;
	if (take > s->cap) {
		uint8_t *bigger = realloc(s->window, take);
		if (!bigger)
			return err_set(e, ERR_NO_MEMORY, "no memory for a batch of %zu bytes", want);
		s->window = bigger;
		s->cap = take;
	}
	/* keep what is there already of the bytes wanted */
	size_t kept = 0;
	if (s->at >= s->from && s->at < s->from + s->have) {
		kept = s->from + s->have - s->at;
		if (kept > take)
			kept = take;
		memmove(s->window, s->window + (s->at - s->from), kept);
	}
	s->from = s->at;
	s->have = (uint32_t)kept;
	ssize_t got = io_pread(s->fd, s->window + kept, take - kept, (off_t)s->at + (off_t)kept);
	if (got < 0)
		return err_sys(e, (int)got, "cannot read %zu bytes at position %zu", take - kept, s->at + kept);
	s->have += (uint32_t)got;
	if (s->have < want)
		return err_set(e, ERR_CORRUPT, "the file ends at position %zu, before the %zu bytes at %u", (size_t)s->from + s->have, want, s->at);
	return 0;
}

static int decode(struct scan *s, struct batch *b, struct err *e)
{
	if (s->at >= s->end)
		return 0;
	uint32_t left = s->end - s->at;
	if (left < BATCH_HEADER_BYTES)
		return err_set(e, ERR_CORRUPT, "%u bytes at position %u are too few for a batch", left, s->at);
	int rc = fill(s, BATCH_HEADER_BYTES, e);
	if (rc < 0)
		return rc;
	rc = batch_decode(b, s->window + (s->at - s->from), BATCH_HEADER_BYTES, left, e);
	if (rc < 0) {
		err_context(e, "position %u", s->at);
		return rc;
	}
	return 1;
}

int scan_next_header(struct scan *s, struct batch *b, uint32_t *position, struct err *e)
{
	int rc = decode(s, b, e);
	if (rc <= 0)
		return rc;
	*position = s->at;
	s->at += b->size_bytes;
	return 1;
}

int scan_next(struct scan *s, struct batch *b, const uint8_t **bytes, uint32_t *position, struct err *e)
{
	int rc = decode(s, b, e);
	if (rc > 0 && (rc = fill(s, b->size_bytes, e)) == 0) {
		*bytes = s->window + (s->at - s->from);
		*position = s->at;
		s->at += b->size_bytes;
		rc = 1;
	}
	return rc;
}

/* Whether a whole, intact batch begins at s->at. */
static int valid_here(struct scan *s, int64_t min_offset, struct err *e)
{
	struct batch b;
	const uint8_t *bytes;
	uint32_t position, at = s->at;
	struct err why = ERR_INIT;
	int rc = scan_next(s, &b, &bytes, &position, &why);
	s->at = at;
	if (rc == ERR_IO || rc == ERR_NO_MEMORY)
		return err_set(e, rc, "%s", why.text);
	return rc == 1 && b.base_offset >= min_offset && batch_crc_matches(&b, bytes);
}

int scan_find_valid(int fd, uint32_t from, uint32_t end, int64_t min_offset, uint32_t *position, struct err *e)
{
	struct scan s;
	scan_init(&s, fd, from, end, 0);
	int rc = 0;
	while (s.at < s.end && s.end - s.at >= BATCH_HEADER_BYTES) {
		struct err why = ERR_INIT;
		rc = fill(&s, BATCH_HEADER_BYTES, &why);
		if (rc == ERR_CORRUPT) { /* the file is shorter than it was said to be */
			rc = 0;
			break;
		}
		if (rc < 0) {
			err_set(e, rc, "%s", why.text);
			break;
		}
		/* the magic, in its place, is the cheap first look */
		const uint8_t *p = s.window + (s.at - s.from);
		const uint8_t *stop = s.window + s.have - (BATCH_HEADER_BYTES - 1);
		while (p < stop && p[16] != 2)
			p++;
		s.at = s.from + (uint32_t)(p - s.window);
		if (p == stop)
			continue;
		rc = valid_here(&s, min_offset, e);
		if (rc != 0) {
			*position = s.at;
			break;
		}
		s.at++;
	}
	scan_release(&s);
	return rc;
}
