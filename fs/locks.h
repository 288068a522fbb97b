/*
 * locks: flock and POSIX record locks of the mount's files.
 *
 * They are the daemon's because a partition has many nodeids (fs/node.h), and the kernel's own locks exclude only within one. A file is known by its inode
 * number. Locks hold among the processes of this mount, not among hosts.
 *
 *   flock  one lock an open file (its lock owner), on the whole file; gone with RELEASE
 *   POSIX  ranges of a process (its lock owner); gone when it closes any descriptor of the file. A handle that asks for no FLUSH (read only)
 *          gives those that were taken through it back when it is released.
 *
 * A request that has to wait is parked without a thread, until its lock is free or a signal comes (EINTR). Who waits is served in the order of arrival, but does
 * not keep others from what is free. Waiting in a circle is not detected: a signal ends it.
 *
 * thread: any. locks: one mutex, a leaf; requests are answered without it.
 */
#ifndef FS_LOCKS_H
#define FS_LOCKS_H

#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct lock_file;

struct locks {
	pthread_mutex_t lock;
	struct lock_file *files; /* those on which there is a lock, or a wish for one */
	_Atomic size_t count;    /* of them */
};

enum lock_kind { LOCK_POSIX, LOCK_FLOCK };

struct lock_range {
	enum lock_kind kind;
	short type;              /* F_RDLCK, F_WRLCK, F_UNLCK */
	int64_t start, end;      /* the last byte that counts, INT64_MAX: all */
	uint64_t owner, handle;
	pid_t pid;
};

void locks_init(struct locks *l);
void locks_release(struct locks *l); /* nothing waits any more */

/* Sets or takes back a lock and answers: now, or, if it has to wait for that, when it can. */
void locks_set(struct locks *l, fuse_req_t req, uint64_t ino, const struct lock_range *want, bool wait);
/* Answers F_GETLK. */
void locks_test(struct locks *l, fuse_req_t req, uint64_t ino, const struct lock_range *want);

/* Takes back all locks of an owner (handle 0), or those taken through a handle. */
void locks_drop(struct locks *l, uint64_t ino, enum lock_kind kind, uint64_t owner, uint64_t handle);

/* Answers all who wait with EINTR. */
void locks_stop(struct locks *l);

#endif
