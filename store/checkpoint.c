#include "store/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/io.h"

enum { FILE_LIMIT = 1 << 30 };

void checkpoint_rows_init(struct checkpoint_rows *r)
{
	wr_init(&r->text, 0);
	r->count = 0;
}

void checkpoint_rows_release(struct checkpoint_rows *r)
{
	wr_release(&r->text);
}

/* Writes head, rows and, where with_crc, the closing line. */
static int write_rows(const char *path, const char *head, struct checkpoint_rows *r, bool with_crc, struct err *e)
{
	struct wr file;
	wr_init(&file, 0);
	wr_printf(&file, "%s", head);
	wr_bytes(&file, r->text.data, r->text.len);
	if (with_crc)
		wr_printf(&file, "crc %08" PRIx32 "\n", crc32c(0, file.data, file.len));
	int rc = file.failed || r->text.failed ? err_set(e, ERR_NO_MEMORY, "no memory to write %s", path) : 0;
	if (rc == 0) {
		int sys = io_replace_file(path, file.data, file.len, true);
		if (sys < 0)
			rc = err_sys(e, sys, "cannot write %s", path);
	}
	wr_release(&file);
	return rc;
}

static int read_file(const char *path, char **text, size_t *n, struct err *e)
{
	int sys = io_read_file(path, FILE_LIMIT, text, n);
	return sys < 0 ? err_sys(e, sys, "cannot read %s", path) : 0;
}

/* The line at *p, NUL-terminated in place; moves *p behind it. NULL at the end. */
static char *next_line(char **p)
{
	char *line = *p;
	if (!*line)
		return NULL;
	char *nl = strchr(line, '\n');
	if (nl) {
		*nl = 0;
		*p = nl + 1;
	} else {
		*p = line + strlen(line);
	}
	return line;
}

/* ---- Kafka's ---- */

/* One row of Kafka's; a number that the file's end may have cut short (no newline behind it) is none. */
static bool offset_row(char **p, char topic[TOPIC_NAME_MAX + 1], int32_t *partition, int64_t *offset)
{
	int end = 0;
	if (!strchr(*p, '\n'))
		return false;
	char *line = next_line(p);
	return line && sscanf(line, "%249s %" SCNd32 " %" SCNd64 "%n", topic, partition, offset, &end) == 3 && !line[end] && *partition >= 0 && *offset >= 0;
}

/* Goes through the rows; fn NULL: only to see whether all of them are good. */
static int offset_rows(char *text, const char *path, offset_row_fn fn, void *arg, struct err *e)
{
	char *p = text, *end, *line = next_line(&p);
	if (!line || strcmp(line, "0") != 0)
		return err_set(e, ERR_CORRUPT, "%s: version is not 0", path);
	line = next_line(&p);
	long count = line && *line ? strtol(line, &end, 10) : -1;
	if (count < 0 || *end)
		return err_set(e, ERR_CORRUPT, "%s: no number of rows", path);
	for (long i = 0; i < count; i++) {
		char topic[TOPIC_NAME_MAX + 1];
		int32_t partition;
		int64_t offset;
		if (!offset_row(&p, topic, &partition, &offset))
			return err_set(e, ERR_CORRUPT, "%s: row %ld of %ld is missing or malformed", path, i + 1, count);
		if (fn)
			fn(arg, topic, partition, offset);
	}
	return *p ? err_set(e, ERR_CORRUPT, "%s has more than its %ld rows", path, count) : 0;
}

/* All rows or none: the text is gone through twice, as the first time cuts it into lines. */
int offset_checkpoint_load(const char *path, offset_row_fn fn, void *arg, struct err *e)
{
	char *text, *copy;
	size_t n;
	struct err why = ERR_INIT;
	int rc = read_file(path, &text, &n, &why);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc < 0)
		return err_set(e, rc, "%s", why.text);
	if (n == 0) { /* Kafka leaves such files, and reads them as no rows */
		free(text);
		return 0;
	}
	copy = malloc(n + 1);
	if (!copy)
		rc = err_set(e, ERR_NO_MEMORY, "no memory for %s", path);
	else if (strlen(text) != n)
		rc = err_set(e, ERR_CORRUPT, "%s: there is a NUL in it", path);
	else
		rc = offset_rows(memcpy(copy, text, n + 1), path, NULL, NULL, e);
	if (rc == 0)
		rc = offset_rows(text, path, fn, arg, e);
	free(copy);
	free(text);
	return rc;
}

void offset_checkpoint_add(struct checkpoint_rows *r, const char *topic, int32_t partition, int64_t offset)
{
	wr_printf(&r->text, "%s %" PRId32 " %" PRId64 "\n", topic, partition, offset);
	r->count++;
}

int offset_checkpoint_write(const char *path, struct checkpoint_rows *r, struct err *e)
{
	char head[32];
	snprintf(head, sizeof head, "0\n%" PRIu32 "\n", r->count);
	return write_rows(path, head, r, false, e);
}

/* ---- ours ---- */

/* Reads the file, checks the closing crc and the version. *p: the first line after the version's. The caller frees *text. */
static int read_checked(const char *path, char **text, char **p, struct err *e)
{
	size_t n;
	int rc = read_file(path, text, &n, e);
	if (rc < 0)
		return rc;
	int version;
	if (sscanf(*text, "version %d\n", &version) == 1 && version > CHECKPOINT_VERSION) {
		free(*text);
		return err_set(e, ERR_VERSION, "%s has version %d, this spoolfs knows %d: it was written by a newer one; use that", path, version, CHECKPOINT_VERSION);
	}
	enum { CLOSING = sizeof "crc 00000000\n" - 1 };
	uint32_t crc;
	if (n < CLOSING || sscanf(*text + n - CLOSING, "crc %8" SCNx32, &crc) != 1 || crc != crc32c(0, *text, n - CLOSING) ||
	    sscanf(*text, "version %d\n", &version) != 1) {
		free(*text);
		return err_set(e, ERR_CORRUPT, "%s is damaged (its checksum does not match)", path);
	}
	(*text)[n - CLOSING] = 0;
	*p = *text;
	next_line(p);
	return 0;
}

int view_start_load(const char *path, start_row_fn fn, void *arg, struct err *e)
{
	char *text, *p, *line;
	int rc = read_checked(path, &text, &p, e);
	if (rc < 0)
		return rc;
	while ((line = next_line(&p))) {
		struct start_row row;
		if (sscanf(line, "%249s %" SCNd32 " %22s %" SCNd64 " %" SCNd64, row.topic, &row.partition, row.topic_id, &row.offset, &row.position) != 5) {
			rc = err_set(e, ERR_CORRUPT, "%s: malformed row \"%s\"", path, line);
			break;
		}
		fn(arg, &row);
	}
	free(text);
	return rc;
}

void view_start_add(struct checkpoint_rows *r, const struct start_row *row)
{
	wr_printf(&r->text, "%s %" PRId32 " %s %" PRId64 " %" PRId64 "\n", row->topic, row->partition, row->topic_id, row->offset, row->position);
	r->count++;
}

int view_start_write(const char *path, struct checkpoint_rows *r, struct err *e)
{
	char head[32];
	snprintf(head, sizeof head, "version %d\n", CHECKPOINT_VERSION);
	return write_rows(path, head, r, true, e);
}

int log_dirs_load(const char *path, void (*fn)(void *arg, const char *dir), void *arg, struct err *e)
{
	char *text, *p, *line;
	int rc = read_checked(path, &text, &p, e);
	if (rc < 0)
		return rc;
	while ((line = next_line(&p)))
		fn(arg, line);
	free(text);
	return 0;
}

void log_dirs_row(struct checkpoint_rows *r, const char *dir)
{
	size_t n = strlen(dir);
	const char *p = (const char *)r->text.data, *end = p + r->text.len;
	for (; p < end; p = (const char *)memchr(p, '\n', (size_t)(end - p)) + 1)
		if ((size_t)(end - p) > n && !memcmp(p, dir, n) && p[n] == '\n')
			return;
	wr_printf(&r->text, "%s\n", dir);
	r->count++;
}

struct same { const char *p, *end; bool same; };

static void compare_dir(void *arg, const char *dir)
{
	struct same *x = arg;
	size_t n = strlen(dir);
	x->same = x->same && (size_t)(x->end - x->p) > n && !memcmp(x->p, dir, n) && x->p[n] == '\n';
	x->p += n + 1;
}

int log_dirs_write(const char *path, struct checkpoint_rows *r, struct err *e)
{
	char head[32];
	const char *text = (const char *)r->text.data;
	struct same same = {text, text + r->text.len, true};
	if (log_dirs_load(path, compare_dir, &same, NULL) == 0 && same.same && same.p == same.end)
		return 0;
	snprintf(head, sizeof head, "version %d\n", CHECKPOINT_VERSION);
	return write_rows(path, head, r, true, e);
}

void boot_id(char id[64])
{
	char *text;
	size_t n;
	snprintf(id, 64, "unknown");
	if (io_read_file("/proc/sys/kernel/random/boot_id", 63, &text, &n) < 0)
		return;
	text[strcspn(text, "\n")] = 0;
	snprintf(id, 64, "%s", text);
	free(text);
}

int partition_state_load(const char *path, bool *same_boot, partition_row_fn fn, void *arg, struct err *e)
{
	char *text, *p, *line, now[64], then[64];
	*same_boot = false;
	int rc = read_checked(path, &text, &p, e);
	if (rc < 0)
		return rc;
	boot_id(now);
	line = next_line(&p);
	if (!line || sscanf(line, "boot %63s", then) != 1) {
		rc = err_set(e, ERR_CORRUPT, "%s: no boot id", path);
		goto done;
	}
	*same_boot = strcmp(now, "unknown") != 0 && strcmp(now, then) == 0;
	while ((line = next_line(&p))) {
		struct partition_row r;
		if (sscanf(line,
			   "%249s %" SCNd32 " %22s %" SCNd32 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64
			   " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64,
			   r.topic, &r.partition, r.topic_id, &r.leader_epoch, &r.active_base, &r.active_bytes, &r.dir_mtime_ns, &r.start_offset,
			   &r.start_position, &r.leo, &r.last_stable_offset, &r.recovery_point, &r.visible_offset, &r.visible_position, &r.mtime_ms,
			   &r.bytes) != 16) {
			rc = err_set(e, ERR_CORRUPT, "%s: malformed row \"%s\"", path, line);
			goto done;
		}
		fn(arg, &r);
	}
done:
	free(text);
	return rc;
}

void partition_state_add(struct checkpoint_rows *rows, const struct partition_row *r)
{
	wr_printf(&rows->text,
		  "%s %" PRId32 " %s %" PRId32 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64
		  " %" PRId64 " %" PRId64 " %" PRId64 "\n",
		  r->topic, r->partition, r->topic_id, r->leader_epoch, r->active_base, r->active_bytes, r->dir_mtime_ns, r->start_offset, r->start_position,
		  r->leo, r->last_stable_offset, r->recovery_point, r->visible_offset, r->visible_position, r->mtime_ms, r->bytes);
	rows->count++;
}

int partition_state_write(const char *path, struct checkpoint_rows *r, struct err *e)
{
	char head[128], id[64];
	boot_id(id);
	snprintf(head, sizeof head, "version %d\nboot %s\n", CHECKPOINT_VERSION, id);
	return write_rows(path, head, r, true, e);
}

/* ---- the marker of a clean stop ---- */

static uint32_t state_crc(const char *dir)
{
	char path[PATH_MAX], *text;
	size_t n;
	snprintf(path, sizeof path, "%s/" PARTITION_STATE_FILE, dir);
	if (io_read_file(path, 1 << 30, &text, &n) < 0)
		return 0;
	uint32_t crc = crc32c(0, text, n);
	free(text);
	return crc;
}

int clean_stop_write(const char *dir, struct err *e)
{
	char path[PATH_MAX], text[96];
	snprintf(path, sizeof path, "%s/" CLEAN_SHUTDOWN_FILE, dir);
	int n = snprintf(text, sizeof text, "{\"version\":0,\"brokerEpoch\":-1,\"spoolfsState\":%" PRIu32 "}", state_crc(dir));
	int sys = io_replace_file(path, text, (size_t)n, true);
	return sys < 0 ? err_sys(e, sys, "cannot write %s", path) : 0;
}

bool clean_stop_is_ours(const char *dir)
{
	char path[PATH_MAX], *text;
	size_t n;
	uint32_t crc = 0;
	snprintf(path, sizeof path, "%s/" CLEAN_SHUTDOWN_FILE, dir);
	if (io_read_file(path, 4096, &text, &n) < 0)
		return false;
	const char *at = strstr(text, "\"spoolfsState\":");
	bool ours = at && sscanf(at, "\"spoolfsState\":%" SCNu32, &crc) == 1 && crc == state_crc(dir);
	free(text);
	return ours;
}
