/*
 * What the log directories of a broker know of its cluster: which it is, and whether everything is there that was acknowledged.
 *
 * spoolfs.intact in each directory names a boot of the kernel. What was written in that boot is on disk or in the page cache, so a broker whose directories all name the present boot is intact; of
 * another boot it is where every directory also has the marker of our clean stop. A directory without the file (new, emptied, failed, or unclean before) is not: what is not known is not assumed. The file
 * goes, durably, before that marker does, so a broker that was unclean stays so through any number of stops until broker_set_intact.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/model.h"
#include "store/diag.h"
#include "store/io.h"

static const char *intact_path(const struct log_dir *d, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/" INTACT_FILE, d->path);
	return path;
}

static bool dir_is_intact(const struct log_dir *d, const char *boot)
{
	char path[PATH_MAX], *text;
	size_t n;
	if (io_read_file(intact_path(d, path), 4096, &text, &n) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	bool same_boot = *boot && !strcmp(text, boot), stopped = d->clean && clean_stop_is_ours(d->path);
	free(text);
	return !d->others && (same_boot || stopped);
}

static int write_intact(struct broker *b, const char *boot, struct err *e)
{
	char path[PATH_MAX], line[80];
	int n = snprintf(line, sizeof line, "%s\n", boot);
	for (int i = 0; i < b->dir_count; i++) {
		int sys = io_replace_file(intact_path(&b->dir[i], path), line, (size_t)n, true);
		if (sys < 0)
			return err_sys(e, sys, "cannot write %s", path);
	}
	return 0;
}

static int remove_intact(struct broker *b, struct err *e)
{
	char path[PATH_MAX];
	int rc = 0;
	for (int i = 0; i < b->dir_count; i++) {
		int sys = io_unlink(intact_path(&b->dir[i], path));
		if (sys == 0)
			sys = io_fsync_dir(b->dir[i].path);
		if (sys < 0 && sys != -ENOENT && rc == 0)
			rc = err_sys(e, sys, "cannot remove %s", path);
	}
	return rc;
}

int broker_look_intact(struct broker *b, struct err *e)
{
	char boot[64];
	bool intact = true;
	boot_id(boot);
	for (int i = 0; i < b->dir_count; i++)
		intact &= dir_is_intact(&b->dir[i], boot);
	b->intact = intact;
	return intact ? write_intact(b, boot, e) : remove_intact(b, e);
}

void broker_spoil_intact(struct broker *b)
{
	struct err why = ERR_INIT;
	b->intact = false;
	if (remove_intact(b, &why) < 0)
		diag_error("%s", why.text);
}

bool broker_is_intact(const struct broker *b)
{
	return b->intact;
}

int broker_set_intact(struct broker *b, struct err *e)
{
	char boot[64];
	if (b->intact)
		return 0;
	if (broker_offline_dirs(b))
		return err_set(e, ERR_OFFLINE, "a log directory is out of service: what was in it is missing");
	boot_id(boot);
	int rc = write_intact(b, boot, e);
	b->intact = rc == 0;
	if (broker_offline_dirs(b)) /* it failed meanwhile, and may have been looked at before the file was there */
		broker_spoil_intact(b);
	return rc;
}

int broker_enter_cluster(struct broker *b, const char *cluster_id, struct err *e)
{
	for (int i = 0; i < b->dir_count; i++) {
		struct dir_meta meta;
		int rc = dir_meta_load(b->dir[i].path, &meta, e);
		if (rc == 0 && !*meta.cluster_id) {
			snprintf(meta.cluster_id, sizeof meta.cluster_id, "%s", cluster_id);
			rc = dir_meta_write(b->dir[i].path, &meta, e);
		}
		if (rc < 0)
			return rc;
	}
	if (!b->has_cluster)
		snprintf(b->cluster_id, sizeof b->cluster_id, "%s", cluster_id);
	b->has_cluster = true;
	return 0;
}
