#include "store/epochs.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store/buf.h"
#include "store/io.h"

enum { FILE_LIMIT = 64 << 20 };

void epochs_init(struct epochs *x)
{
	*x = (struct epochs){0};
}

void epochs_release(struct epochs *x)
{
	free(x->list);
	epochs_init(x);
}

int epochs_copy(struct epochs *x, const struct epochs *from)
{
	epochs_init(x);
	if (!from->count)
		return 0;
	if (!(x->list = malloc(from->count * sizeof *x->list)))
		return ERR_NO_MEMORY;
	memcpy(x->list, from->list, from->count * sizeof *x->list);
	x->count = x->cap = from->count;
	return 0;
}

static int push(struct epochs *x, int32_t epoch, int64_t start_offset)
{
	if (x->count == x->cap) {
		size_t cap = x->cap ? 2 * x->cap : 4;
		struct epoch_start *more = realloc(x->list, cap * sizeof *more);
		if (!more)
			return ERR_NO_MEMORY;
		x->list = more;
		x->cap = cap;
	}
	x->list[x->count++] = (struct epoch_start){epoch, start_offset};
	return 0;
}

/* A decimal number without a sign, and the blanks behind it. */
static bool take_number(const char **text, int64_t max, int64_t *number)
{
	const char *c = *text;
	if (*c < '0' || *c > '9')
		return false;
	for (*number = 0; *c >= '0' && *c <= '9'; c++) {
		int digit = *c - '0';
		if (*number > (max - digit) / 10)
			return false;
		*number = *number * 10 + digit;
	}
	*text = c + strspn(c, " \t\r");
	return true;
}

/* A cut file ends without a newline: half a number is not taken for a whole one. */
static bool take_newline(const char **text)
{
	if (**text != '\n')
		return false;
	++*text;
	return true;
}

static int parse(struct epochs *x, const char *text, size_t n, const char *path, struct err *e)
{
	const char *end = text + n;
	int64_t version, count, epoch, start;
	if (!take_number(&text, INT32_MAX, &version) || version != 0 || !take_newline(&text))
		return err_set(e, ERR_CORRUPT, "%s: version is not 0", path);
	if (!take_number(&text, INT32_MAX, &count) || !take_newline(&text))
		return err_set(e, ERR_CORRUPT, "%s: no number of entries", path);
	for (int64_t i = 1; i <= count; i++) {
		if (!take_number(&text, INT32_MAX, &epoch) || !take_number(&text, INT64_MAX, &start) || !take_newline(&text))
			return err_set(e, ERR_CORRUPT, "%s: entry %" PRId64 " of %" PRId64 " is missing or malformed", path, i, count);
		if (x->count && (epoch <= x->list[x->count - 1].epoch || start < x->list[x->count - 1].start_offset))
			return err_set(e, ERR_CORRUPT, "%s: entry %" PRId64 " does not rise", path, i);
		if (epochs_assign(x, (int32_t)epoch, start) < 0) /* older Kafka let two epochs begin at one offset: the later one counts */
			return err_set(e, ERR_NO_MEMORY, "no memory for %s", path);
	}
	return text == end ? 0 : err_set(e, ERR_CORRUPT, "%s: there is more than its %" PRId64 " entries", path, count);
}

int epochs_load(struct epochs *x, const char *path, struct err *e)
{
	char *text;
	size_t n;
	x->count = 0;
	int sys = io_read_file(path, FILE_LIMIT, &text, &n);
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", path);
	int rc = n ? parse(x, text, n, path, e) : err_set(e, ERR_NOT_FOUND, "%s is empty: no epoch has begun yet", path);
	free(text);
	if (rc < 0)
		x->count = 0;
	return rc;
}

int epochs_write(const struct epochs *x, const char *path, struct err *e)
{
	struct wr text;
	wr_init(&text, 0);
	wr_printf(&text, "0\n%zu\n", x->count);
	for (size_t i = 0; i < x->count; i++)
		wr_printf(&text, "%" PRId32 " %" PRId64 "\n", x->list[i].epoch, x->list[i].start_offset);
	int rc = text.failed ? err_set(e, ERR_NO_MEMORY, "no memory for %s", path) : 0;
	if (rc == 0) {
		int sys = io_replace_file(path, text.data, text.len, true);
		if (sys < 0)
			rc = err_sys(e, sys, "cannot write %s", path);
	}
	wr_release(&text);
	return rc;
}

int32_t epochs_last(const struct epochs *x)
{
	return x->count ? x->list[x->count - 1].epoch : -1;
}

int epochs_assign(struct epochs *x, int32_t epoch, int64_t start_offset)
{
	if (epoch < 0 || start_offset < 0 || (epochs_last(x) == epoch && x->list[x->count - 1].start_offset <= start_offset))
		return 0;
	/* what the new one contradicts never was: a later epoch, or one that began at or past its start */
	while (x->count && (x->list[x->count - 1].epoch >= epoch || x->list[x->count - 1].start_offset >= start_offset))
		x->count--;
	int rc = push(x, epoch, start_offset);
	return rc < 0 ? rc : 1;
}

void epochs_end_of(const struct epochs *x, int32_t epoch, int64_t log_end, int32_t *found_epoch, int64_t *end_offset)
{
	*found_epoch = -1;
	*end_offset = -1;
	if (!x->count || epoch < 0)
		return;
	if (epoch == epochs_last(x)) {
		*found_epoch = epoch;
		*end_offset = log_end;
		return;
	}
	if (epoch > epochs_last(x))
		return;
	size_t next = 0;
	while (x->list[next].epoch <= epoch)
		next++;
	/* before the first known epoch: that one's start is where any earlier one ended */
	*found_epoch = next ? x->list[next - 1].epoch : epoch;
	*end_offset = x->list[next].start_offset;
}

int epochs_truncate_end(struct epochs *x, int64_t end_offset)
{
	size_t before = x->count;
	while (x->count && end_offset >= 0 && x->list[x->count - 1].start_offset >= end_offset)
		x->count--;
	return x->count != before;
}

int epochs_truncate_start(struct epochs *x, int64_t start_offset)
{
	size_t drop = 0;
	while (drop + 1 < x->count && x->list[drop + 1].start_offset <= start_offset)
		drop++;
	if (!x->count || (drop == 0 && x->list[0].start_offset >= start_offset))
		return 0;
	memmove(x->list, x->list + drop, (x->count - drop) * sizeof *x->list);
	x->count -= drop;
	if (x->list[0].start_offset < start_offset)
		x->list[0].start_offset = start_offset;
	return 1;
}
