#include "fs/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static const char mount_type[] = "fuse.spoolfs";

/* Takes the octal escapes of mountinfo out, in place. */
static void unescape(char *text)
{
	char *to = text;
	for (; *text; text++) {
		if (text[0] == '\\' && text[1] && text[2] && text[3]) {
			*to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
			text += 3;
		} else
			*to++ = *text;
	}
	*to = '\0';
}

bool mounts_is_below(const char *path, const char *top)
{
	size_t n = strlen(top);
	return !strncmp(path, top, n) && (path[n] == '/' || (path[n] && n && top[n - 1] == '/'));
}

int mounts_look_up(const char *path, struct mounts *m, struct err *e)
{
	char *line = NULL;
	size_t cap = 0;
	memset(m, 0, sizeof *m);
	FILE *f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return err_sys(e, errno, "cannot read /proc/self/mountinfo");
	while (getline(&line, &cap, f) > 0) {
		char at[PATH_MAX], type[64];
		const char *tail = strstr(line, " - ");
		if (!tail || sscanf(line, "%*s %*s %*s %*s %4095s", at) != 1 || sscanf(tail, " - %63s", type) != 1)
			continue;
		unescape(at);
		bool ours = !strcmp(type, mount_type);
		if (!strcmp(at, path))
			m->found = ours;
		else if (ours && mounts_is_below(path, at))
			snprintf(m->inside, sizeof m->inside, "%s", at);
		else if (mounts_is_below(at, path))
			snprintf(m->below, sizeof m->below, "%s", at);
	}
	free(line);
	fclose(f);
	return 0;
}

struct line { int id, parent, group; char device[32], at[PATH_MAX]; }; /* of mountinfo; group: of peers, which get each other's mounts; 0: none */

static bool parse_line(const char *text, struct line *l)
{
	if (sscanf(text, "%d %d %31s %*s %4095s", &l->id, &l->parent, l->device, l->at) != 4)
		return false;
	const char *end = strstr(text, " - "), *group = strstr(text, " shared:");
	if (!group || group > end)
		group = strstr(text, " master:");
	l->group = group && end && group < end ? atoi(strchr(group, ':') + 1) : 0;
	unescape(l->at);
	return true;
}

/* Calls fn for each line until it returns true. */
static int each_line(bool (*fn)(struct line *l, void *arg), void *arg, struct err *e)
{
	char *text = NULL;
	size_t cap = 0;
	struct line *l = malloc(sizeof *l);
	FILE *f = l ? fopen("/proc/self/mountinfo", "re") : NULL;
	int rc = f ? 0 : err_sys(e, errno, "cannot read /proc/self/mountinfo");
	while (f && getline(&text, &cap, f) > 0 && !(parse_line(text, l) && fn(l, arg)))
		;
	free(text);
	free(l);
	if (f)
		fclose(f);
	return rc;
}

struct other { const char *path; struct line here, there; int group_here, group_there, wanted; };

static bool is_here(struct line *l, void *arg)
{
	struct other *x = arg;
	if (!strcmp(l->at, x->path))
		x->here = *l; /* the last one is on top */
	return false;
}

static bool take_group(struct line *l, void *arg)
{
	struct other *x = arg;
	if (l->id == x->wanted)
		x->group_there = l->group;
	return l->id == x->wanted;
}

static int group_of(struct other *x, int id)
{
	x->wanted = id;
	x->group_there = 0;
	each_line(take_group, x, NULL);
	return x->group_there;
}

/* A copy that the kernel made of the mount, in a peer of where it was made, goes with it. */
static bool is_other(struct line *l, void *arg)
{
	struct other *x = arg;
	if (strcmp(l->device, x->here.device) || l->id == x->here.id)
		return false;
	if (l->parent != x->here.parent && x->group_here && group_of(x, l->parent) == x->group_here)
		return false;
	x->there = *l;
	return true;
}

int mounts_also_at(const char *path, char also[PATH_MAX], struct err *e)
{
	struct other *x = calloc(1, sizeof *x);
	if (!x)
		return err_set(e, ERR_NO_MEMORY, "no memory");
	x->path = path;
	also[0] = '\0';
	int rc = each_line(is_here, x, e);
	if (rc == 0 && x->here.id) {
		x->group_here = group_of(x, x->here.parent);
		rc = each_line(is_other, x, e);
		memcpy(also, x->there.at, PATH_MAX);
	}
	free(x);
	return rc;
}

int mounts_parent_path(const char *dir, char path[PATH_MAX], struct err *e)
{
	char parent[PATH_MAX], real[PATH_MAX];
	size_t n = strlen(dir);
	while (n > 1 && dir[n - 1] == '/')
		n--;
	size_t slash = n;
	while (slash && dir[slash - 1] != '/')
		slash--;
	snprintf(parent, sizeof parent, "%.*s", slash ? (int)slash : 1, slash ? dir : ".");
	if (!realpath(parent, real))
		return err_sys(e, errno, "cannot find %s", parent);
	int len = snprintf(path, PATH_MAX, "%s/%.*s", strcmp(real, "/") ? real : "", (int)(n - slash), dir + slash);
	return len < PATH_MAX ? 0 : err_set(e, ERR_NAME, "%s: the path is too long", dir);
}

int mounts_real_path(const char *dir, char path[PATH_MAX], struct err *e)
{
	if (realpath(dir, path))
		return 0;
	if (errno != ENOTCONN && errno != EIO && errno != EACCES)
		return err_sys(e, errno, "cannot find %s", dir);
	return mounts_parent_path(dir, path, e);
}

extern char **environ;

/* fusermount3 is what may unmount for a user. What it says is read, not shown. */
static int run_fusermount(const char *dir, bool lazy, char *said, size_t size, struct err *e)
{
	const char *argv[] = {"fusermount3", "-u", lazy ? "-z" : "--", dir, NULL};
	int fds[2], status = -1;
	pid_t child;
	if (pipe2(fds, O_CLOEXEC))
		return err_sys(e, errno, "cannot make a pipe");
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
	int sys = posix_spawnp(&child, argv[0], &actions, NULL, (char **)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	size_t n = 0;
	ssize_t got;
	while (!sys && n < size - 1 && ((got = read(fds[0], said + n, size - 1 - n)) > 0 || (got < 0 && errno == EINTR)))
		n += got > 0 ? (size_t)got : 0;
	said[n] = '\0';
	said[strcspn(said, "\n")] = '\0';
	close(fds[0]);
	if (sys)
		return err_sys(e, sys, "cannot run fusermount3, which unmounts for users (package fuse3)");
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0;
}

int mounts_take_away(const char *dir, bool lazy, struct err *e)
{
	if (!umount2(dir, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)))
		return 0;
	if (errno == EBUSY)
		return err_set(e, ERR_BUSY, "%s is in use", dir);
	if (errno != EPERM)
		return err_sys(e, errno, "cannot unmount %s", dir);
	char said[300];
	int rc = run_fusermount(dir, lazy, said, sizeof said, e);
	if (rc < 0)
		return rc;
	if (rc == 1)
		return 0;
	/* its sentence is the only sign of why */
	if (strstr(said, "busy"))
		return err_set(e, ERR_BUSY, "%s is in use", dir);
	return err_set(e, ERR_DENIED, "cannot unmount %s: %s", dir, *said ? said : "fusermount3 failed");
}
