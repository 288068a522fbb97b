/* The half of mount.h that looks at mount points. */
#include "fs/mount.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fs/mounts.h"
#include "fs/probe.h"
#include "store/io.h"

enum { ANSWER_MS = 1000 }; /* a daemon that does not answer for that long is alive all the same: stopped, or stuck */

/* Not stat: that the kernel answers for a moment by itself, from what it remembers. */
static int look(const char *path, void *out)
{
	struct statvfs v;
	(void)out;
	return statvfs(path, &v) ? errno : 0;
}

bool mount_is_live(const char *dir)
{
	struct mounts m;
	if (mounts_look_up(dir, &m, NULL) < 0 || !m.found)
		return false;
	int rc = probe(look, dir, NULL, 0, ANSWER_MS);
	return rc == 0 || rc == -ETIMEDOUT;
}

/* A mount whose daemon was killed answers ENOTCONN, also to a new mount, until it is taken away. */
static int detach_dead(const char *dir, struct err *e)
{
	char path[PATH_MAX];
	struct mounts m;
	int rc = mounts_real_path(dir, path, e);
	if (rc == 0)
		rc = mounts_look_up(path, &m, e);
	if (rc == 0 && !m.found)
		rc = err_set(e, ERR_BUSY, "%s is the mount of another filesystem whose daemon is gone; unmount it first", path);
	if (rc == 0)
		rc = mounts_take_away(path, true, e);
	return rc == ERR_BUSY ? err_set(e, rc, "%s was left behind by a daemon that is gone, and cannot be detached", path) : rc;
}

/* A directory that is made in a spoolfs mount is a topic. */
static int check_makeable(const char *dir, struct err *e)
{
	char path[PATH_MAX], *slash;
	struct mounts m;
	struct stat st, top;
	if (!stat(dir, &st) || mounts_parent_path(dir, path, NULL) < 0 || mounts_look_up(path, &m, NULL) < 0 || !*m.inside)
		return 0;
	slash = strrchr(path, '/');
	*slash = '\0';
	if (stat(path, &st) || stat(m.inside, &top) || st.st_dev != top.st_dev)
		return 0;
	return err_set(e, ERR_INVALID, "%s would lie in the spoolfs mount %s, where it would be a topic; choose another mount point", dir, m.inside);
}

static int make_or_check(const char *dir, struct err *e)
{
	struct stat st;
	int rc = check_makeable(dir, e);
	if (rc < 0)
		return rc;
	int sys = io_mkdir(dir, 0755);
	if (sys < 0 && sys != -EEXIST)
		return err_sys(e, sys, "cannot make the mount point %s", dir);
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

int mount_prepare(const char *dir, char **real_dir, struct err *e)
{
	char path[PATH_MAX];
	struct mounts m;
	int sys = probe(look, dir, NULL, 0, ANSWER_MS), rc = 0;
	if (sys == -ETIMEDOUT)
		return err_set(e, ERR_BUSY, "%s does not answer: it is, or lies in, a mount whose daemon is stopped or stuck", dir);
	if (sys == ENOTCONN || sys == ECONNABORTED)
		rc = detach_dead(dir, e);
	if (rc == 0)
		rc = make_or_check(dir, e);
	if (rc == 0 && !realpath(dir, path))
		rc = err_sys(e, errno, "cannot use %s as a mount point", dir);
	if (rc == 0)
		rc = mounts_look_up(path, &m, e);
	if (rc == 0 && m.found)
		rc = err_set(e, ERR_BUSY, "%s is mounted already", path);
	if (rc == 0)
		rc = check_empty(path, e);
	if (rc == 0 && !(*real_dir = strdup(path)))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for a mount");
	return rc;
}
