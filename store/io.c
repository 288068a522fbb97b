#include "store/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/retried.h"

#ifndef IOV_MAX
#define IOV_MAX 1024
#endif

static io_hook_fn hook;
static void *hook_arg;

void io_set_hook(io_hook_fn fn, void *arg)
{
	hook = fn;
	hook_arg = arg;
}

const char *io_call_name(enum io_call call)
{
	static const char *const names[IO_CALLS] = {
		[IO_OPEN] = "open", [IO_READ] = "read", [IO_WRITE] = "write", [IO_SYNC] = "sync",
		[IO_TRUNCATE] = "truncate", [IO_RENAME] = "rename", [IO_UNLINK] = "unlink", [IO_MKDIR] = "mkdir",
		[IO_RMDIR] = "rmdir", [IO_STAT] = "stat", [IO_MMAP] = "mmap", [IO_LIST] = "list",
	};
	return call < IO_CALLS ? names[call] : "unknown";
}

static inline ssize_t ask_hook(enum io_call call, const char *name, int fd, size_t bytes)
{
	if (__builtin_expect(!hook, 1))
		return 0;
	return hook(hook_arg, call, name, fd, bytes);
}

/* For the calls that the hook can only refuse or let pass. */
static inline int refused(enum io_call call, const char *name, int fd, size_t bytes)
{
	ssize_t r = ask_hook(call, name, fd, bytes);
	return r < 0 ? (int)r : 0;
}

int io_open(const char *path, int flags, mode_t mode)
{
	int r = refused(IO_OPEN, path, -1, 0);
	return r ? r : RETRIED(open(path, flags | O_CLOEXEC, mode));
}

int io_close(int fd)
{
	/* On Linux the descriptor is gone after EINTR too: a second close could hit another thread's file. */
	if (fd < 0 || !close(fd) || errno == EINTR)
		return 0;
	return -errno;
}

int io_replace_fd(int fd, int by)
{
	int r = refused(IO_OPEN, NULL, fd, 0);
	if (!r)
		r = RETRIED(dup3(by, fd, O_CLOEXEC));
	return r < 0 ? r : 0;
}

ssize_t io_pread(int fd, void *buf, size_t n, off_t at)
{
	int r = refused(IO_READ, NULL, fd, n);
	if (r)
		return r;
	size_t done = 0;
	while (done < n) {
		ssize_t got = RETRIED(pread(fd, (char *)buf + done, n - done, at + (off_t)done));
		if (got < 0)
			return got;
		if (!got)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

/* Leaves out the first n bytes of the vector. */
static void iov_advance(struct iovec **iov, int *count, size_t n)
{
	while (*count && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		++*iov;
		--*count;
	}
	if (*count) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

/* Cuts the vector to its first n bytes; returns the new count. */
static int iov_cut(struct iovec *iov, int count, size_t n)
{
	int i = 0;
	for (; i < count && n; i++) {
		if (iov[i].iov_len > n)
			iov[i].iov_len = n;
		n -= iov[i].iov_len;
	}
	return i;
}

int io_pwritev(int fd, struct iovec *iov, int count, off_t at)
{
	size_t bytes = 0;
	for (int i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	int after = 0;
	ssize_t allowed = ask_hook(IO_WRITE, NULL, fd, bytes);
	if (allowed < 0)
		return (int)allowed;
	if (allowed > 0 && (size_t)allowed < bytes) {
		count = iov_cut(iov, count, (size_t)allowed);
		after = -ENOSPC;
	}
	iov_advance(&iov, &count, 0);
	while (count) {
		ssize_t put = RETRIED(pwritev(fd, iov, count < IOV_MAX ? count : IOV_MAX, at));
		if (put < 0)
			return (int)put;
		if (!put) /* no progress and no reason given: never loop on it */
			return -ENOSPC;
		at += put;
		iov_advance(&iov, &count, (size_t)put);
	}
	return after;
}

int io_pwrite(int fd, const void *buf, size_t n, off_t at)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = n};
	return io_pwritev(fd, &iov, 1, at);
}

int io_fsync(int fd)
{
	int r = refused(IO_SYNC, NULL, fd, 0);
	return r ? r : RETRIED(fsync(fd));
}

int io_fdatasync(int fd)
{
	int r = refused(IO_SYNC, NULL, fd, 0);
	return r ? r : RETRIED(fdatasync(fd));
}

int io_fsync_dir(const char *path)
{
	int fd = io_open(path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	int r = refused(IO_SYNC, path, fd, 0);
	if (!r)
		r = RETRIED(fsync(fd));
	io_close(fd);
	return r;
}

int io_truncate(int fd, off_t size)
{
	int r = refused(IO_TRUNCATE, NULL, fd, (size_t)size);
	return r ? r : RETRIED(ftruncate(fd, size));
}

int io_rename(const char *from, const char *to)
{
	int r = refused(IO_RENAME, from, -1, 0);
	return r ? r : RETRIED(rename(from, to));
}

int io_unlink(const char *path)
{
	int r = refused(IO_UNLINK, path, -1, 0);
	return r ? r : RETRIED(unlink(path));
}

int io_mkdir(const char *path, mode_t mode)
{
	int r = refused(IO_MKDIR, path, -1, 0);
	return r ? r : RETRIED(mkdir(path, mode));
}

int io_rmdir(const char *path)
{
	int r = refused(IO_RMDIR, path, -1, 0);
	return r ? r : RETRIED(rmdir(path));
}

int io_stat(const char *path, struct stat *st)
{
	int r = refused(IO_STAT, path, -1, 0);
	return r ? r : RETRIED(stat(path, st));
}

int io_set_mtime(int fd, const struct timespec *t)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, *t};
	int r = refused(IO_STAT, NULL, fd, 0);
	return r ? r : RETRIED(futimens(fd, times));
}

int io_fstat(int fd, struct stat *st)
{
	int r = refused(IO_STAT, NULL, fd, 0);
	return r ? r : RETRIED(fstat(fd, st));
}

int io_mmap(int fd, size_t bytes, void **map)
{
	*map = NULL;
	int r = refused(IO_MMAP, NULL, fd, bytes);
	if (r || !bytes)
		return r;
	void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*map = p;
	return 0;
}

void io_munmap(void *map, size_t bytes)
{
	if (map)
		munmap(map, bytes);
}

/* d_type of an entry where readdir does not know it. false: the entry is gone. */
static bool find_type(DIR *dir, struct dirent *d)
{
	struct stat st;
	if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW))
		return errno != ENOENT;
	d->d_type = (unsigned char)IFTODT(st.st_mode);
	return true;
}

int io_list(const char *path, int (*fn)(void *arg, const char *name, unsigned char d_type), void *arg)
{
	int r = refused(IO_LIST, path, -1, 0);
	if (r)
		return r;
	DIR *dir = opendir(path);
	if (!dir)
		return -errno;
	struct dirent *d;
	while (!r) {
		errno = 0;
		d = readdir(dir);
		if (!d) {
			r = -errno;
			break;
		}
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		if (d->d_type == DT_UNKNOWN && !find_type(dir, d))
			continue;
		r = fn(arg, d->d_name, d->d_type);
	}
	closedir(dir);
	return r;
}

/* Reads an open file to its end, however long that turns out to be. */
static int read_all(int fd, size_t limit, char **text, size_t *n)
{
	struct stat st;
	int r = io_fstat(fd, &st);
	if (r)
		return r;
	if (st.st_size > 0 && (uintmax_t)st.st_size > limit)
		return -EFBIG;
	/* One byte more than its size (for the NUL, and to see that the end is the end); it may grow while it is read. */
	size_t cap = (size_t)st.st_size + 1, len = 0;
	char *buf = malloc(cap);
	if (!buf)
		return -ENOMEM;
	for (;;) {
		ssize_t got = io_pread(fd, buf + len, cap - len, (off_t)len);
		if (got < 0) {
			r = (int)got;
			break;
		}
		len += (size_t)got;
		if (len < cap) {
			buf[len] = '\0';
			*text = buf;
			*n = len;
			return 0;
		}
		if (len > limit) {
			r = -EFBIG;
			break;
		}
		cap = cap * 2 + 4096 < limit ? cap * 2 + 4096 : limit + 1;
		char *more = realloc(buf, cap);
		if (!more) {
			r = -ENOMEM;
			break;
		}
		buf = more;
	}
	free(buf);
	return r;
}

int io_read_file(const char *path, size_t limit, char **text, size_t *n)
{
	if (limit > SSIZE_MAX - 8192)
		limit = SSIZE_MAX - 8192;
	int fd = io_open(path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	int r = read_all(fd, limit, text, n);
	io_close(fd);
	return r;
}

static int fsync_parent(const char *path)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(path, '/');
	if (!slash)
		return io_fsync_dir(".");
	size_t len = slash == path ? 1 : (size_t)(slash - path);
	if (len >= sizeof parent)
		return -ENAMETOOLONG;
	memcpy(parent, path, len);
	parent[len] = '\0';
	return io_fsync_dir(parent);
}

static int replace(const char *path, const void *data, size_t n, bool durable, mode_t mode)
{
	char tmp[PATH_MAX];
	if (snprintf(tmp, sizeof tmp, "%s.tmp", path) >= (int)sizeof tmp)
		return -ENAMETOOLONG;
	int fd = io_open(tmp, O_WRONLY | O_CREAT | O_TRUNC, mode);
	if (fd < 0)
		return fd;
	int r = io_pwrite(fd, data, n, 0);
	if (!r && durable)
		r = io_fsync(fd);
	int closed = io_close(fd); /* a network filesystem may tell of a failed write only here */
	if (!r)
		r = closed;
	if (!r)
		r = io_rename(tmp, path);
	if (r) {
		io_unlink(tmp);
		return r;
	}
	return durable ? fsync_parent(path) : 0;
}

int io_replace_file(const char *path, const void *data, size_t n, bool durable)
{
	return replace(path, data, n, durable, 0644);
}

int io_replace_secret(const char *path, const void *data, size_t n)
{
	char tmp[PATH_MAX];
	if (snprintf(tmp, sizeof tmp, "%s.tmp", path) < (int)sizeof tmp)
		io_unlink(tmp); /* one that was left there may be open to others */
	return replace(path, data, n, true, 0600);
}

static int refuse_dir(void *arg, const char *name, unsigned char d_type)
{
	(void)arg;
	(void)name;
	return d_type == DT_DIR ? -EISDIR : 0;
}

static int unlink_entry(void *arg, const char *name, unsigned char d_type)
{
	char path[PATH_MAX];
	(void)d_type;
	if (snprintf(path, sizeof path, "%s/%s", (const char *)arg, name) >= (int)sizeof path)
		return -ENAMETOOLONG;
	int r = io_unlink(path);
	return r == -ENOENT ? 0 : r;
}

int io_remove_dir(const char *path)
{
	/* Looked through first: a directory that cannot go as a whole keeps its files. */
	int r = io_list(path, refuse_dir, NULL);
	if (!r)
		r = io_list(path, unlink_entry, (void *)(uintptr_t)path);
	return r ? r : io_rmdir(path);
}
