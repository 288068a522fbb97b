/*
 * io: the one seam between spoolfs and the system calls that can fail on a disk.
 *
 * Every call that store and cluster make on files goes through here, so that tests can make any of them fail: a hook sees the call
 * before it is made and may let it pass, fail it with an errno, or let only the first bytes of a write through. It sees one
 * call for each function below (two or more where the function is made of several), however often the system repeats it.
 * Without a hook the cost is one predictable branch.
 *
 * All return 0 (or a count, or a descriptor) or a NEGATIVE errno; EINTR is retried; descriptors are O_CLOEXEC.
 *
 * thread: any; io_set_hook only while no other thread does I/O.
 */
#ifndef STORE_IO_H
#define STORE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

enum io_call {
	IO_OPEN, IO_READ, IO_WRITE, IO_SYNC, IO_TRUNCATE, IO_RENAME, IO_UNLINK, IO_MKDIR, IO_RMDIR, IO_STAT, IO_MMAP, IO_LIST,
	IO_CALLS
};

/* name: the path, or NULL where the call is on a descriptor. bytes: of a read or write. Returns 0: make the call; a negative errno: fail;
 * n > 0 (IO_WRITE only): write n bytes of it, then fail with ENOSPC if n < bytes. */
typedef ssize_t (*io_hook_fn)(void *arg, enum io_call call, const char *name, int fd, size_t bytes);
void io_set_hook(io_hook_fn fn, void *arg);
const char *io_call_name(enum io_call call); /* "open", "read", ... */

int io_open(const char *path, int flags, mode_t mode);
int io_close(int fd); /* -1 is fine; never retried on EINTR */
int io_replace_fd(int fd, int by); /* fd is another descriptor of what `by` has open, at once for who reads through it; a call that is under way goes on with the old */

/* Reads until n bytes or the end of file: returns the count. */
ssize_t io_pread(int fd, void *buf, size_t n, off_t at);

/* Writes all, in as many calls as it takes (IOV_MAX too). On failure part of it may be in the file:
 * the caller truncates. The iovec array is used up. */
int io_pwrite(int fd, const void *buf, size_t n, off_t at);
int io_pwritev(int fd, struct iovec *iov, int count, off_t at);

int io_fsync(int fd);
int io_fdatasync(int fd);
int io_fsync_dir(const char *path); /* opens the directory, fsyncs, closes */
int io_truncate(int fd, off_t size);
int io_rename(const char *from, const char *to);
int io_unlink(const char *path);
int io_mkdir(const char *path, mode_t mode);
int io_rmdir(const char *path);
int io_stat(const char *path, struct stat *st);
int io_fstat(int fd, struct stat *st);
int io_set_mtime(int fd, const struct timespec *t);
int io_mmap(int fd, size_t bytes, void **map); /* read-only, shared; of 0 bytes: *map is NULL */
void io_munmap(void *map, size_t bytes);       /* NULL is fine */

/* Calls fn for each name in the directory but . and .. ; fn returns 0 to go on, else that is returned. d_type as readdir's
 * (resolved by stat where the filesystem says DT_UNKNOWN). */
int io_list(const char *path, int (*fn)(void *arg, const char *name, unsigned char d_type), void *arg);

/* The whole file into memory that the caller frees, NUL-terminated beyond *n. Fails with EFBIG over limit bytes. */
int io_read_file(const char *path, size_t limit, char **text, size_t *n);

/* Replaces the file atomically: writes path.tmp, fsyncs it if durable, renames over path, fsyncs the directory if durable. */
int io_replace_file(const char *path, const void *data, size_t n, bool durable);
/* The same, durably, of a file that only its owner may read. */
int io_replace_secret(const char *path, const void *data, size_t n);

/* Removes a directory of plain files and the files in it. No recursion, as a partition has no subdirectories: with one in it, it
 * is -EISDIR and nothing is removed. */
int io_remove_dir(const char *path);

#endif
