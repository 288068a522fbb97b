/*
 * mount: the FUSE session: mount point, request threads, signals, unmount.
 *
 *  1. mount_prepare looks at the mount point before anything else is touched, and gives its real path.
 *  2. mount_run mounts, calls `ready` once requests are served, and serves them until the filesystem is unmounted or SIGTERM, SIGINT
 *     or SIGHUP comes.
 *  3. Then: no new requests; those under way are answered; the filesystem is unmounted if it is not yet; unfinished lines of handles that
 *     are still open are appended. When mount_run returns nothing of the mount uses the broker any more.
 *
 * thread: mount_run by the main thread, which takes the signals; the others any.
 */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#include <stdbool.h>

#include "store/conf.h"
#include "store/err.h"

struct broker;
struct deliver;
struct join;

struct mount_options {
	const char *dir;          /* from mount_prepare */
	const char *data;         /* real path of DATA: what mount(8) shows as the source */
	const struct conf *conf;  /* broker-level values */
	struct deliver *deliver;  /* through which it appends */
	struct join *join;        /* NULL: the broker is of no cluster */
	const char *address;      /* where clients reach the broker; NULL: nowhere */
	bool foreground;
	void (*ready)(void *arg); /* called once, by another thread than mount_run's, when the first request could be served; NULL */
	void *arg;
	const char *fuse_opts;    /* "ro,allow_other"; NULL or "": none */
};

/* 0 after a clean end. The strings are borrowed until it returns. */
int mount_run(struct broker *b, const struct mount_options *o, struct err *e);

/* Makes dir if only its last component is missing; detaches a spoolfs mount there whose daemon is gone. Refuses what is no directory, holds anything, or is a
 * mount already. *real_dir: for the caller to free. */
int mount_prepare(const char *dir, char **real_dir, struct err *e);

/* Whether a spoolfs mount is at dir and its daemon is there. */
bool mount_is_live(const char *dir);

#endif
