#include "fs/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/clock.h"

static _Noreturn void answer(int fd, int (*ask)(const char *path, void *out), const char *path, void *out, size_t n)
{
	int rc = ask(path, out);
	if (write(fd, &rc, sizeof rc) == sizeof rc && n)
		rc = write(fd, out, n) < 0;
	_exit(0);
}

/* Reads all n bytes. -EPIPE: the child ended without an answer. */
static int get(int fd, void *to, size_t n, mono_t until)
{
	for (size_t have = 0; have < n;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left_ms = mono_diff_ns(until, mono_now()) / 1000000;
		int ready = poll(&p, 1, left_ms > 0 ? (int)left_ms : 0);
		if (ready == 0)
			return -ETIMEDOUT;
		ssize_t got = ready < 0 ? -1 : read(fd, (char *)to + have, n - have);
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0)
			return -EPIPE;
		have += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

int probe(int (*ask)(const char *path, void *out), const char *path, void *out, size_t n, int timeout_ms)
{
	int fds[2], rc, answered = 0;
	mono_t until = mono_after_ms(mono_now(), timeout_ms);
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid_t child = fork();
	if (child == 0)
		answer(fds[1], ask, path, out, n);
	close(fds[1]);
	rc = child < 0 ? -errno : get(fds[0], &answered, sizeof answered, until);
	if (rc == 0)
		rc = get(fds[0], out, n, until);
	close(fds[0]);
	if (child > 0) {
		if (rc < 0)
			kill(child, SIGKILL); /* it may not even feel that before the daemon goes on */
		waitpid(child, NULL, rc < 0 ? WNOHANG : 0);
	}
	return rc < 0 ? rc : answered;
}
