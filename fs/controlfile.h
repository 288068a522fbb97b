/*
 * controlfile: t/.config, a topic's properties as a file.
 *
 * READ gives the text as it was at the open: what is set, then, as comments, all else with the value in force. Each WRITE's complete lines are set together, all
 * or none; an unfinished line waits for its newline or for FLUSH. A WRITE that is refused is EINVAL; why is logged, and shown as the last
 * line of the file until a change of that topic succeeds.
 *
 * thread: any. locks: a file's mutex, then the lot's.
 */
#ifndef FS_CONTROLFILE_H
#define FS_CONTROLFILE_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

#include "store/buf.h"
#include "store/err.h"

struct topic;
struct refusal;

struct controlfiles { /* of a mount */
	pthread_mutex_t lock;
	struct refusal *refusals; /* the last of each topic */
};

void controlfiles_init(struct controlfiles *cs);
void controlfiles_release(struct controlfiles *cs);

/* What a READ would give now, appended. */
int controlfile_print(struct controlfiles *cs, struct topic *t, struct wr *text, struct err *e);

struct controlfile; /* an open one */

int controlfile_open(struct controlfiles *cs, struct topic *t, struct controlfile **out, struct err *e); /* t: borrowed until free */
void controlfile_free(struct controlfile *c);

/* Copies at most n bytes from `at` on; the count. */
size_t controlfile_read(struct controlfile *c, off_t at, void *buf, size_t n);
int controlfile_write(struct controlfile *c, const char *text, size_t n, struct err *e);
int controlfile_flush(struct controlfile *c, struct err *e);

#endif
