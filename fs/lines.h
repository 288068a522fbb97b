/*
 * lines: the unfinished lines of one writer, by owner.
 *
 * There is one for each owner that has written the beginning of a line, or whose line was too large and refused. Few: a list.
 *
 * A refused line is refused whole: WRITEs with more of it are too, up to the one with its newline, so that no end of it becomes a message.
 *
 * thread: whoever has the writer's operation under way, or its lock while there is none.
 */
#ifndef FS_LINES_H
#define FS_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/buf.h"

struct line {
	struct line *next;
	uint64_t owner;
	struct wr text;          /* the beginning; empty: this struct is free to be another owner's */
	bool refused;            /* too large: the beginning was dropped */
	bool goes_on;            /* the WRITE that was refused did not end it: what comes up to a newline belongs to it */
	int failed;              /* the code with which the last WRITE that went on with it failed: it is not to be ended there */
	bool lost;               /* what was dropped had been taken by earlier WRITEs: to be told at fsync and close */
	size_t refused_bytes;    /* the WRITE that was refused: its size, */
	char refused_head[64];   /* and its first bytes */
};

struct line *lines_find(struct line *list, uint64_t owner); /* one with text, or refused; NULL */
/* The same, or an empty one for it. NULL: no memory. */
struct line *lines_need(struct line **list, uint64_t owner);
void lines_free(struct line *list);

/* The text is no longer needed. */
void line_clear(struct line *l);
/* A WRITE of these bytes made it too large, or has more of what is. */
void line_refuse(struct line *l, const char *text, size_t n);
/* Whether these are the bytes that were refused last. */
bool line_is_refused_again(const struct line *l, const char *text, size_t n);

#endif
