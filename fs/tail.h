/*
 * tail: what `tail -n` sees of a file whose head is gone.
 *
 * tail looks for its lines from the end backwards, in blocks: READs that each end where the one before began, the first at the end of file. Where
 * the log start comes before it has enough lines it would meet ESTALE, though every line that it could show is there. A program that wants a
 * position must never get the bytes of another, so this is for tail alone, known by that pattern and by its name:
 *
 *   1. The block that holds the log start is served from the log start on: a short READ. From then on the handle's positions count from there.
 *   2. If that is not enough, each block further back is served as one newline: an empty line that is counted, but never shown, because
 *   3. at last, with enough lines counted or at position 0, tail reads forwards from the last block: it gets everything from the log start on.
 *
 * So it prints exactly the retained lines, or the last N of them. (coreutils' file_lines; others that read backwards, tac and less, use @earliest.)
 *
 * thread: as the reader's. No state but the struct.
 */
#ifndef FS_TAIL_H
#define FS_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum tail_state { TAIL_NO, TAIL_BACKWARDS, TAIL_AT_START, TAIL_BEFORE_START };
enum tail_answer {
	TAIL_AS_USUAL, /* not ours: read as for any handle */
	TAIL_SHORT,    /* step 1: serve *size bytes from the log start on; handle position `at` is the log start from now on */
	TAIL_NEWLINE,  /* step 2: one newline */
	TAIL_FORWARDS, /* step 3: handle position `at` is the log start from now on; read as usual */
};

struct tail {
	enum tail_state state;
	int64_t last_at; /* where the last block began */
};

/* What to do with a READ of a handle that is not known to begin anywhere else. first: it is the handle's first. [start, end): what is visible. pid: who asks. */
enum tail_answer tail_read(struct tail *t, bool first, int64_t at, size_t *size, int64_t start, int64_t end, pid_t pid);

#endif
