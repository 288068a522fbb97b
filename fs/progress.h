/*
 * progress: one line on a terminal that says how far a long piece of work is.
 *
 * Nothing is drawn where stderr is no terminal, nor in the first half second: short work stays quiet.
 *
 * thread: any may call progress_show and progress_note at once; init and end by one.
 */
#ifndef FS_PROGRESS_H
#define FS_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/clock.h"

struct progress {
	pthread_mutex_t lock;
	mono_t next; /* not to be drawn anew before */
	bool on_terminal, drawn;
};

void progress_init(struct progress *p);

/* what: borrowed during the call. total 0: unknown. */
void progress_show(struct progress *p, const char *what, uint64_t done, uint64_t total);

/* Takes the line off the screen, so that something else can be printed; the next progress_show draws it again. */
void progress_clear(struct progress *p);
void progress_end(struct progress *p);

#endif
