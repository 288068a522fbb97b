#include "fs/mount.h"

#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/daemonize.h"
#include "fs/ops.h"
#include "store/buf.h"
#include "store/diag.h"

/* ---- what libfuse says ---- */

static _Thread_local char last_said[200]; /* by the thread that mounts: the reason of a failure */

static void take_message(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[sizeof last_said];
	vsnprintf(text, sizeof text, fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	snprintf(last_said, sizeof last_said, "%s", strncmp(text, "fuse: ", 6) ? text : text + 6);
	diag(level <= FUSE_LOG_ERR ? DIAG_INFO : DIAG_DEBUG, "libfuse: %s", text);
}

/* ---- signals ---- */

static struct fuse_session *session; /* for the handler: there is one mount a process */

/* libfuse looks at its flag, then sleeps, and is not woken by a signal that comes between the two: so another one follows. */
static void on_signal(int signo)
{
	(void)signo;
	if (!session)
		return;
	fuse_session_exit(session);
	alarm(1);
}

/* The handlers stay to the end of the process: a second signal must not cut the clean stop short. */
static void catch_signals(void)
{
	struct sigaction act = {.sa_handler = on_signal};
	daemonize_catch_signals(on_signal);
	sigaction(SIGALRM, &act, NULL);
}

/* ---- the session ---- */

static void add_escaped(struct wr *w, const char *text)
{
	for (; *text; text++) {
		if (*text == ',' || *text == '\\')
			wr_i8(w, '\\');
		wr_i8(w, *text);
	}
}

/* "fsname=/var/lib/spoolfs,subtype=spoolfs,..." */
static void print_options(struct wr *w, const struct mount_options *o)
{
	wr_printf(w, "-ofsname=");
	add_escaped(w, o->data);
	wr_printf(w, ",subtype=spoolfs,default_permissions%s", geteuid() == 0 ? ",allow_other" : "");
	if (o->fuse_opts && *o->fuse_opts)
		wr_printf(w, ",%s", o->fuse_opts);
	wr_i8(w, '\0');
}

static struct fuse_session *new_session(const struct mount_options *o, struct ops *ops, struct err *e)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *se = NULL;
	struct wr text;
	wr_init(&text, 0);
	print_options(&text, o);
	last_said[0] = '\0';
	if (text.failed || fuse_opt_add_arg(&args, "spoolfs") || fuse_opt_add_arg(&args, (const char *)text.data))
		err_set(e, ERR_NO_MEMORY, "no memory for a mount");
	else if (!(se = fuse_session_new(&args, &ops_table, sizeof ops_table, ops)))
		err_set(e, ERR_INVALID, "cannot mount with the options %s: %s", o->fuse_opts ? o->fuse_opts : "", *last_said ? last_said : "libfuse refuses them");
	fuse_opt_free_args(&args);
	wr_release(&text);
	return se;
}

static int serve(struct fuse_session *se, const struct conf *conf, const char *dir, struct err *e)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	if (!config)
		return err_set(e, ERR_NO_MEMORY, "no memory for a mount");
	fuse_loop_cfg_set_max_threads(config, (unsigned)conf_int(conf, "mount.threads"));
	fuse_loop_cfg_set_idle_threads(config, (unsigned)-1); /* ending and starting them costs more than keeping them */
	int rc = fuse_session_loop_mt(se, config);
	fuse_loop_cfg_destroy(config);
	return rc < 0 ? err_sys(e, rc, "cannot serve %s any more", dir) : 0;
}

static int mount_and_serve(struct fuse_session *se, const struct mount_options *o, struct ops *ops, struct err *e)
{
	int rc = 0;
	last_said[0] = '\0';
	session = se;
	catch_signals();
	if (fuse_session_mount(se, o->dir))
		rc = err_set(e, ERR_DENIED, "cannot mount on %s: %s", o->dir, *last_said ? last_said : "see the message above");
	else {
		rc = serve(se, o->conf, o->dir, e);
		ops_stop(ops);
		fuse_session_unmount(se);
	}
	session = NULL;
	alarm(0);
	return rc;
}

int mount_run(struct broker *b, const struct mount_options *o, struct err *e)
{
	struct stat st;
	struct ops *ops;
	if (stat(o->dir, &st))
		return err_sys(e, errno, "cannot look at %s", o->dir);
	struct ops_options options = {.broker = b, .deliver = o->deliver, .conf = o->conf, .data = o->data, .mount_point = &st, .join = o->join, .address = o->address, .ready = o->ready, .arg = o->arg};
	int rc = ops_new(&ops, &options, e);
	if (rc < 0)
		return rc;
	fuse_set_log_func(take_message);
	struct fuse_session *se = new_session(o, ops, e);
	if (se) {
		ops_set_session(ops, se);
		rc = mount_and_serve(se, o, ops, e);
	} else
		rc = e ? e->code : ERR_INVALID;
	ops_free(ops);
	if (se)
		fuse_session_destroy(se);
	return rc;
}
