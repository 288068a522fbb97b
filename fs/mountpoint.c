/* The half of mount.h that looks at mount points. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/mount.h"

extern char **environ;

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

/* Whether the mount on top at that path is a spoolfs; from the kernel's list, which answers for a dead mount too. */
static bool is_our_mount(const char *path)
{
	char *line = NULL;
	size_t cap = 0;
	bool found = false;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && getline(&line, &cap, f) > 0) {
		char at[PATH_MAX], type[64];
		const char *tail = strstr(line, " - ");
		if (!tail || sscanf(line, "%*s %*s %*s %*s %4095s", at) != 1 || sscanf(tail, " - %63s", type) != 1)
			continue;
		unescape(at);
		if (!strcmp(at, path))
			found = !strcmp(type, "fuse.spoolfs");
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

bool mount_is_live(const char *dir)
{
	struct stat st;
	return is_our_mount(dir) && !stat(dir, &st);
}

/* fusermount3 is what may unmount for a user. */
static int detach(const char *dir, struct err *e)
{
	char program[] = "fusermount3", flags[] = "-uz", end[] = "--";
	char *argv[] = {program, flags, end, (char *)dir, NULL};
	pid_t child;
	int status = -1;
	if (!umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW))
		return 0;
	if (errno != EPERM)
		return err_sys(e, errno, "%s was left behind by a daemon that is gone, and cannot be detached", dir);
	int sys = posix_spawnp(&child, program, NULL, NULL, argv, environ);
	if (sys)
		return err_sys(e, sys, "%s was left behind by a daemon that is gone; fusermount3 (package fuse3), which could detach it, cannot be run", dir);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0 ? 0 : err_set(e, ERR_DENIED, "%s was left behind by a daemon that is gone, and fusermount3 cannot detach it", dir);
}

static int make_or_check(const char *dir, struct err *e)
{
	struct stat st;
	if (mkdir(dir, 0755) && errno != EEXIST)
		return err_sys(e, errno, "cannot make the mount point %s", dir);
	if (stat(dir, &st))
		return err_sys(e, errno, "cannot use %s as a mount point", dir);
	return S_ISDIR(st.st_mode) ? 0 : err_set(e, ERR_INVALID, "%s is not a directory, so nothing can be mounted on it", dir);
}

static int check_empty(const char *dir, struct err *e)
{
	DIR *d = opendir(dir);
	const struct dirent *entry;
	int rc = 0;
	if (!d)
		return err_sys(e, errno, "cannot look into the mount point %s", dir);
	while (rc == 0 && (entry = readdir(d)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			rc = err_set(e, ERR_NOT_EMPTY, "the mount point %s is not empty (there is %s in it): what it holds would be hidden; choose an empty directory",
				     dir, entry->d_name);
	closedir(d);
	return rc;
}

/* realpath(3) fails on a mount whose daemon is gone: then the parent is resolved and the last component kept. */
static int real_path(const char *dir, char path[PATH_MAX], struct err *e)
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
		return err_sys(e, errno, "cannot find %s, where the mount point %s would be", parent, dir);
	int len = snprintf(path, PATH_MAX, "%s/%.*s", strcmp(real, "/") ? real : "", (int)(n - slash), dir + slash);
	return len < PATH_MAX ? 0 : err_set(e, ERR_NAME, "%s: the path is too long", dir);
}

static bool is_dead(const char *path)
{
	struct stat st;
	return stat(path, &st) && (errno == ENOTCONN || errno == ECONNABORTED);
}

int mount_prepare(const char *dir, char **real_dir, struct err *e)
{
	char path[PATH_MAX];
	int rc = 0;
	if (is_dead(dir)) {
		rc = real_path(dir, path, e);
		if (rc == 0 && !is_our_mount(path))
			rc = err_set(e, ERR_BUSY, "%s is the mount of another filesystem whose daemon is gone; unmount it first", path);
		if (rc == 0)
			rc = detach(path, e);
	}
	if (rc == 0)
		rc = make_or_check(dir, e);
	if (rc == 0 && !realpath(dir, path))
		rc = err_sys(e, errno, "cannot use %s as a mount point", dir);
	if (rc == 0 && is_our_mount(path))
		rc = err_set(e, ERR_BUSY, "%s is mounted already", path);
	if (rc == 0)
		rc = check_empty(path, e);
	if (rc == 0 && !(*real_dir = strdup(path)))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for a mount");
	return rc;
}
