#include "fs/daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/diag.h"

/* What whoever asked for the mount had open, a lock or the end of a pipe, is not the daemon's to keep. */
static void close_inherited(int but)
{
	unsigned first = STDERR_FILENO + 1;
	if (but >= (int)first) {
		if (but > (int)first)
			close_range(first, (unsigned)but - 1, 0);
		first = (unsigned)but + 1;
	}
	close_range(first, ~0U, 0);
}

/* Reads until the byte that says "ready", or the end: then the child is ending, and its status is the answer. */
static int wait_for(pid_t child, int fd)
{
	char ready;
	ssize_t n;
	do
		n = read(fd, &ready, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return 0;
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status)) {
		diag_error("the daemon was ended by signal %d (%s) before it was ready", WTERMSIG(status), strsignal(WTERMSIG(status)));
		return EXIT_FAILURE;
	}
	return WEXITSTATUS(status);
}

int daemonize_fork(struct daemonize *d, int *status, struct err *e)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC))
		return err_sys(e, errno, "cannot make a pipe");
	fflush(NULL); /* what is buffered is to be printed once */
	pid_t child = fork();
	if (child < 0) {
		int code = err_sys(e, errno, "cannot start a process");
		close(fds[0]);
		close(fds[1]);
		return code;
	}
	if (!child) {
		close(fds[0]);
		d->fd = fds[1];
		close_inherited(d->fd);
		signal(SIGPIPE, SIG_IGN); /* a parent that was killed meanwhile is no reason to fail */
		return 0;
	}
	close(fds[1]);
	*status = wait_for(child, fds[0]);
	close(fds[0]);
	return 1;
}

void daemonize_ready(struct daemonize *d, const char *log_file)
{
	setsid();
	if (chdir("/"))
		diag_warning("cannot leave the current directory: %s", strerror(errno));
	diag_to_background("spoolfs", log_file);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null > STDERR_FILENO)
		close(null);
	if (write(d->fd, "", 1) != 1)
		diag_info("ready, but the command that asked for it is gone");
	close(d->fd);
	d->fd = -1;
}

void daemonize_catch_signals(void (*handler)(int signo))
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	struct sigaction act = {.sa_handler = handler}, old;
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
		sigaction(signals[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(signals[i], &act, NULL);
	}
}
