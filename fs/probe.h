/*
 * probe: asks a mount something that its daemon has to answer, without waiting for ever where that is stopped or stuck.
 *
 * Such a wait cannot be interrupted, so a child process does it; one that gets no answer is left to itself.
 *
 * thread: any; the child calls nothing but `ask`, which may only do system calls.
 */
#ifndef FS_PROBE_H
#define FS_PROBE_H

#include <stddef.h>

/* Calls ask(path, out) in a child; what it put into out (n bytes) is here then. Its result, which is not negative; or -ETIMEDOUT after timeout_ms, or a
 * negative errno where there can be no child. */
int probe(int (*ask)(const char *path, void *out), const char *path, void *out, size_t n, int timeout_ms);

#endif
