/*
 * diag: messages for the person who runs spoolfs.
 *
 * In the foreground they go to stderr; in the background to syslog (the journal), where there is one, else to a
 * file that the caller names (DATA/spoolfs.log, moved to spoolfs.log.1 at 1 MiB). One line a message, whatever is in
 * its text: "spoolfs: level: text", in a regular file with the time in front. What is returned to a caller as an error is
 * not logged as well, with one exception: errors that reach a user only as an errno (a mount) are logged by the edge that
 * narrows them, so that the reason can be found.
 *
 * A message that comes in floods has a `struct diag_limit` of its own: at most one line each interval, which then
 * says how many were left out.
 *
 * thread: any. locks: none held across the write to syslog; a mutex of its own for the file.
 */
#ifndef STORE_DIAG_H
#define STORE_DIAG_H

#include <stdint.h>

enum diag_level { DIAG_ERROR, DIAG_WARNING, DIAG_NOTICE, DIAG_INFO, DIAG_DEBUG };

struct diag_limit { /* zero-initialised, usually static at the call */
	_Atomic int64_t next_ns;
	_Atomic uint32_t left_out;
};

/* Levels above `level` are dropped; the default is DIAG_NOTICE. */
void diag_set_level(enum diag_level level);

/* Sends messages to the background's place from now on. program: the name in syslog; NULL: not to syslog, even where it
 * answers. file: used where there is no syslog; NULL: none. Both borrowed during the call. Until this is called, and
 * when neither place is to be had, messages go to stderr. */
void diag_to_background(const char *program, const char *file);

void diag(enum diag_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* At most one message each `interval_ms` through this limit. */
void diag_limited(struct diag_limit *limit, int interval_ms, enum diag_level level, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#define diag_error(...) diag(DIAG_ERROR, __VA_ARGS__)
#define diag_warning(...) diag(DIAG_WARNING, __VA_ARGS__)
#define diag_notice(...) diag(DIAG_NOTICE, __VA_ARGS__)
#define diag_info(...) diag(DIAG_INFO, __VA_ARGS__)
#define diag_debug(...) diag(DIAG_DEBUG, __VA_ARGS__)

#endif
