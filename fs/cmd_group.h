/*
 * cmd_group: consumer groups, over Kafka's protocol: what the files of the command share.
 */
#ifndef FS_CMD_GROUP_H
#define FS_CMD_GROUP_H

#include "fs/remote_command.h"

struct group_args {
	struct remote_args base; /* the names are groups */
	char **states;           /* list --state; in argv */
	int state_count;
	char **topics;           /* reset-offsets --topic: T[:P,...] */
	int topic_count;
	int how;                 /* reset-offsets: its key of argp; 0: none yet */
	int64_t number;          /* an offset, a shift, or a time in ms */
	bool dry_run;
};

enum { GROUP_TO_EARLIEST = 2000, GROUP_TO_LATEST, GROUP_TO_OFFSET, GROUP_TO_DATETIME, GROUP_SHIFT_BY, GROUP_BY_DURATION };

/* A message of the command. */
#define group_say(...) command_say("spoolfs group", __VA_ARGS__)

/* What a code means to who manages groups, with its name. */
const char *group_error_words(int16_t code, char text[200]);

/* What can be said of a group before anything is done with it. */
struct group_about {
	const char *id, *state, *type, *protocol_type, *protocol;
	int32_t coordinator;
	const char *coordinator_host;
	int32_t coordinator_port;
	bool found;              /* has members, or had */
	struct group_about_member *member; /* of a group of the classic protocol */
	size_t members;
};
struct group_about_member {
	const char *id, *instance, *client, *host;
	struct remote_place *assigned; /* where they can be read: of consumers */
	size_t count;
};
int group_about(struct remote *r, const char *id, struct group_about *a, struct err *e);

/* All that it has committed: sorted; leader and error not set. */
struct group_offsets { struct remote_place *place; const char **metadata; size_t count; };
int group_offsets(struct remote *r, const char *id, struct group_offsets *o, struct err *e);

/* Verbs; args is this command's. Each returns the exit status; stdout is flushed by the caller. */
int group_list_run(struct remote *r, const void *args);
int group_describe_run(struct remote *r, const void *args);
int group_reset_run(struct remote *r, const void *args);
int group_delete_run(struct remote *r, const void *args);

/* Whether it reads as TOPIC[:PARTITION,...]. */
bool group_check_topic(const char *text);

/* Times of reset-offsets. false: it is none. */
bool group_parse_datetime(const char *text, int64_t *ms); /* 2026-11-21[T10:00[:00[.000]]][Z|+01:00]; UTC where no zone is given */
bool group_parse_duration(const char *text, int64_t *ms); /* ISO 8601: P1D, PT12H30M, PT0.5S */

#endif
