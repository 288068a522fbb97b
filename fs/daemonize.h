/*
 * daemonize: a command that returns when its daemon is ready.
 *
 *  1. daemonize_fork, before there is any thread or lock (neither survives fork). The parent waits in it.
 *  2. The child does all the work that can fail with the terminal still its own: what it prints, the user sees; exiting is failing.
 *  3. daemonize_ready: the child leaves the session and the terminal, messages go to the background's place, then the parent is told,
 *     and returns to the shell.
 *
 * thread: fork by the only one; ready by any.
 */
#ifndef FS_DAEMONIZE_H
#define FS_DAEMONIZE_H

#include "store/err.h"

struct daemonize { int fd; }; /* the child's end of a pipe to the parent */

/* In the child: 0. In the parent: 1, when the child is ready or has ended; *status is what to exit with. */
int daemonize_fork(struct daemonize *d, int *status, struct err *e);

/* log_file: where messages go if no syslog answers; borrowed during the call. */
void daemonize_ready(struct daemonize *d, const char *log_file);

/* SIGTERM, SIGINT and SIGHUP call handler from now on. What was ignored (nohup) stays so. */
void daemonize_catch_signals(void (*handler)(int signo));

#endif
