/*
 * sequence: reads the records of a log that are there, each once, in order of their offsets: the values, each with a newline, as the view has them. For logs without positions.
 *
 * A reader keeps its place by offset. So the segments it stands in may be cleaned and replaced meanwhile: it goes on in what it has open, or else behind the record that it gave
 * last, in the new ones. A record it has begun to give is given to its end. Records that went before it came to them it does not see.
 *
 * thread: one at a time. The log outlives it.
 */
#ifndef STORE_SEQUENCE_H
#define STORE_SEQUENCE_H

#include "store/log.h"

struct log_sequence;

struct log_sequence *log_sequence_new(struct log *l, int64_t offset); /* NULL: no memory */
void log_sequence_free(struct log_sequence *q);                       /* NULL is fine */

/* Copies at most n bytes of the records below end_offset, which is visible. 0: there is none, just now. ERR_OUT_OF_RANGE: the log starts behind the next record by now (the reader was
 * overtaken by retention). ERR_CORRUPT, ERR_IO, ERR_NO_MEMORY: what is before it was given by calls before; the next call meets it again. */
ssize_t log_sequence_read(struct log_sequence *q, int64_t end_offset, void *buf, size_t n, struct err *e);

/* The next record to be given is at this offset or behind it. */
int64_t log_sequence_offset(const struct log_sequence *q);

#endif
