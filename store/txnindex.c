#include "store/txnindex.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "store/buf.h"
#include "store/io.h"

enum { ENTRY_BYTES = 34, FILE_LIMIT = 1 << 30 };

static void put_entry(uint8_t *p, const struct aborted_txn *a)
{
	be16_put(p, 0);
	be64_put(p + 2, (uint64_t)a->producer_id);
	be64_put(p + 10, (uint64_t)a->first_offset);
	be64_put(p + 18, (uint64_t)a->last_offset);
	be64_put(p + 26, (uint64_t)a->last_stable_offset);
}

static int get_entry(const uint8_t *p, int64_t base_offset, const struct aborted_txn *before, struct aborted_txn *a)
{
	*a = (struct aborted_txn){(int64_t)be64_get(p + 2), (int64_t)be64_get(p + 10), (int64_t)be64_get(p + 18), (int64_t)be64_get(p + 26)};
	if (be16_get(p) != 0 || a->producer_id < 0 || a->first_offset < 0 || a->last_offset < base_offset || a->first_offset > a->last_offset)
		return ERR_CORRUPT;
	/* no bound above: a follower that took several transactions with one fetch notes the first offset of one that began behind the marker */
	if (a->last_stable_offset < 0)
		return ERR_CORRUPT;
	return before && before->last_offset >= a->last_offset ? ERR_CORRUPT : 0;
}

int txnindex_load(const char *path, int64_t base_offset, struct aborted_txn **list, size_t *n, struct err *e)
{
	char *bytes;
	size_t size;
	*list = NULL;
	*n = 0;
	int sys = io_read_file(path, FILE_LIMIT, &bytes, &size);
	if (sys == -ENOENT)
		return 0;
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", path);
	int rc = size % ENTRY_BYTES ? err_set(e, ERR_CORRUPT, "%s has %zu bytes: no whole number of entries of %d", path, size, ENTRY_BYTES) : 0;
	size_t count = size / ENTRY_BYTES;
	struct aborted_txn *all = count ? malloc(count * sizeof *all) : NULL;
	if (rc == 0 && count && !all)
		rc = err_set(e, ERR_NO_MEMORY, "no memory for %s", path);
	for (size_t i = 0; i < count && rc == 0; i++)
		if (get_entry((const uint8_t *)bytes + i * ENTRY_BYTES, base_offset, i ? &all[i - 1] : NULL, &all[i]) < 0)
			rc = err_set(e, ERR_CORRUPT, "%s: entry %zu is damaged", path, i);
	free(bytes);
	if (rc < 0) {
		free(all);
		return rc;
	}
	*list = all;
	*n = count;
	return 0;
}

int txnindex_append(const char *path, const struct aborted_txn *a, struct err *e)
{
	uint8_t entry[ENTRY_BYTES];
	struct stat st;
	int fd = io_open(path, O_RDWR | O_CREAT, 0644);
	if (fd < 0)
		return err_sys(e, fd, "cannot open %s", path);
	put_entry(entry, a);
	int sys = io_fstat(fd, &st);
	if (sys == 0) {
		off_t at = st.st_size - st.st_size % ENTRY_BYTES; /* over what a failed append may have left */
		sys = io_pwrite(fd, entry, sizeof entry, at);
		if (sys < 0 && at)
			io_truncate(fd, at);
		else if (sys < 0)
			io_unlink(path);
	}
	io_close(fd);
	return sys < 0 ? err_sys(e, sys, "cannot add an aborted transaction to %s", path) : 0;
}

int txnindex_write(const char *path, const struct aborted_txn *list, size_t n, struct err *e)
{
	if (n == 0) {
		int sys = io_unlink(path);
		return sys < 0 && sys != -ENOENT ? err_sys(e, sys, "cannot remove %s", path) : 0;
	}
	uint8_t *bytes = malloc(n * ENTRY_BYTES);
	if (!bytes)
		return err_set(e, ERR_NO_MEMORY, "no memory for %s", path);
	for (size_t i = 0; i < n; i++)
		put_entry(bytes + i * ENTRY_BYTES, &list[i]);
	int sys = io_replace_file(path, bytes, n * ENTRY_BYTES, true);
	free(bytes);
	return sys < 0 ? err_sys(e, sys, "cannot write %s", path) : 0;
}
