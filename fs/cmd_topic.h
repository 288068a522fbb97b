/*
 * cmd_topic: topics, over Kafka's protocol: what the files of the command share.
 */
#ifndef FS_CMD_TOPIC_H
#define FS_CMD_TOPIC_H

#include "fs/remote_command.h"

struct topic_args {
	struct remote_args base;   /* the names are topics */
	char **settings;           /* -o: NAME=VALUE, or NAME= */
	int setting_count;
	int32_t partitions;        /* 0: not given */
	int16_t replication_factor; /* 0: not given */
	bool all;
	bool under_replicated, unavailable; /* only what is; both: either */
};

/* A message of the command. */
#define topic_say(...) command_say("spoolfs topic", __VA_ARGS__)

/* What a broker said is wrong: its own sentence or, where it has none, ours, and the code's name. */
const char *topic_error_words(int16_t code, struct wire_string said, char text[1000]);

/* A request that the controller has to answer: to whom the user named, who hands it on, or did not before Kafka 3: then to the controller itself. */
int topic_controller_call(struct remote *r, int api_key, const void *request, void *response, int16_t (*error_of)(const void *response), struct err *e);

/* Verbs; args is this command's. Each returns the exit status; stdout is flushed by the caller. */
int topic_list_run(struct remote *r, const void *args);
int topic_describe_run(struct remote *r, const void *args);
int topic_create_run(struct remote *r, const void *args);
int topic_alter_run(struct remote *r, const void *args);
int topic_delete_run(struct remote *r, const void *args);

#endif
