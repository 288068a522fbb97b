/*
 * ops: the entry points of the mount: each takes a FUSE request apart, has the work done, and sees to it that it is answered exactly once.
 *
 * Here stands the one table from error codes to errno. An error that reaches the user as an errno alone is logged with its sentence, at a bounded rate;
 * what every shell script runs into (no such name, overwriting refused) is not.
 *
 * thread: any. locks: none while a request is answered.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#include <fuse3/fuse_lowlevel.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "store/err.h"

struct broker;
struct conf;
struct deliver;
struct join;
struct ops;
struct partition;

extern const struct fuse_lowlevel_ops ops_table; /* its userdata is a struct ops */

struct ops_options {
	struct broker *broker;         /* this and all else here is borrowed */
	struct deliver *deliver;
	const struct conf *conf;
	const char *data;              /* the xattr user.spoolfs.data of the root */
	const struct stat *mount_point;
	struct join *join;             /* NULL: the broker is of no cluster */
	const char *address;           /* where clients reach the broker; NULL: nowhere */
	void (*ready)(void *arg);      /* NULL, or called when the kernel and we have agreed on the protocol */
	void *arg;
};

int ops_new(struct ops **out, const struct ops_options *o, struct err *e);
void ops_set_session(struct ops *ops, struct fuse_session *se);
/* No more requests come: those that are parked are answered. */
void ops_stop(struct ops *ops);
/* After the unmount: ends what is still open (unfinished lines are appended), waits for all that is under way, and frees. */
void ops_free(struct ops *ops);

int ops_errno(int code);
/* The errno for e->code, its sentence logged where that helps. what: "cannot append to"; p: NULL where no partition is concerned. */
int ops_explain(const char *what, const struct partition *p, const struct err *e);

#endif
