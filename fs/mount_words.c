#include "fs/mount_words.h"

#include <stdlib.h>
#include <string.h>

/* Those that libfuse takes. The others in mount(8)'s list of generic options either are the default or are for who reads fstab. */
static const char *const for_fuse[] = {
	"allow_other", "allow_root", "default_permissions", "auto_unmount", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async",
	"dirsync", "noatime", "nodiratime", "norelatime", "nostrictatime", NULL,
};
static const char *const ignored[] = {
	"atime", "auto", "defaults", "diratime", "group", "loud", "noauto", "nofail", "nogroup", "noowner", "nouser", "nousers", "owner", "relatime", "silent",
	"strictatime", "user", "users", "_netdev", NULL,
};

void mount_words_init(struct mount_words *w, const struct conf_schema *schema, struct conf *conf)
{
	*w = (struct mount_words){.schema = schema, .conf = conf};
	wr_init(&w->fuse, 0);
}

void mount_words_release(struct mount_words *w)
{
	wr_release(&w->fuse);
}

static bool is_in(const char *const *list, const char *word)
{
	for (; *list; list++)
		if (!strcmp(*list, word))
			return true;
	return false;
}

static bool starts_with(const char *word, const char *with)
{
	return !strncmp(word, with, strlen(with));
}

/* "user=NAME" and the like are what mount(8) keeps for itself. */
static bool is_ignored(const char *word)
{
	return is_in(ignored, word) || starts_with(word, "x-") || starts_with(word, "X-") || starts_with(word, "comment=") || starts_with(word, "user=");
}

static int add_assignment(struct mount_words *w, char *word, char *value, struct err *e)
{
	*value++ = '\0';
	if (!strcmp(word, "config"))
		return conf_load(w->conf, value, e);
	struct err why = ERR_INIT;
	int rc = conf_set(w->conf, word, value, &why);
	if (rc == ERR_INVALID && w->sloppy && !conf_find(w->schema, word))
		return 0;
	return rc < 0 ? err_set(e, rc, "%s", why.text) : 0;
}

static int add_word(struct mount_words *w, char *word, struct err *e)
{
	char *value = strchr(word, '=');
	if (!*word || is_ignored(word))
		return 0;
	if (value)
		return add_assignment(w, word, value, e);
	if (!strcmp(word, "remount"))
		return err_set(e, ERR_INVALID, "-o remount: a mount keeps the options it was made with; unmount it (spoolfs umount) and mount it again, with those wanted");
	if (!is_in(for_fuse, word)) {
		if (w->sloppy)
			return 0;
		return err_set(e, ERR_INVALID, "-o %s: neither a mount option nor NAME=VALUE; see spoolfs config for the properties", word);
	}
	if (!strcmp(word, "ro") || !strcmp(word, "rw"))
		w->read_only = word[1] == 'o';
	wr_printf(&w->fuse, "%s%s", w->fuse.len ? "," : "", word);
	return w->fuse.failed ? err_set(e, ERR_NO_MEMORY, "no memory for the mount options") : 0;
}

int mount_words_add(struct mount_words *w, const char *text, struct err *e)
{
	char *word = malloc(strlen(text) + 1);
	if (!word)
		return err_set(e, ERR_NO_MEMORY, "no memory for the mount options");
	int rc = 0;
	bool quoted = false;
	size_t n = 0;
	for (const char *p = text; rc == 0; p++) {
		if (*p && (*p != ',' || quoted)) {
			if (*p == '"')
				quoted = !quoted;
			else
				word[n++] = *p;
			continue;
		}
		word[n] = '\0';
		n = 0;
		rc = quoted ? err_set(e, ERR_INVALID, "-o %s: the closing quote is missing", text) : add_word(w, word, e);
		if (!*p)
			break;
	}
	free(word);
	return rc;
}

const char *mount_words_fuse(struct mount_words *w)
{
	wr_i8(&w->fuse, 0);
	return w->fuse.failed ? NULL : (const char *)w->fuse.data;
}
