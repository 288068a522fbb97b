#include "fs/daemon.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/api/server.h"
#include "cluster/deliver/deliver.h"
#include "cluster/join.h"
#include "cluster/remote/remote.h"
#include "cluster/replica/fetcher.h"
#include "fs/commands.h"
#include "fs/daemonize.h"
#include "fs/mount.h"
#include "fs/mounts.h"
#include "fs/progress.h"
#include "store/diag.h"
#include "store/io.h"

/* How long a daemon that is still stopping is waited for: its clean stop is a flush of what was written. */
enum { HOLDER_WAIT_MS = 30000 };

/* How long the answers to requests that were taken are waited for at the end. */
enum { SERVER_STOP_MS = 5000 };

/* What the lock of a log directory says where a mount has its mount point. */
#define AGENT_LABEL "spoolfs agent"

/* ---- arguments ---- */

/* < 0: no memory, and it was said. */
static int init_args(struct daemon_args *a, const char *command, int argc)
{
	*a = (struct daemon_args){.command = command, .schema = commands_schema(), .later = calloc((size_t)argc + 1, sizeof *a->later)};
	a->conf = a->schema ? conf_new(a->schema, NULL, CONF_BROKER) : NULL;
	mount_words_init(&a->words, a->schema, a->conf);
	if (a->conf && a->later)
		return 0;
	command_say(command, "no memory");
	return -1;
}

static void release_args(struct daemon_args *a)
{
	mount_words_release(&a->words);
	conf_free(a->conf);
	conf_schema_free(a->schema);
	free(a->later);
}

/* Whether the word behind --listen is its argument, and not the mount point. */
static bool is_address(const char *word)
{
	const char *colon = strrchr(word, ':');
	return *word != '/' && *word != '-' && colon && colon[1] && !colon[1 + strspn(colon + 1, "0123456789")];
}

error_t daemon_parse(int key, char *arg, struct argp_state *state)
{
	struct daemon_args *a = state->input;
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
	case 'l':
		if (!arg && state->next < state->argc && is_address(state->argv[state->next]))
			arg = state->argv[state->next++];
		if (conf_set(a->conf, "listeners", arg ? arg : DAEMON_LISTEN_DEFAULT, &e) < 0)
			argp_failure(state, EXIT_FAILURE, 0, "%s", e.text);
		return 0;
	case 'f':
		a->foreground = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
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

/* ---- serving ---- */

struct daemon {
	const struct daemon_args *args;
	struct daemonize process;
	struct progress progress;
	bool detached;          /* stderr is nobody's any more */
	char data[PATH_MAX];
};

static bool holder_is_gone(void *arg, const char *label)
{
	(void)arg;
	return *label == '/' && !mount_is_live(label);
}

static void show_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct daemon *d = arg;
	progress_show(&d->progress, what, done, total);
}

/* The command that asked for it may return. */
static void is_ready(void *arg)
{
	struct daemon *d = arg;
	char log[PATH_MAX + 16];
	if (d->args->foreground) {
		if (d->args->dir)
			diag_notice("%s is mounted at %s", d->data, d->args->dir);
		else
			diag_notice("%s is served", d->data);
		return;
	}
	snprintf(log, sizeof log, "%s/spoolfs.log", d->data);
	d->detached = true;
	daemonize_ready(&d->process, log);
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

static int open_broker(struct daemon *d, const char *label, struct join *j, struct broker **b, struct err *e)
{
	struct broker_options o = {
		.data = d->data,
		.conf = d->args->conf,
		.read_only = d->args->words.read_only,
		.label = label,
		.holder_is_gone = holder_is_gone,
		.wait_ms = HOLDER_WAIT_MS,
		.roles = j ? join_roles(j) : NULL,
		.topic_calls = j ? join_topic_calls(j) : NULL,
		.property_calls = j ? join_property_calls(j) : NULL,
		.progress = show_progress,
		.arg = d,
	};
	progress_init(&d->progress);
	int rc = broker_open(b, &o, e);
	progress_end(&d->progress);
	return rc;
}

/* Clients can connect from here on. */
static int start_server(struct broker *b, struct join *j, struct server **s, struct err *e)
{
	struct net_address at;
	char text[NET_MAX_HOST + 10];
	int rc = server_open(s, b, j, e);
	if (rc == 0)
		rc = server_run(*s, e);
	for (unsigned i = 0; rc == 0 && server_address(*s, i, &at); i++)
		diag_notice("Kafka's clients are served at %s", net_address_text(&at, text));
	return rc;
}

static bool address_of(void *arg, int32_t broker_id, char *text, size_t n)
{
	return join_address(arg, broker_id, text, n);
}

static int64_t epoch_of(void *arg)
{
	return join_epoch(arg);
}

static int follow(void *arg, struct partition *p, int32_t leader, int32_t leader_epoch, struct err *e)
{
	return fetcher_follow(arg, p, leader, leader_epoch, e);
}

static void unfollow(void *arg, struct partition *p)
{
	fetcher_unfollow(arg, p);
}

/* The broker is one of its cluster from here on; its followers follow, and what it does not have is read elsewhere. */
static int start_join(struct join *j, struct broker *b, struct server *s, struct fetcher **f, struct remote **r, struct err *e)
{
	struct net_address at;
	int rc = remote_new(r, b, &(struct remote_calls){.address = address_of, .arg = j}, e);
	if (rc < 0)
		return rc;
	broker_set_remote(b, *r);
	rc = fetcher_new(f, b, &(struct fetcher_calls){.address = address_of, .broker_epoch = epoch_of, .arg = j}, e);
	if (rc < 0)
		return rc;
	join_set_followers(j, &(struct join_followers){.follow = follow, .unfollow = unfollow, .arg = *f});
	server_advertised(s, &at);
	rc = join_start(j, b, &at, e);
	return rc == 0 ? server_joined(s, e) : rc;
}

/* ---- an agent's end ---- */

static int end_fd = -1; /* for the handler: there is one daemon a process */

static void on_signal(int signo)
{
	uint64_t one = 1;
	(void)signo;
	if (write(end_fd, &one, sizeof one) < 0)
		return; /* it was told often enough */
}

/* Serves clients until a signal asks for the end. */
static int run_agent(struct daemon *d, struct err *e)
{
	uint64_t count;
	end_fd = eventfd(0, EFD_CLOEXEC);
	if (end_fd < 0)
		return err_sys(e, errno, "cannot wait for signals");
	daemonize_catch_signals(on_signal);
	is_ready(d);
	while (read(end_fd, &count, sizeof count) < 0 && errno == EINTR)
		;
	return 0; /* the handlers and their descriptor stay: a second signal must not cut the clean stop short */
}

/* ---- all that the daemon does ---- */

static int run_mount(struct daemon *d, struct broker *b, struct join *j, const struct server *s, const char *real_dir, const char *fuse_opts, struct err *e)
{
	struct deliver_calls calls = {.address = address_of, .arg = j};
	struct deliver *dl;
	int rc = deliver_new(&dl, b, j ? &calls : NULL, conf_int(d->args->conf, "delivery.timeout.ms"), e);
	if (rc < 0)
		return rc;
	struct net_address at;
	char address[NET_MAX_HOST + 10];
	if (s) {
		server_advertised(s, &at);
		net_address_text(&at, address);
	}
	struct mount_options o = {
		.deliver = dl,
		.dir = real_dir,
		.data = d->data,
		.conf = d->args->conf,
		.join = j,
		.address = s ? address : NULL,
		.foreground = d->args->foreground,
		.ready = is_ready,
		.arg = d,
		.fuse_opts = fuse_opts,
	};
	rc = mount_run(b, &o, e);
	deliver_free(dl);
	return rc;
}

/* real_dir NULL: an agent. */
static int serve_from(struct daemon *d, const char *real_dir, const char *fuse_opts, struct err *e)
{
	struct join *join = NULL;
	struct broker *b = NULL;
	struct server *server = NULL;
	struct fetcher *fetcher = NULL;
	struct remote *remote = NULL;
	raise_open_files();
	int rc = join_is_wanted(d->args->conf) ? join_open(&join, d->args->conf, e) : 0;
	if (rc == 0)
		rc = open_broker(d, real_dir ? real_dir : AGENT_LABEL, join, &b, e);
	if (rc < 0) {
		join_free(join);
		return rc;
	}
	if (server_is_wanted(d->args->conf))
		rc = start_server(b, join, &server, e);
	if (rc == 0 && join)
		rc = start_join(join, b, server, &fetcher, &remote, e);
	if (rc == 0)
		rc = real_dir ? run_mount(d, b, join, server, real_dir, fuse_opts, e) : run_agent(d, e);
	join_leave(join);
	server_close(server, SERVER_STOP_MS);
	broker_set_remote(b, NULL);
	remote_free(remote);
	fetcher_free(fetcher); /* whom the server has told nothing any more */
	struct err close_error = ERR_INIT;
	int closed = broker_close(b, &close_error);
	join_free(join);
	if (rc == 0 && closed < 0)
		rc = err_set(e, closed, "%s", close_error.text);
	else if (closed < 0)
		diag_error("%s", close_error.text);
	return rc;
}

/* What it returns is the process's end. */
static int serve(struct daemon *d, const char *fuse_opts, struct err *e)
{
	const struct daemon_args *a = d->args;
	char *real_dir = NULL;
	int rc = a->dir ? mount_prepare(a->dir, &real_dir, e) : 0;
	if (rc < 0)
		return rc;
	if (real_dir && a->data)
		rc = check_apart(a->data, real_dir, e);
	if (rc == 0 && real_dir)
		rc = check_log_dirs(a->conf, real_dir, e);
	if (rc == 0)
		rc = data_dir(a->data, d->data, e);
	if (rc == 0 && real_dir)
		rc = check_apart(d->data, real_dir, e);
	if (rc == 0)
		rc = serve_from(d, real_dir, fuse_opts, e);
	free(real_dir);
	return rc;
}

/* What cannot be accepted is said before anything is touched. *fuse_opts: borrowed from the arguments. */
static int take_options(struct daemon_args *a, const char **fuse_opts, struct err *e)
{
	int rc = 0;
	for (int i = 0; i < a->later_count && rc == 0; i++)
		rc = mount_words_add(&a->words, a->later[i], e);
	*fuse_opts = rc < 0 ? NULL : mount_words_fuse(&a->words);
	if (rc == 0 && !*fuse_opts)
		rc = err_set(e, ERR_NO_MEMORY, "no memory");
	if (rc == 0 && !a->dir && **fuse_opts)
		rc = err_set(e, ERR_INVALID, "%s: an option of mounts, and an agent has none", *fuse_opts);
	if (rc == 0 && join_is_wanted(a->conf) && !server_is_wanted(a->conf))
		rc = err_set(e, ERR_INVALID, "zookeeper.connect: the other brokers of a cluster talk to this one; say where, with --listen HOST:PORT or -o listeners=...");
	if (rc == 0 && join_is_wanted(a->conf) && a->words.read_only)
		rc = err_set(e, ERR_INVALID, "zookeeper.connect and ro: a broker of a cluster writes what the others have, and cannot be read-only");
	if (rc == 0 && !a->dir && !server_is_wanted(a->conf))
		rc = err_set(e, ERR_INVALID, "where are clients to be served? Say --listen for " DAEMON_LISTEN_DEFAULT ", --listen HOST:PORT, or -o listeners=...");
	return rc;
}

static int run(struct daemon_args *a, int failed_status)
{
	struct daemon d = {.args = a, .process.fd = -1};
	struct err e = ERR_INIT;
	const char *fuse_opts;
	int status, rc = take_options(a, &fuse_opts, &e);
	if (rc == 0 && a->fake)
		return 0;
	if (rc == 0 && !a->foreground)
		rc = daemonize_fork(&d.process, &status, &e);
	if (rc == 1)
		return status;
	if (rc == 0)
		rc = serve(&d, fuse_opts, &e);
	if (rc == 0)
		return 0;
	if (d.detached)
		diag_error("%s", e.text);
	else
		command_say(a->command, "%s", e.text);
	return failed_status;
}

int daemon_command(const struct argp *argp, const char *command, int argc, char **argv, int failed_status)
{
	struct daemon_args a;
	int status = failed_status;
	if (init_args(&a, command, argc) == 0) {
		argp_parse(argp, argc, argv, 0, NULL, &a);
		status = run(&a, failed_status);
	}
	release_args(&a);
	return status;
}
