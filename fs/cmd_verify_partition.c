#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/topic_file.h"
#include "cluster/topics.h"
#include "fs/cmd_verify.h"
#include "store/consent.h"
#include "store/dirs.h"
#include "store/io.h"
#include "store/producers.h"
#include "store/txnindex.h"

/* ---- faults ---- */

enum { FAULTS_SHOWN = 50 };

void faults_init(struct faults *f)
{
	f->count = 0;
	wr_init(&f->text, 0);
}

void faults_release(struct faults *f)
{
	wr_release(&f->text);
}

void fault(struct faults *f, const char *path, const char *fmt, ...)
{
	char text[900];
	if (f->count++ >= FAULTS_SHOWN)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	/* the loaders' sentences begin with the path often enough */
	if (strstr(text, path))
		wr_printf(&f->text, "%s\n", text);
	else
		wr_printf(&f->text, "%s: %s\n", path, text);
}

void faults_print(const struct faults *f, const char *path)
{
	if (f->text.len)
		fwrite(f->text.data, 1, f->text.len, stdout);
	if (f->count > FAULTS_SHOWN)
		printf("%s: and %zu more faults\n", path, f->count - FAULTS_SHOWN);
}

/* ---- what a directory holds ---- */

enum { BASE_DIGITS = 20 };

static bool is_known(const char *name)
{
	static const char *const names[] = {"leader-epoch-checkpoint", "partition.metadata", TOPIC_FILE, CONSENT_FILE, "quorum-state"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* What may stand behind the 20 digits; and what is left of something unfinished, with the words for it. */
static const struct { const char *suffix, *left_over; } suffixes[] = {
	{".log", NULL},
	{".index", NULL},
	{".timeindex", NULL},
	{".txnindex", NULL},
	{".view", NULL},
	{".snapshot", NULL},
	{".deleted", NULL},
	{".checkpoint", NULL}, /* of Kafka's own metadata log */
	{".cut", "a torn end that was cut off, kept"},
	{".swap", "of a compaction that was interrupted; it is completed when the log is opened"},
	{".cleaned", "of a compaction that was interrupted; it goes when the log is opened"},
};

static void note_name(struct partition_check *p, const char *name)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", p->dir, name);
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
		if (name_ends(name, suffixes[i].suffix) && strspn(name, "0123456789") == BASE_DIGITS) {
			if (suffixes[i].left_over)
				fault(&p->notes, path, "%s", suffixes[i].left_over);
			return;
		}
	if (!strcmp(name, TOPIC_FILE_KEPT))
		fault(&p->notes, path, "properties that were damaged, kept when new ones were set");
	else if (!is_known(name))
		fault(&p->notes, path, "not a file of spoolfs or Kafka");
}

static bool add_segment(struct partition_check *p, int64_t base)
{
	struct segment_check *s = realloc(p->segment, (p->segment_count + 1) * sizeof *s);
	if (!s)
		return false;
	p->segment = s;
	s += p->segment_count++;
	*s = (struct segment_check){.base_offset = base, .end_offset = base, .last_view_offset = -1};
	faults_init(&s->faults);
	return true;
}

static void check_snapshot(struct partition_check *p, int64_t offset)
{
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	struct producers *state = producers_new();
	segment_path(p->dir, offset, ".snapshot", path, sizeof path);
	if (!state || producers_load(state, path, offset, &why) < 0)
		fault(&p->faults, path, "%s", state ? why.text : "no memory to check it");
	producers_free(state);
}

static int by_last_offset(const void *a, const void *b)
{
	const struct aborted_txn *x = a, *y = b;
	return x->last_offset < y->last_offset ? -1 : x->last_offset > y->last_offset;
}

static void load_aborted(struct partition_check *p, int64_t base)
{
	char path[PATH_MAX];
	struct aborted_txn *list = NULL;
	size_t n = 0;
	struct err why = ERR_INIT;
	segment_path(p->dir, base, ".txnindex", path, sizeof path);
	int rc = txnindex_load(path, base, &list, &n, &why);
	struct aborted_txn *all = rc == 0 && n ? realloc(p->shape.aborted, (p->shape.aborted_count + n) * sizeof *all) : NULL;
	if (all) {
		memcpy(all + p->shape.aborted_count, list, n * sizeof *all);
		p->shape.aborted = all;
		p->shape.aborted_count += n;
	} else if (rc < 0 || n)
		fault(&p->faults, path, "%s", rc < 0 ? why.text : "no memory to check it");
	free(list);
}

static int take_name(void *arg, const char *name, unsigned char type)
{
	struct partition_check *p = arg;
	p->any = true;
	note_name(p, name);
	if (type != DT_REG || strspn(name, "0123456789") != BASE_DIGITS)
		return 0;
	int64_t base = strtoll(name, NULL, 10);
	const char *suffix = name + BASE_DIGITS;
	if (!strcmp(suffix, ".log"))
		return add_segment(p, base) ? 0 : -ENOMEM;
	if (!strcmp(suffix, ".snapshot"))
		check_snapshot(p, base);
	else if (!strcmp(suffix, ".txnindex"))
		load_aborted(p, base);
	return 0;
}

static int by_base(const void *a, const void *b)
{
	const struct segment_check *x = a, *y = b;
	return x->base_offset < y->base_offset ? -1 : x->base_offset > y->base_offset;
}

static void load_epochs(struct partition_check *p)
{
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", p->dir);
	int rc = epochs_load(&p->epochs, path, &why);
	p->epochs_known = rc == 0;
	/* without a record there need not be one */
	if (rc < 0 && !(rc == ERR_NOT_FOUND && p->segment_count <= 1))
		fault(&p->faults, path, "%s", why.text);
}

/* The topic's id, and the start pair that is for that topic and not for an older one of its name. */
static void load_metadata(struct partition_check *p)
{
	char row_id[TOPIC_ID_CHARS + 1];
	struct err why = ERR_INIT;
	memcpy(row_id, p->topic_id, sizeof row_id);
	p->topic_id[0] = '\0';
	int rc = partition_metadata_load(p->dir, p->topic_id, &why);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		fault(&p->faults, p->dir, "%s", why.text);
	if (p->pair_offset >= 0 && row_id[0] && p->topic_id[0] && strcmp(row_id, p->topic_id) != 0)
		p->pair_offset = p->pair_position = -1;
}

/* What is set for the topic. Kafka's topics have no such file, nor need those that Kafka made to itself. */
static void check_properties(struct partition_check *p)
{
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	struct conf *c = conf_new(p->schema, NULL, CONF_TOPIC);
	snprintf(path, sizeof path, "%s/" TOPIC_FILE, p->dir);
	int rc = c ? topic_file_load(path, c, &why) : err_set(&why, ERR_NO_MEMORY, "no memory to check it");
	if (rc < 0 && (rc != ERR_NOT_FOUND || (p->ours && p->any && !topic_name_is_internal(p->topic))))
		fault(&p->faults, path, "%s", why.text);
	conf_free(c);
}

int verify_partition_load(struct partition_check *p, struct err *e)
{
	epochs_init(&p->epochs);
	faults_init(&p->faults);
	faults_init(&p->notes);
	int sys = io_list(p->dir, take_name, p);
	if (sys < 0)
		return err_sys(e, sys, "cannot list %s", p->dir);
	if (p->segment_count)
		qsort(p->segment, p->segment_count, sizeof *p->segment, by_base);
	if (p->shape.aborted_count)
		qsort(p->shape.aborted, p->shape.aborted_count, sizeof *p->shape.aborted, by_last_offset);
	for (size_t i = 0; i < p->segment_count; i++) {
		struct segment_check *s = &p->segment[i];
		char path[PATH_MAX];
		struct stat st;
		s->partition = p;
		segment_path(p->dir, s->base_offset, ".log", path, sizeof path);
		if (io_stat(path, &st) == 0)
			s->size_bytes = st.st_size > UINT32_MAX ? UINT32_MAX : (uint32_t)st.st_size;
	}
	load_metadata(p);
	load_epochs(p);
	if (p->partition == 0)
		check_properties(p);
	const struct segment_check *last = p->segment_count ? &p->segment[p->segment_count - 1] : NULL;
	/* Kafka may have had the directory since, and stopped cleanly too */
	if (p->state && last && (p->state->active_base != last->base_offset || p->state->active_bytes != last->size_bytes))
		p->state = NULL;
	if (p->pair_offset < 0 && p->state && !strcmp(p->state->topic_id, p->topic_id)) {
		p->pair_offset = p->state->start_offset;
		p->pair_position = p->state->start_position;
	}
	if (p->pair_offset < 0 && p->starts_at_zero)
		p->pair_offset = p->pair_position = 0;
	if (p->pair_offset > p->log_start)
		p->log_start = p->pair_offset;
	if (p->segment_count && p->log_start < p->segment[0].base_offset && p->pair_offset < 0)
		p->log_start = p->segment[0].base_offset;
	return 0;
}

void verify_partition_release(struct partition_check *p)
{
	for (size_t i = 0; i < p->segment_count; i++) {
		txn_trace_release(&p->segment[i].txns);
		faults_release(&p->segment[i].faults);
	}
	free(p->segment);
	free(p->shape.aborted);
	epochs_release(&p->epochs);
	faults_release(&p->faults);
	faults_release(&p->notes);
	free(p->dir);
}

/* ---- from one segment to the next ---- */

static void check_offsets(struct partition_check *p)
{
	for (size_t i = 1; i < p->segment_count; i++) {
		struct segment_check *before = &p->segment[i - 1], *s = &p->segment[i];
		char path[PATH_MAX];
		segment_path(p->dir, s->base_offset, ".log", path, sizeof path);
		if (before->end_offset > s->base_offset)
			fault(&s->faults, path, "begins with offset %" PRId64 ", but the segment before reaches to %" PRId64, s->base_offset, before->end_offset - 1);
		else if (before->end_offset < s->base_offset && !p->compacted && !before->damaged)
			fault(&s->faults, path, "offsets %" PRId64 " to %" PRId64 ", between the segment before and this one, are missing", before->end_offset, s->base_offset - 1);
	}
	/* Of a compacted log the cleaner removes segments of which nothing is left, the first too. */
	if (p->segment_count && p->segment[0].base_offset > p->log_start && !p->compacted)
		fault(&p->faults, p->dir, "the log starts at offset %" PRId64 ", but its first segment begins with %" PRId64, p->log_start, p->segment[0].base_offset);
}

/* What the log directory knows of the partition must be in the log. */
static void check_ends(struct partition_check *p)
{
	const struct segment_check *last = p->segment_count ? &p->segment[p->segment_count - 1] : NULL;
	int64_t end = last ? last->end_offset : p->log_start;
	if (last && last->damaged)
		return;
	if (p->log_start > end)
		fault(&p->faults, p->dir, "the log starts at offset %" PRId64 ", behind its end %" PRId64, p->log_start, end);
	if (p->recovery_point > end)
		fault(&p->faults, p->dir, "offsets up to %" PRId64 " were on disk, but the log ends at %" PRId64, p->recovery_point, end);
	if (p->high_watermark > end)
		fault(&p->faults, p->dir, "the high watermark was %" PRId64 ", but the log ends at %" PRId64, p->high_watermark, end);
	if (p->state && p->state->leo != end)
		fault(&p->faults, p->dir, "%s says that the log ends at %" PRId64 ", but it ends at %" PRId64, PARTITION_STATE_FILE, p->state->leo, end);
}

static void check_first_position(struct segment_check *s, int64_t expected, const char *by)
{
	char path[PATH_MAX];
	segment_path(s->partition->dir, s->base_offset, ".view", path, sizeof path);
	if (s->has_first_position && s->first_position != expected)
		fault(&s->faults, path, "its first position is %" PRId64 ", but by %s it is %" PRId64, s->first_position, by, expected);
}

/* Positions go on from segment to segment, start where the start pair says, and end where the checkpoint says. */
static void check_positions(struct partition_check *p, int64_t last_stable)
{
	bool known = false;
	int64_t position = 0;
	for (size_t i = 0; i < p->segment_count; i++) {
		struct segment_check *s = &p->segment[i];
		char path[PATH_MAX];
		segment_path(p->dir, s->base_offset, ".view", path, sizeof path);
		bool holds_start = p->pair_offset >= s->base_offset && (p->pair_offset < s->end_offset || i + 1 == p->segment_count);
		if (known)
			check_first_position(s, position, "the segments before");
		if (holds_start && !s->damaged) {
			check_first_position(s, p->pair_position - s->view_bytes_to_start, VIEW_START_FILE);
			position = p->pair_position - s->view_bytes_to_start;
			known = true;
		} else if (s->has_first_position) {
			position = s->first_position;
			known = true;
		}
		if (s->last_view_offset >= last_stable)
			fault(&s->faults, path, "it has an entry for offset %" PRId64 ", which is not decided yet: a transaction is open from %" PRId64, s->last_view_offset, last_stable);
		position += s->view_bytes;
		known = known && !s->damaged && s->end_offset <= last_stable;
	}
	/* of a compacted one the row has no position: -1 */
	if (known && p->state && p->state->visible_position >= 0 && p->segment_count && p->state->visible_offset == p->segment[p->segment_count - 1].end_offset && p->state->visible_position != position)
		fault(&p->faults, p->dir, "%s says that its file has %" PRId64 " bytes, but it has %" PRId64, PARTITION_STATE_FILE, p->state->visible_position, position);
}

void verify_partition_join(struct partition_check *p)
{
	int64_t last_stable = verify_transactions(p);
	check_offsets(p);
	check_ends(p);
	check_positions(p, last_stable);
}
