#include "store/consent.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/buf.h"
#include "store/io.h"

enum { MAX_FILE_BYTES = 1 << 20 };

static int add(int64_t **list, size_t *count, int64_t base, struct err *e)
{
	int64_t *more = realloc(*list, (*count + 1) * sizeof *more);
	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for a list of gaps");
	*list = more;
	more[(*count)++] = base;
	return 0;
}

int consent_load(struct consent *c, const char *dir, struct err *e)
{
	char path[PATH_MAX], *text;
	size_t n;
	*c = (struct consent){0};
	snprintf(path, sizeof path, "%s/" CONSENT_FILE, dir);
	int sys = io_read_file(path, MAX_FILE_BYTES, &text, &n);
	if (sys == -ENOENT)
		return 0;
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", path);
	c->there = true;
	c->all = n == 0;
	int rc = 0;
	for (char *p = text, *end; rc == 0 && *p; p = end + strspn(end, "\n")) {
		int64_t base = strtoll(p, &end, 10);
		if (end == p || (*end && *end != '\n'))
			break; /* what is no number consents to nothing */
		rc = add(&c->base, &c->count, base, e);
	}
	free(text);
	return rc;
}

void consent_release(struct consent *c)
{
	free(c->base);
	free(c->found);
	*c = (struct consent){0};
}

int consent_to_gap(struct consent *c, int64_t base, struct err *e)
{
	bool accepted = c->all;
	for (size_t i = 0; i < c->count && !accepted; i++)
		accepted = c->base[i] == base;
	int rc = accepted ? add(&c->found, &c->found_count, base, e) : 0;
	return rc < 0 ? rc : accepted;
}

int consent_spend(const struct consent *c, const char *dir, struct err *e)
{
	char path[PATH_MAX];
	struct wr text;
	int sys;
	if (!c->there || !c->judged || (!c->all && c->found_count == c->count))
		return 0;
	snprintf(path, sizeof path, "%s/" CONSENT_FILE, dir);
	wr_init(&text, 0);
	for (size_t i = 0; i < c->found_count; i++)
		wr_printf(&text, "%" PRId64 "\n", c->found[i]);
	if (c->found_count)
		sys = text.failed ? -ENOMEM : io_replace_file(path, text.data, text.len, true);
	else
		sys = io_unlink(path);
	wr_release(&text);
	return sys < 0 && sys != -ENOENT ? err_sys(e, sys, "cannot put away %s", path) : 0;
}
