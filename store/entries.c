#include "store/entries.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "store/io.h"

static int fail(struct entries *x, struct err *e, int rc)
{
	entries_close(x);
	(void)e;
	return rc;
}

/* Maps what is there, or, of a file that will grow, all that it may become: pages past its end are not touched before they exist. */
static int map_file(struct entries *x, const char *path, size_t bytes, struct err *e)
{
	void *map;
	if (!bytes)
		return 0;
	int sys = io_mmap(x->fd, bytes, &map);
	if (sys < 0)
		return err_sys(e, sys, "cannot map %s", path);
	x->map = map;
	x->map_bytes = bytes;
	return 0;
}

int entries_open(struct entries *x, const char *path, bool writable, bool create, uint32_t header_bytes, uint32_t entry_bytes, size_t reserve_bytes, struct err *e)
{
	struct stat st;
	*x = (struct entries){.fd = -1, .header_bytes = header_bytes, .entry_bytes = entry_bytes};
	x->fd = io_open(path, (writable ? O_RDWR : O_RDONLY) | (create ? O_CREAT : 0), 0644);
	if (x->fd < 0 && create && !writable) /* a reader that may have to make an empty one */
		x->fd = io_open(path, O_RDWR | O_CREAT, 0644);
	if (x->fd < 0)
		return err_sys(e, x->fd, "cannot open %s", path);
	int sys = io_fstat(x->fd, &st);
	if (sys < 0)
		return fail(x, e, err_sys(e, sys, "cannot look at %s", path));
	uint64_t size = (uint64_t)st.st_size;
	if (size < header_bytes && (size || !create))
		return fail(x, e, err_set(e, ERR_CORRUPT, "%s has %llu bytes, its header alone has %u", path, (unsigned long long)size, header_bytes));
	uint64_t body = size > header_bytes ? size - header_bytes : 0;
	if (body % entry_bytes || body / entry_bytes > UINT32_MAX)
		return fail(x, e, err_set(e, ERR_CORRUPT, "%s has %llu bytes: no whole number of entries of %u", path, (unsigned long long)size, entry_bytes));
	x->count = (uint32_t)(body / entry_bytes);
	int rc = map_file(x, path, reserve_bytes > size ? reserve_bytes : size, e);
	return rc < 0 ? fail(x, e, rc) : 0;
}

void entries_close(struct entries *x)
{
	io_munmap((void *)x->map, x->map_bytes);
	io_close(x->fd);
	x->map = NULL;
	x->map_bytes = 0;
	x->fd = -1;
}

int entries_append_many(struct entries *x, const void *entry, uint32_t n, struct err *e)
{
	uint32_t count = entries_count(x);
	off_t at = (off_t)x->header_bytes + (off_t)count * x->entry_bytes;
	size_t bytes = (size_t)n * x->entry_bytes;
	if ((size_t)at + bytes > x->map_bytes)
		return err_set(e, ERR_TOO_LARGE, "the index is full at %u entries", count);
	int sys = io_pwrite(x->fd, entry, bytes, at);
	if (sys < 0) {
		int rc = err_sys(e, sys, "cannot add an index entry");
		io_truncate(x->fd, at);
		return rc;
	}
	atomic_store_explicit(&x->count, count + n, memory_order_release);
	return 0;
}

int entries_append(struct entries *x, const void *entry, struct err *e)
{
	return entries_append_many(x, entry, 1, e);
}

int entries_truncate(struct entries *x, uint32_t count, struct err *e)
{
	if (count >= entries_count(x))
		return 0;
	atomic_store_explicit(&x->count, count, memory_order_release);
	int sys = io_truncate(x->fd, (off_t)x->header_bytes + (off_t)count * x->entry_bytes);
	return sys < 0 ? err_sys(e, sys, "cannot cut an index to %u entries", count) : 0;
}
