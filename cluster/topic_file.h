/*
 * topic_file: `topic.properties`, in the directory of a topic's partition 0: what is set for the topic, replaced as a whole.
 *
 *   # Kept by spoolfs and closed by its checksum. To edit it by hand, take out this line and the last.
 *   name=value                   a line each, in name order; none where nothing is set
 *   # crc32c XXXXXXXX            CRC32C of everything before it
 *
 * With neither the first line nor the last it is taken as it is: an older spoolfs wrote it, or somebody edited it. Everything else that is not wholly as above is
 * damaged, an empty file too: of a file that says when messages are deleted and who may read them, no half is believed.
 *
 * thread: one at a time for each file.
 */
#ifndef CLUSTER_TOPIC_FILE_H
#define CLUSTER_TOPIC_FILE_H

#include "store/conf.h"
#include "store/err.h"

#define TOPIC_FILE "topic.properties"
#define TOPIC_FILE_KEPT TOPIC_FILE ".damaged" /* what a damaged one said, once it was replaced */

/* Sets in c what the file says. ERR_NOT_FOUND; ERR_CORRUPT: damaged or not readable, with what is wrong (c is then not to be used); ERR_NO_MEMORY. */
int topic_file_load(const char *path, struct conf *c, struct err *e);
/* Durable when it returns. */
int topic_file_save(const char *path, const struct conf *c, struct err *e);

#endif
