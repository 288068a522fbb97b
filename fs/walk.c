#include "fs/walk.h"

#include <fcntl.h>

#include "store/io.h"

int walk_open(struct walk *w, const char *path, uint32_t *size_bytes, struct err *e)
{
	struct stat st;
	w->fd = io_open(path, O_RDONLY, 0);
	if (w->fd < 0)
		return err_sys(e, w->fd, "cannot open %s", path);
	int sys = io_fstat(w->fd, &st);
	int rc = sys < 0 ? err_sys(e, sys, "cannot look at %s", path) : 0;
	if (rc == 0 && !S_ISREG(st.st_mode))
		rc = err_set(e, ERR_INVALID, "%s is not a file", path);
	if (rc == 0 && st.st_size > UINT32_MAX)
		rc = err_set(e, ERR_TOO_LARGE, "%s has %lld bytes: no segment can be so large", path, (long long)st.st_size);
	if (rc < 0) {
		io_close(w->fd);
		return rc;
	}
	scan_init(&w->scan, w->fd, 0, (uint32_t)st.st_size, 0);
	w->next_offset = 0;
	if (size_bytes)
		*size_bytes = (uint32_t)st.st_size;
	return 0;
}

void walk_close(struct walk *w)
{
	scan_release(&w->scan);
	io_close(w->fd);
}

/* Whether an intact batch stands at `at`, or the file ends there. Moves the scan there. */
static int goes_on_at(struct walk *w, uint32_t at, int64_t min_offset, struct err *e)
{
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	struct err why = ERR_INIT;
	w->scan.at = at;
	int rc = scan_next(&w->scan, &b, &bytes, &position, &why);
	w->scan.at = at;
	if (rc == ERR_IO || rc == ERR_NO_MEMORY)
		return err_set(e, rc, "%s", why.text);
	return rc == 0 || (rc == 1 && b.base_offset >= min_offset && batch_crc_matches(&b, bytes));
}

/* Ends the damaged stretch that began at s->position. */
static int skip_damage(struct walk *w, struct walk_step *s, struct err *e)
{
	uint32_t end = w->scan.end, next = end;
	s->damaged = true;
	s->bytes = NULL;
	if (s->has_header && s->batch.size_bytes <= end - s->position) {
		next = s->position + s->batch.size_bytes;
		int rc = goes_on_at(w, next, s->batch.base_offset + 1, e);
		if (rc < 0)
			return rc;
		if (rc == 1) {
			s->size_bytes = s->batch.size_bytes;
			return 1;
		}
	}
	int rc = scan_find_valid(w->fd, s->position + 1, end, w->next_offset, &next, e);
	if (rc < 0)
		return rc;
	w->scan.at = rc == 1 ? next : end;
	s->size_bytes = w->scan.at - s->position;
	return 1;
}

int walk_next(struct walk *w, struct walk_step *s, struct err *e)
{
	struct scan *scan = &w->scan;
	*s = (struct walk_step){.position = scan->at};
	int rc = scan_next(scan, &s->batch, &s->bytes, &s->position, &s->why);
	if (rc == 0)
		return 0;
	if (rc == ERR_IO || rc == ERR_NO_MEMORY)
		return err_set(e, rc, "%s", s->why.text);
	s->has_header = rc == 1;
	if (rc < 0)
		return skip_damage(w, s, e);
	if (!batch_crc_matches(&s->batch, s->bytes)) {
		err_set(&s->why, ERR_CORRUPT, "the crc of the batch does not match");
		return skip_damage(w, s, e);
	}
	s->size_bytes = s->batch.size_bytes;
	w->next_offset = batch_last_offset(&s->batch) + 1;
	return 1;
}
