#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/broker.h"
#include "fs/commands.h"
#include "fs/daemonize.h"
#include "fs/mount.h"
#include "fs/mount_words.h"
#include "fs/mounts.h"
#include "fs/progress.h"
#include "store/conf.h"
#include "store/diag.h"
#include "store/io.h"

/* How long a daemon that is still stopping is waited for: its clean stop is a flush of what was written. */
enum { HOLDER_WAIT_MS = 30000 };

/* mount(8)'s exit status for its helpers. */
enum { HELPER_USAGE = 1, HELPER_FAILED = 32 };

struct mount_args {
	const char *command;    /* for messages */
	const char *data, *dir; /* borrowed from argv; data NULL: the default */
	bool foreground, fake;
	struct conf_schema *schema;
	struct conf *conf;
	struct mount_words words;
	char **later;           /* the -o arguments: they come after every -c */
	int later_count;
};

static int args_init(struct mount_args *a, const char *command, int argc)
{
	*a = (struct mount_args){.command = command, .schema = commands_schema(), .later = calloc((size_t)argc + 1, sizeof *a->later)};
	a->conf = a->schema ? conf_new(a->schema, NULL, CONF_BROKER) : NULL;
	mount_words_init(&a->words, a->schema, a->conf);
	if (a->conf && a->later)
		return 0;
	command_say(command, "no memory");
	return -1;
}

static void args_release(struct mount_args *a)
{
	mount_words_release(&a->words);
	conf_free(a->conf);
	conf_schema_free(a->schema);
	free(a->later);
}

/* ---- where DATA is ---- */

static int make_dir(const char *path, mode_t mode, struct err *e)
{
	int sys = io_mkdir(path, mode);
	return sys < 0 && sys != -EEXIST ? err_sys(e, sys, "cannot make the directory %s", path) : 0;
}

/* Makes the missing directories above the last component of path, which is changed and put back. */
static int make_parents(char *path, mode_t mode, struct err *e)
{
	int rc = 0;
	for (char *slash = strchr(path + 1, '/'); slash && rc == 0; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		rc = make_dir(path, mode, e);
		*slash = '/';
	}
	return rc;
}

/* root: /var/lib/spoolfs. Others: by the XDG base directory specification, which says to ignore a relative path. */
static int default_data(char *path, size_t size, struct err *e)
{
	const char *base = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	if (geteuid() == 0) {
		snprintf(path, size, "/var/lib/spoolfs");
		return 0;
	}
	if (!base || base[0] != '/') {
		const struct passwd *me = home && home[0] == '/' ? NULL : getpwuid(geteuid());
		home = me ? me->pw_dir : home;
		if (!home || home[0] != '/')
			return err_set(e, ERR_NOT_FOUND, "there is no home directory to keep the messages in; give one with -d DATA");
	} else
		home = NULL;
	int n = snprintf(path, size, "%s%s/spoolfs", home ? home : base, home ? "/.local/share" : "");
	return (size_t)n < size ? 0 : err_set(e, ERR_NAME, "the path of the home directory is too long");
}

/* The real path of DATA, made if it is missing: all of the default's path, but of a path that was given only the last component: a disk that is not
 * mounted should be noticed. Only its owner may look in: who may read which topic is for the mount to say. */
static int data_dir(const char *given, char real[PATH_MAX], struct err *e)
{
	char path[PATH_MAX];
	int rc = 0;
	if (given)
		snprintf(path, sizeof path, "%s", given);
	else if ((rc = default_data(path, sizeof path, e)) == 0)
		rc = make_parents(path, geteuid() == 0 ? 0755 : 0700, e);
	if (rc == 0)
		rc = make_dir(path, 0700, e);
	if (rc == 0 && !realpath(path, real))
		rc = err_sys(e, errno, "cannot use %s", path);
	struct stat st;
	if (rc == 0 && !stat(real, &st) && !S_ISDIR(st.st_mode))
		rc = err_set(e, ERR_INVALID, "%s is not a directory", path);
	return rc;
}

/* A daemon that looked for its messages in its own mount would wait for itself. The directory may still have to be made; where even its parent is
 * missing, it is for others to say so. */
static int check_apart(const char *data, const char *dir, struct err *e)
{
	char real[PATH_MAX];
	if (!realpath(data, real) && mounts_parent_path(data, real, NULL) < 0)
		return 0;
	if (strcmp(real, dir) != 0 && !mounts_is_below(real, dir) && !mounts_is_below(dir, real))
		return 0;
	return err_set(e, ERR_INVALID, "the messages (%s) and the mount point (%s) must not lie in each other; choose another -d DATA", real, dir);
}

static int check_log_dirs(const struct conf *conf, const char *dir, struct err *e)
{
	char *list = strdup(conf_str(conf, "log.dirs")), *save;
	int rc = list ? 0 : err_set(e, ERR_NO_MEMORY, "no memory");
	for (char *item = rc == 0 ? strtok_r(list, ", ", &save) : NULL; item && rc == 0; item = strtok_r(NULL, ", ", &save))
		rc = check_apart(item, dir, e);
	free(list);
	return rc;
}

/* ---- mounting ---- */

struct mounting {
	const struct mount_args *args;
	struct daemonize daemon;
	struct progress progress;
	bool detached;          /* stderr is nobody's any more */
	char data[PATH_MAX];
};

static bool holder_is_gone(void *arg, const char *label)
{
	(void)arg;
	return *label && !mount_is_live(label);
}

static void show_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct mounting *m = arg;
	progress_show(&m->progress, what, done, total);
}

static void mount_ready(void *arg)
{
	struct mounting *m = arg;
	char log[PATH_MAX + 16];
	if (m->args->foreground) {
		diag_notice("%s is mounted at %s", m->data, m->args->dir);
		return;
	}
	snprintf(log, sizeof log, "%s/spoolfs.log", m->data);
	m->detached = true;
	daemonize_ready(&m->daemon, log);
}

/* Segments are kept open as far as this goes. */
static void raise_open_files(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == r.rlim_max)
		return;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
}

static int open_broker(struct mounting *m, const char *real_dir, struct broker **b, struct err *e)
{
	struct broker_options o = {
		.data = m->data,
		.conf = m->args->conf,
		.read_only = m->args->words.read_only,
		.label = real_dir,
		.holder_is_gone = holder_is_gone,
		.wait_ms = HOLDER_WAIT_MS,
		.progress = show_progress,
		.arg = m,
	};
	progress_init(&m->progress);
	int rc = broker_open(b, &o, e);
	progress_end(&m->progress);
	return rc;
}

/* All that the daemon does. What it returns is the process's end. */
static int serve(struct mounting *m, const char *fuse_opts, struct err *e)
{
	const struct mount_args *a = m->args;
	char *real_dir = NULL;
	struct broker *b = NULL;
	int rc = mount_prepare(a->dir, &real_dir, e);
	if (rc < 0)
		return rc;
	if (a->data)
		rc = check_apart(a->data, real_dir, e);
	if (rc == 0)
		rc = check_log_dirs(a->conf, real_dir, e);
	if (rc == 0 && (rc = data_dir(a->data, m->data, e)) == 0)
		rc = check_apart(m->data, real_dir, e);
	if (rc < 0)
		goto done;
	raise_open_files();
	rc = open_broker(m, real_dir, &b, e);
	if (rc < 0)
		goto done;
	struct mount_options o = {
		.dir = real_dir,
		.data = m->data,
		.conf = a->conf,
		.foreground = a->foreground,
		.ready = mount_ready,
		.arg = m,
		.fuse_opts = fuse_opts,
	};
	rc = mount_run(b, &o, e);
	struct err close_error = ERR_INIT;
	int closed = broker_close(b, &close_error);
	if (rc == 0 && closed < 0)
		rc = err_set(e, closed, "%s", close_error.text);
	else if (closed < 0)
		diag_error("%s", close_error.text);
done:
	free(real_dir);
	return rc;
}

/* What cannot be accepted is said before anything is touched. */
static int take_options(struct mount_args *a, struct err *e)
{
	int rc = 0;
	for (int i = 0; i < a->later_count && rc == 0; i++)
		rc = mount_words_add(&a->words, a->later[i], e);
	return rc;
}

static int run(struct mount_args *a, int failed_status)
{
	struct mounting m = {.args = a, .daemon.fd = -1};
	struct err e = ERR_INIT;
	int status, rc = take_options(a, &e);
	const char *fuse_opts = rc < 0 ? NULL : mount_words_fuse(&a->words);
	if (rc == 0 && !fuse_opts)
		rc = err_set(&e, ERR_NO_MEMORY, "no memory");
	if (rc == 0 && a->fake)
		return 0;
	if (rc == 0 && !a->foreground)
		rc = daemonize_fork(&m.daemon, &status, &e);
	if (rc == 1)
		return status;
	if (rc == 0)
		rc = serve(&m, fuse_opts, &e);
	if (rc == 0)
		return 0;
	if (m.detached)
		diag_error("%s", e.text);
	else
		command_say(a->command, "%s", e.text);
	return failed_status;
}

/* ---- spoolfs mount ---- */

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct mount_args *a = state->input;
	struct err e = ERR_INIT;
	switch (key) {
	case 'd':
		a->data = arg;
		return 0;
	case 'c':
		if (conf_load(a->conf, arg, &e) < 0)
			argp_failure(state, EXIT_FAILURE, 0, "%s", e.text);
		return 0;
	case 'o':
		a->later[a->later_count++] = arg;
		return 0;
	case 'f':
		a->foreground = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->dir)
			argp_error(state, "one mount point is expected, not also %s", arg);
		a->dir = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->dir)
			argp_error(state, "which directory is to be the mount point?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_mount(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"data", 'd', "DATA", 0, "Where the messages are kept (/var/lib/spoolfs for root, else $XDG_DATA_HOME/spoolfs or ~/.local/share/spoolfs)", 0},
		{"config", 'c', "FILE", 0, "Properties, a NAME=VALUE a line", 0},
		{"option", 'o', "NAME=VALUE,...", 0, "Properties, and options for FUSE such as ro and allow_other", 0},
		{"foreground", 'f', NULL, 0, "Stay in the foreground, with messages on stderr", 0},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "DIR",
		.doc = "Mount a message log at DIR, which is made if only its last component is missing. Returns when the mount is ready."
		       "\vspoolfs config lists the properties. The manual is spoolfs-mount(1).",
	};
	struct mount_args a;
	int status = EXIT_FAILURE;
	if (args_init(&a, argv[0], argc) == 0) {
		argp_parse(&argp, argc, argv, 0, NULL, &a);
		status = run(&a, EXIT_FAILURE);
	}
	args_release(&a);
	return status;
}

/* ---- mount.fuse.spoolfs ---- */

static error_t parse_helper(int key, char *arg, struct argp_state *state)
{
	struct mount_args *a = state->input;
	switch (key) {
	case 's':
		a->words.sloppy = true;
		return 0;
	case 'f':
		a->fake = true;
		return 0;
	case 'n': /* there is no mtab to leave out */
	case 'v':
	case 't':
		return 0;
	case 'o':
		a->later[a->later_count++] = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num == 0 && arg[0] == '/')
			a->data = arg;
		else if (state->arg_num == 1)
			a->dir = arg;
		else if (state->arg_num > 1)
			argp_usage(state);
		return 0;
	case ARGP_KEY_END:
		if (!a->dir)
			argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_mount_helper(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{NULL, 's', NULL, 0, "Ignore options that are not known", 0},
		{NULL, 'f', NULL, 0, "Check the arguments, but do not mount", 0},
		{NULL, 'n', NULL, 0, "Ignored", 0},
		{NULL, 'v', NULL, 0, "Ignored", 0},
		{NULL, 'o', "WORD,...", 0, "Properties, and options of mount(8)", 0},
		{NULL, 't', "TYPE", 0, "Ignored", 0},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_helper,
		.args_doc = "SOURCE DIR",
		.doc = "Called by mount(8) for type fuse.spoolfs. SOURCE is the directory DATA; anything that does not begin with / takes the default.",
	};
	struct mount_args a;
	int status = HELPER_FAILED;
	argp_err_exit_status = HELPER_USAGE;
	if (args_init(&a, "mount.fuse.spoolfs", argc) == 0) {
		argp_parse(&argp, argc, argv, 0, NULL, &a);
		status = run(&a, HELPER_FAILED);
	}
	args_release(&a);
	return status;
}
