/*
 * mounts: what the kernel says is mounted where, and taking it away again; for mounts whose daemon is dead as well.
 *
 * thread: any.
 */
#ifndef FS_MOUNTS_H
#define FS_MOUNTS_H

#include <limits.h>
#include <stdbool.h>

#include "store/err.h"

struct mounts {
	bool found;            /* what is mounted on top at the path is a spoolfs */
	char inside[PATH_MAX]; /* else the spoolfs mount that the path lies in; "" */
	char below[PATH_MAX];  /* something that is mounted inside the path; "" */
};

/* Looks a real path up in the kernel's list, which answers for a dead mount too. */
int mounts_look_up(const char *path, struct mounts *m, struct err *e);

/* Another place where what is mounted at the path can be reached (a bind mount), which keeps it alive; "" where there is none that would not go with it. */
int mounts_also_at(const char *path, char also[PATH_MAX], struct err *e);

/* The real path of dir's parent with the last component behind it, which need not be there. */
int mounts_parent_path(const char *dir, char path[PATH_MAX], struct err *e);

/* The real path of dir, although what is mounted there may be dead. */
int mounts_real_path(const char *dir, char path[PATH_MAX], struct err *e);

/* lazy: detached although in use. Users do it through fusermount3. ERR_BUSY: it is in use. */
int mounts_take_away(const char *path, bool lazy, struct err *e);

/* Whether path lies in top, and is not top itself. */
bool mounts_is_below(const char *path, const char *top);

#endif
