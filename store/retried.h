/*
 * retried: system calls that a signal may interrupt.
 */
#ifndef STORE_RETRIED_H
#define STORE_RETRIED_H

#include <errno.h>

/* The value of a system call, repeated on EINTR, as count or negative errno. */
#define RETRIED(expression) ({ \
	__typeof__(expression) result_; \
	do { \
		result_ = (expression); \
	} while (result_ < 0 && errno == EINTR); \
	result_ < 0 ? -errno : result_; \
})

#endif
