#include <argp.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/commands.h"
#include "fs/mounts.h"
#include "fs/probe.h"
#include "store/clock.h"
#include "store/dirs.h"
#include "store/io.h"

enum { TIMEOUT_S = 300, USERS_SHOWN = 10 };

static const char command[] = "spoolfs umount";

struct umount_args {
	const char *dir;
	int timeout_s;
};

/* ---- who uses it ---- */

static bool link_is_in(const char *link, const char *dir)
{
	char to[PATH_MAX];
	ssize_t n = readlink(link, to, sizeof to - 1);
	if (n < 0)
		return false;
	to[n] = '\0';
	return !strcmp(to, dir) || mounts_is_below(to, dir);
}

static bool process_is_in(const char *pid, const char *dir)
{
	static const char *const links[] = {"cwd", "root", "exe"};
	char path[PATH_MAX];
	for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
		snprintf(path, sizeof path, "/proc/%s/%s", pid, links[i]);
		if (link_is_in(path, dir))
			return true;
	}
	snprintf(path, sizeof path, "/proc/%s/fd", pid);
	DIR *d = opendir(path);
	bool in = false;
	for (struct dirent *entry; d && !in && (entry = readdir(d));) {
		snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, entry->d_name);
		in = link_is_in(path, dir);
	}
	if (d)
		closedir(d);
	return in;
}

static void process_name(const char *pid, char *name, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
	FILE *f = fopen(path, "re");
	if (!f || !fgets(name, (int)size, f))
		snprintf(name, size, "?");
	name[strcspn(name, "\n")] = '\0';
	if (f)
		fclose(f);
}

/* "by 12 (bash), 15 (tail)"; other users' processes may not be looked into. */
static void who_uses(const char *dir, char *text, size_t size)
{
	size_t n = 0;
	int count = 0;
	DIR *proc = opendir("/proc");
	text[0] = '\0';
	for (struct dirent *entry; proc && (entry = readdir(proc));) {
		if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == getpid() || !process_is_in(entry->d_name, dir))
			continue;
		if (++count > USERS_SHOWN)
			continue;
		char name[32];
		process_name(entry->d_name, name, sizeof name);
		n += (size_t)snprintf(text + n, size - n, "%s process %.20s (%s)", n ? "," : " by", entry->d_name, name);
	}
	if (count > USERS_SHOWN)
		snprintf(text + n, size - n, " and %d more", count - USERS_SHOWN);
	if (proc)
		closedir(proc);
}

static int busy(const char *dir, const struct mounts *m, struct err *e)
{
	char users[USERS_SHOWN * 70 + 40];
	if (*m->below)
		return err_set(e, ERR_BUSY, "%s is in use: %s is mounted inside it", dir, m->below);
	who_uses(dir, users, sizeof users);
	return err_set(e, ERR_BUSY, "%s is in use%s", dir, *users ? users : " by a process that may not be looked at, or in another mount namespace");
}

/* ---- the daemon ---- */

struct daemon {
	pid_t pid;           /* 0: the mount is dead */
	char data[PATH_MAX];
};

/* What the mount itself says of its daemon. Result: an errno. */
static int get_daemon(const char *dir, void *out)
{
	struct daemon *d = out;
	char text[32];
	ssize_t n = getxattr(dir, "user.spoolfs.pid", text, sizeof text - 1);
	if (n >= 0) {
		text[n] = '\0';
		d->pid = atoi(text);
		n = getxattr(dir, "user.spoolfs.data", d->data, sizeof d->data - 1);
	}
	return n < 0 ? errno : 0;
}

static int ask(const char *dir, struct daemon *d, int timeout_s, struct err *e)
{
	*d = (struct daemon){0};
	timeout_s = timeout_s ? timeout_s : 1; /* 0: not to wait for the daemon's end, but it has to be asked */
	int sys = probe(get_daemon, dir, d, sizeof *d, timeout_s < INT_MAX / 1000 ? timeout_s * 1000 : INT_MAX);
	if (sys == -ETIMEDOUT)
		return err_set(e, ERR_TIMED_OUT, "%s does not answer for %d s: its daemon is stopped or stuck; nothing was unmounted", dir, timeout_s);
	return sys == 0 || sys == ENOTCONN || sys == ECONNABORTED ? 0 : err_sys(e, sys, "cannot ask %s for its daemon", dir);
}

/* The daemon has ended: its marker says whether all it had is on disk. Where DATA may not be looked into, nobody knows. */
static int check_marker(const struct daemon *d, struct err *e)
{
	char marker[PATH_MAX + 32];
	struct dir_holder h;
	struct stat st;
	snprintf(marker, sizeof marker, "%s/" CLEAN_SHUTDOWN_FILE, d->data);
	if (!*d->data || io_stat(d->data, &st) < 0 || io_stat(marker, &st) != -ENOENT || dir_lock_holder(d->data, &h, NULL) != 0)
		return 0;
	return err_set(e, ERR_IO, "unmounted, but the daemon did not end cleanly; the reason is in the system's log, or in %s/spoolfs.log", d->data);
}

/* 0: ended. Without a pidfd (the daemon is in another pid namespace, or has ended already) there is nothing to wait for. */
static int wait_for_end(int pidfd, pid_t pid, int timeout_s, struct err *e)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	mono_t until = mono_after_ms(mono_now(), (int64_t)timeout_s * 1000);
	for (;;) {
		int64_t left_ms = mono_diff_ns(until, mono_now()) / 1000000;
		int n = poll(&p, 1, left_ms < 0 ? 0 : left_ms > INT_MAX ? INT_MAX : (int)left_ms);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_sys(e, errno, "cannot wait for process %d", (int)pid);
		if (n == 0 && left_ms <= 0)
			return err_set(e, ERR_TIMED_OUT, "unmounted, but after %d s the daemon (process %d) is not done writing", timeout_s, (int)pid);
	}
}

static int detach_dead(const char *dir, struct err *e)
{
	int rc = mounts_take_away(dir, true, e);
	if (rc == 0)
		printf("%s was left behind by a daemon that is gone; it is detached now\n", dir);
	return rc == ERR_BUSY ? err_set(e, rc, "%s was left behind by a daemon that is gone, and cannot be detached", dir) : rc;
}

static int run(const struct umount_args *a, struct err *e)
{
	char dir[PATH_MAX];
	struct mounts m;
	struct daemon daemon;
	int rc = mounts_real_path(a->dir, dir, e);
	if (rc == 0)
		rc = mounts_look_up(dir, &m, e);
	if (rc < 0)
		return rc;
	if (!m.found && *m.inside)
		return err_set(e, ERR_INVALID, "%s is no mount point itself: it lies in the spoolfs mount %s", dir, m.inside);
	if (!m.found)
		return err_set(e, ERR_INVALID, "%s is not a spoolfs mount", dir);
	char also[PATH_MAX];
	rc = mounts_also_at(dir, also, e);
	if (rc == 0)
		rc = ask(dir, &daemon, a->timeout_s, e);
	if (rc == 0 && !daemon.pid)
		return detach_dead(dir, e);
	if (rc != ERR_TIMED_OUT && *also) /* where a topic is bound nobody answers for the daemon */
		return err_set(e, ERR_BUSY, "%s is in use: it is mounted at %s as well (a bind mount), which keeps it alive; unmount that with umount(8) first", dir, also);
	if (rc < 0)
		return rc;
	/* opened before the daemon can end, so that the pid cannot be another's */
	int pidfd = (int)syscall(SYS_pidfd_open, daemon.pid, 0);
	rc = mounts_take_away(dir, false, e);
	if (rc == ERR_BUSY)
		rc = busy(dir, &m, e);
	if (rc == 0 && pidfd >= 0)
		rc = wait_for_end(pidfd, daemon.pid, a->timeout_s, e);
	if (rc == 0 && pidfd >= 0)
		rc = check_marker(&daemon, e);
	if (pidfd >= 0)
		close(pidfd);
	return rc;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct umount_args *a = state->input;
	char *end;
	switch (key) {
	case 't':
		errno = 0;
		long s = strtol(arg, &end, 10);
		if (errno || *end || end == arg || s < 0 || s > INT_MAX)
			argp_error(state, "--timeout %s: a number of seconds is expected", arg);
		a->timeout_s = (int)s;
		return 0;
	case ARGP_KEY_ARG:
		if (a->dir)
			argp_error(state, "one mount point is expected, not also %s", arg);
		a->dir = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->dir)
			argp_error(state, "which mount point?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_umount(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"timeout", 't', "SECONDS", 0, "How long to wait for the daemon to write everything and end (300)", 0},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "DIR",
		.doc = "Unmount DIR and wait until its daemon has written everything and ended. A mount whose daemon is gone is detached.",
	};
	struct umount_args a = {.timeout_s = TIMEOUT_S};
	struct err e = ERR_INIT;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	if (run(&a, &e) < 0) {
		command_say(command, "%s", e.text);
		return EXIT_FAILURE;
	}
	return command_flush(command) ? EXIT_SUCCESS : EXIT_FAILURE;
}
