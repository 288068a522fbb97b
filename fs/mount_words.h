/*
 * mount_words: takes the argument of -o apart: properties, options for FUSE, and words that are mount(8)'s own.
 *
 *   word[,word]...    a comma ends a word, but not between double quotes, which are taken off: -o 'log.dirs="/a,/b",ro'
 *   NAME=VALUE        a property (spoolfs config); a value may be empty
 *   config=FILE       a properties file, as -c: for /etc/fstab
 *   ro, allow_other   and such: handed to FUSE
 *   nofail, x-..., comment=...: for mount(8) and init: ignored
 *
 * Anything else is refused, unless the caller is asked to be sloppy (mount -s).
 *
 * thread: one.
 */
#ifndef FS_MOUNT_WORDS_H
#define FS_MOUNT_WORDS_H

#include <stdbool.h>

#include "store/buf.h"
#include "store/conf.h"
#include "store/err.h"

struct mount_words {
	const struct conf_schema *schema; /* borrowed */
	struct conf *conf;                /* borrowed: properties go there */
	struct wr fuse;                   /* "ro,allow_other"; owned */
	bool read_only;                   /* "ro", and no "rw" behind it */
	bool sloppy;                      /* unknown words are ignored */
};

void mount_words_init(struct mount_words *w, const struct conf_schema *schema, struct conf *conf);
void mount_words_release(struct mount_words *w);

/* Takes one argument of -o. ERR_INVALID with a sentence, ERR_NO_MEMORY. */
int mount_words_add(struct mount_words *w, const char *text, struct err *e);

/* The options for FUSE, borrowed until release; NULL: no memory. Called once, when all words were added. */
const char *mount_words_fuse(struct mount_words *w);

#endif
