/*
 * commands: the subcommands of spoolfs, one cmd_<name>.c each, and what they share.
 *
 * A command gets argv with argv[0] = "spoolfs NAME" (what argp puts in front of its messages) and returns the exit status: 0, EXIT_FAILURE (1) where
 * something was wrong, EXIT_USAGE (2) where it could not even be tried. stdout has the result, stderr the messages.
 */
#ifndef FS_COMMANDS_H
#define FS_COMMANDS_H

#include <stdbool.h>

struct conf_schema;
struct err;

enum { EXIT_USAGE = 2 };

int cmd_mount(int argc, char **argv);
int cmd_mount_helper(int argc, char **argv); /* as mount(8) calls it for type fuse.spoolfs: SOURCE DIR [-sfnv] [-o ...] [-t TYPE] */
int cmd_agent(int argc, char **argv);
int cmd_topic(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_group(int argc, char **argv);

/* Every property there is: the tables of store, cluster and fs in one schema. NULL: no memory. The caller frees it. */
struct conf_schema *commands_schema(void);

/* "spoolfs mount: SENTENCE" to stderr, in one write. */
void command_say(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Flushes stdout: false, with a message, where the output did not get out (disk full, closed pipe). The last thing that a command with a result does. */
bool command_flush(const char *command);

#endif
