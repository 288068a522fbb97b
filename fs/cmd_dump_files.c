#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/cmd_dump.h"
#include "store/checkpoint.h"
#include "store/epochs.h"
#include "store/index.h"
#include "store/io.h"
#include "store/producers.h"
#include "store/txnindex.h"
#include "store/view.h"

/* The loaders refuse a file that is damaged as a whole: that is its dump. Their sentence names the path. */
static int damaged_or(int rc, struct err *why, struct err *e)
{
	if (rc >= 0)
		return 0;
	if (rc != ERR_CORRUPT)
		return err_set(e, rc, "%s", why->text);
	printf("damaged: %s\n", why->text);
	return 1;
}

/* ---- indexes ---- */

/* Opened as plain entries, not as an index, which would not open with entries that cannot be right: those are worth seeing most. */
static int open_entries(const struct dump *d, struct entries *x, uint32_t entry_bytes, struct err *e)
{
	struct err why = ERR_INIT;
	return damaged_or(entries_open(x, d->path, false, false, 0, entry_bytes, 0, &why), &why, e);
}

int dump_index(const struct dump *d, struct err *e)
{
	struct offset_index x = {.base_offset = d->base_offset};
	int64_t offset, before = -1;
	uint32_t position;
	int rc = open_entries(d, &x.e, 8, e);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < entries_count(&x.e); i++) {
		offset_index_entry(&x, i, &offset, &position);
		printf("last=%" PRId64 " position=%" PRIu32 "\n", offset, position);
		if (offset <= before) {
			printf("damaged: entry %" PRIu32 " does not rise\n", i);
			rc = 1;
		}
		before = offset;
	}
	entries_close(&x.e);
	return rc;
}

int dump_timeindex(const struct dump *d, struct err *e)
{
	struct time_index x = {.base_offset = d->base_offset};
	int64_t offset, time, before = -2;
	char text[TIME_TEXT_BYTES];
	int rc = open_entries(d, &x.e, 12, e);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < entries_count(&x.e); i++) {
		time_index_entry(&x, i, &time, &offset);
		printf("time=%s last=%" PRId64 "\n", dump_time(time, text), offset);
		if (time <= before) {
			printf("damaged: entry %" PRIu32 " does not rise\n", i);
			rc = 1;
		}
		before = time;
	}
	entries_close(&x.e);
	return rc;
}

int dump_txnindex(const struct dump *d, struct err *e)
{
	struct aborted_txn *list = NULL;
	size_t n = 0;
	struct err why = ERR_INIT;
	int rc = damaged_or(txnindex_load(d->path, d->base_offset, &list, &n, &why), &why, e);
	for (size_t i = 0; i < n && rc == 0; i++)
		printf("producer=%" PRId64 " first=%" PRId64 " last=%" PRId64 " last_stable=%" PRId64 "\n", list[i].producer_id, list[i].first_offset,
		       list[i].last_offset, list[i].last_stable_offset);
	free(list);
	return rc;
}

int dump_view(const struct dump *d, struct err *e)
{
	struct view v;
	struct err why = ERR_INIT;
	int rc = damaged_or(view_open(&v, d->path, d->base_offset, false, 0, &why), &why, e);
	if (rc)
		return rc;
	printf("base=%" PRId64 " first_position=%" PRId64 "\n", v.base_offset, v.first_position);
	for (uint32_t i = 0; i < entries_count(&v.e); i++) {
		struct view_entry entry;
		if (view_entry_at(&v, i, &entry) < 0) {
			printf("damaged: the crc of entry %" PRIu32 " does not match\n", i);
			rc = 1;
			continue;
		}
		printf("view_position=%" PRId64 " offset=%" PRId64 " position=%" PRIu32 " byte=%" PRIu32 "\n", entry.position, entry.offset, entry.batch_position,
		       entry.byte_in_batch);
	}
	view_close(&v);
	return rc;
}

/* ---- the state of producers and epochs ---- */

int dump_snapshot(const struct dump *d, struct err *e)
{
	struct producers *p = producers_new();
	struct wr text;
	struct err why = ERR_INIT;
	if (!p)
		return err_set(e, ERR_NO_MEMORY, "no memory");
	wr_init(&text, 0);
	int rc = damaged_or(producers_load(p, d->path, d->base_offset, &why), &why, e);
	if (rc == 0) {
		producers_print(p, &text);
		rc = text.failed ? err_set(e, ERR_NO_MEMORY, "no memory") : 0;
	}
	if (rc == 0 && text.len)
		fwrite(text.data, 1, text.len, stdout);
	wr_release(&text);
	producers_free(p);
	return rc;
}

int dump_epochs(const struct dump *d, struct err *e)
{
	struct epochs x;
	struct err why = ERR_INIT;
	epochs_init(&x);
	int rc = damaged_or(epochs_load(&x, d->path, &why), &why, e);
	for (size_t i = 0; i < x.count && rc == 0; i++)
		printf("epoch=%" PRId32 " start=%" PRId64 "\n", x.list[i].epoch, x.list[i].start_offset);
	epochs_release(&x);
	return rc;
}

/* ---- checkpoints ---- */

static void print_offset(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	(void)arg;
	printf("%s-%" PRId32 " offset=%" PRId64 "\n", topic, partition, offset);
}

int dump_offsets(const struct dump *d, struct err *e)
{
	struct err why = ERR_INIT;
	return damaged_or(offset_checkpoint_load(d->path, print_offset, NULL, &why), &why, e);
}

static void print_start(void *arg, const struct start_row *r)
{
	(void)arg;
	printf("%s-%" PRId32 " id=%s offset=%" PRId64 " view_position=%" PRId64 "\n", r->topic, r->partition, r->topic_id, r->offset, r->position);
}

int dump_view_start(const struct dump *d, struct err *e)
{
	struct err why = ERR_INIT;
	return damaged_or(view_start_load(d->path, print_start, NULL, &why), &why, e);
}

static void print_state(void *arg, const struct partition_row *r)
{
	char time[TIME_TEXT_BYTES];
	(void)arg;
	printf("%s-%" PRId32 " id=%s epoch=%" PRId32 " active_base=%" PRId64 " active_bytes=%" PRId64 " start=%" PRId64 " start_view_position=%" PRId64
	       " end=%" PRId64 " last_stable=%" PRId64 " recovery_point=%" PRId64 " visible=%" PRId64 " view_position=%" PRId64 " time=%s bytes=%" PRId64 "\n",
	       r->topic, r->partition, r->topic_id, r->leader_epoch, r->active_base, r->active_bytes, r->start_offset, r->start_position, r->leo,
	       r->last_stable_offset, r->recovery_point, r->visible_offset, r->visible_position, dump_time(r->mtime_ms, time), r->bytes);
}

int dump_partition_state(const struct dump *d, struct err *e)
{
	struct err why = ERR_INIT;
	bool same_boot;
	return damaged_or(partition_state_load(d->path, &same_boot, print_state, NULL, &why), &why, e);
}

/* ---- files of text ---- */

int dump_text(const struct dump *d, struct err *e)
{
	enum { MOST_BYTES = 1 << 20 };
	char *text;
	size_t n;
	int sys = io_read_file(d->path, MOST_BYTES, &text, &n);
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", d->path);
	fwrite(text, 1, n, stdout);
	if (n && text[n - 1] != '\n')
		printf("\n");
	free(text);
	return 0;
}
