/*
 * daemon: what `spoolfs mount` and `spoolfs agent` run: one broker, with a mount, with listeners for Kafka's clients, or with both.
 *
 *  1. daemon_command calls the command's own parser, which hands on to daemon_parse what both understand.
 *  2. It takes the -o words (they come after every -c), goes into the background, opens the broker, listens, mounts, and returns when that is over: in the parent at
 *     once when the daemon is ready.
 *
 * thread: the main one, before there is any other.
 */
#ifndef FS_DAEMON_H
#define FS_DAEMON_H

#include <argp.h>
#include <stdbool.h>

#include "fs/mount_words.h"
#include "store/conf.h"

#define DAEMON_LISTEN_DEFAULT "localhost:9092"

struct daemon_args {
	const char *command;    /* for messages */
	const char *data, *dir; /* borrowed from argv; data NULL: the default; dir NULL: no mount */
	bool foreground, fake;  /* fake: only look at the arguments */
	struct conf_schema *schema;
	struct conf *conf;
	struct mount_words words;
	char **later;           /* the -o arguments: they come after every -c */
	int later_count;
};

/* The keys of DAEMON_OPTIONS, with the arguments as state->input. ERR_UNKNOWN of argp for any other. */
error_t daemon_parse(int key, char *arg, struct argp_state *state);

#define DAEMON_OPTIONS(fuse, listen_help) \
	{"data", 'd', "DATA", 0, "Where the messages are kept (/var/lib/spoolfs for root, else $XDG_DATA_HOME/spoolfs or ~/.local/share/spoolfs)", 0}, \
	{"config", 'c', "FILE", 0, "Properties, a NAME=VALUE a line", 0}, \
	{"option", 'o', "NAME=VALUE,...", 0, fuse, 0}, \
	{"foreground", 'f', NULL, 0, "Stay in the foreground, with messages on stderr", 0}, \
	{"listen", 'l', "HOST:PORT", OPTION_ARG_OPTIONAL, listen_help, 0}

/* Parses what the command was given, and runs. What to exit with. */
int daemon_command(const struct argp *argp, const char *command, int argc, char **argv, int failed_status);

#endif
