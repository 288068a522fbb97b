#include "store/entries.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/io.h"

/* The thread sanitizer takes a new mapping for a write by this thread. */
#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#else
#define AnnotateIgnoreWritesBegin(file, line) ((void)0)
#define AnnotateIgnoreWritesEnd(file, line) ((void)0)
#endif

/* ---- pages that cannot be read ---- */

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static struct entries *all_open; /* open_lock */
static struct sigaction previous;  /* who had the signal */

static bool is_mapped(const uint8_t *at)
{
	pthread_mutex_lock(&open_lock); /* whoever reads a mapping does not hold it */
	const struct entries *x = all_open;
	while (x && (at < x->map || at >= x->map + x->map_bytes))
		x = x->next;
	pthread_mutex_unlock(&open_lock);
	return x;
}

/* On the reader's own thread, between two of its instructions. */
static void put_zeros(int signal, siginfo_t *info, void *context)
{
	int error = errno;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *at = (uint8_t *)info->si_addr - (uintptr_t)info->si_addr % page;
	(void)context;
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
	if (!is_mapped(info->si_addr) || mmap(at, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		sigaction(signal, &previous, NULL); /* it comes again at once, to them */
	AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
	errno = error;
}

void entries_guard_reads(void)
{
	struct sigaction a = {.sa_sigaction = put_zeros, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	sigemptyset(&a.sa_mask);
	struct sigaction was;
	if (sigaction(SIGBUS, &a, &was) == 0 && was.sa_sigaction != put_zeros)
		previous = was;
}

static void enlist(struct entries *x)
{
	pthread_mutex_lock(&open_lock);
	x->next = all_open;
	x->link = &all_open;
	if (x->next)
		x->next->link = &x->next;
	all_open = x;
	pthread_mutex_unlock(&open_lock);
}

static void delist(struct entries *x)
{
	pthread_mutex_lock(&open_lock);
	if (x->link) {
		*x->link = x->next;
		if (x->next)
			x->next->link = x->link;
		x->link = NULL;
	}
	pthread_mutex_unlock(&open_lock);
}

/* ---- opening ---- */

static int open_file(struct entries *x, bool writable, bool create, size_t reserve_bytes, struct err *e)
{
	struct stat st;
	void *map;
	x->fd = io_open(x->path, (writable ? O_RDWR : O_RDONLY) | (create ? O_CREAT : 0), 0644);
	if (x->fd < 0)
		return err_sys(e, x->fd, "cannot open %s", x->path);
	int sys = io_fstat(x->fd, &st);
	if (sys < 0)
		return err_sys(e, sys, "cannot look at %s", x->path);
	uint64_t size = (uint64_t)st.st_size;
	if (size < x->header_bytes)
		return err_set(e, ERR_CORRUPT, "%s has %llu bytes, its header alone has %u", x->path, (unsigned long long)size, x->header_bytes);
	uint64_t body = size - x->header_bytes;
	if (body % x->entry_bytes || body / x->entry_bytes > UINT32_MAX)
		return err_set(e, ERR_CORRUPT, "%s has %llu bytes: no whole number of entries of %u", x->path, (unsigned long long)size, x->entry_bytes);
	x->count = (uint32_t)(body / x->entry_bytes);
	/* of a file that will grow, all that it may become: pages past its end are not touched before they exist */
	size_t bytes = reserve_bytes > size ? reserve_bytes : size;
	sys = io_mmap(x->fd, bytes, &map);
	if (sys < 0)
		return err_sys(e, sys, "cannot map %s", x->path);
	x->map = map;
	x->map_bytes = bytes;
	enlist(x);
	return 0;
}

int entries_open(struct entries *x, const char *path, bool writable, bool create, uint32_t header_bytes, uint32_t entry_bytes, size_t reserve_bytes, struct err *e)
{
	*x = (struct entries){.fd = -1, .header_bytes = header_bytes, .entry_bytes = entry_bytes, .path = strdup(path)};
	int rc = x->path ? open_file(x, writable, create, reserve_bytes, e) : err_set(e, ERR_NO_MEMORY, "no memory to open %s", path);
	if (rc < 0)
		entries_close(x);
	return rc;
}

void entries_close(struct entries *x)
{
	delist(x);
	io_munmap((void *)x->map, x->map_bytes);
	io_close(x->fd);
	free(x->path);
	x->path = NULL;
	x->map = NULL;
	x->map_bytes = 0;
	x->count = 0;
	x->fd = -1;
}

/* ---- pages that a reader may touch when the file no longer reaches them ---- */

static size_t page_up(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	return (bytes + page - 1) / page * page;
}

static int remap(struct entries *x, size_t from, size_t to, bool file)
{
	void *at = (void *)(x->map + from);
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
	void *got = file ? mmap(at, to - from, PROT_READ, MAP_SHARED | MAP_FIXED, x->fd, (off_t)from)
			 : mmap(at, to - from, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	int sys = got == MAP_FAILED ? -errno : 0;
	AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
	return sys;
}

/* Before the file is cut from old_end to end. */
static int hide(struct entries *x, size_t end, size_t old_end)
{
	size_t from = page_up(end), to = page_up(old_end);
	if (from >= to)
		return 0;
	int sys = remap(x, from, to, false);
	if (sys < 0)
		return sys;
	if (x->hidden_from == x->hidden_to)
		x->hidden_to = to;
	x->hidden_from = from;
	return 0;
}

/* After the file has grown to `end`. */
static int show(struct entries *x, size_t end)
{
	size_t to = page_up(end) < x->hidden_to ? page_up(end) : x->hidden_to;
	if (to <= x->hidden_from)
		return 0;
	int sys = remap(x, x->hidden_from, to, true);
	if (sys == 0)
		x->hidden_from = to;
	return sys;
}

/* ---- writing ---- */

static size_t end_of(const struct entries *x, uint32_t count)
{
	return x->header_bytes + (size_t)count * x->entry_bytes;
}

int entries_append_many(struct entries *x, const void *entry, uint32_t n, struct err *e)
{
	uint32_t count = entries_count(x);
	size_t at = end_of(x, count), bytes = (size_t)n * x->entry_bytes;
	if (at + bytes > x->map_bytes)
		return err_set(e, ERR_TOO_LARGE, "%s is full at %u entries", x->path, count);
	int sys = io_pwrite(x->fd, entry, bytes, (off_t)at);
	if (sys == 0)
		sys = show(x, at + bytes);
	if (sys < 0) {
		int rc = err_sys(e, sys, "cannot add to %s", x->path), cut = io_truncate(x->fd, (off_t)at);
		return cut < 0 ? err_sys(e, EIO, "%s could not be cut back to %u entries after a failed write (errno %d)", x->path, count, -cut) : rc;
	}
	atomic_store_explicit(&x->count, count + n, memory_order_release);
	return 0;
}

int entries_append(struct entries *x, const void *entry, struct err *e)
{
	return entries_append_many(x, entry, 1, e);
}

int entries_hide(struct entries *x, uint32_t count, struct err *e)
{
	uint32_t before = entries_count(x);
	if (count >= before)
		return 0;
	atomic_store_explicit(&x->count, count, memory_order_release);
	int sys = hide(x, end_of(x, count), end_of(x, before));
	if (sys == 0)
		return 0;
	atomic_store_explicit(&x->count, before, memory_order_release);
	return err_sys(e, sys, "cannot hide what is cut of %s", x->path);
}

int entries_truncate(struct entries *x, uint32_t count, struct err *e)
{
	uint32_t before = entries_count(x);
	if (count >= before)
		return 0;
	atomic_store_explicit(&x->count, count, memory_order_release);
	int sys = hide(x, end_of(x, count), end_of(x, before));
	if (sys == 0 && (sys = io_truncate(x->fd, (off_t)end_of(x, count))) < 0)
		show(x, end_of(x, before));
	if (sys == 0)
		return 0;
	atomic_store_explicit(&x->count, before, memory_order_release);
	return err_sys(e, sys, "cannot cut %s to %u entries", x->path, count);
}
