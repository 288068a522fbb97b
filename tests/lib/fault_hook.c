/*
 * fault_hook: makes disk calls of a running daemon fail, from a test.
 *
 * Linked into build/<build>/spoolfs-faults alone. The environment's SPOOLFS_FAULTS names a control file that the test and the daemon map
 * shared, so that faults come and go while the daemon runs (lib/faults.py is the other side):
 *
 *   0   u64  generation: the test counts it up when the rules below are written; 0: no faults
 *   8   u64  the generation whose rules are in force, with these two counts since then:
 *   16  u64  seen: calls that some rule is about
 *   24  u64  fired: calls that a rule acted on
 *   32  i64  what is added to the wall clock, in milliseconds, from the next disk call on
 *   64  ...  rules, one a line, up to a NUL. Integers are the machine's.
 *
 * A rule:  CALLS WHAT [path=GLOB] [after=N] [count=N] [every=N]
 *   CALLS  io_call_name's, several with commas, or * for all
 *   WHAT   an errno's name: the call fails with it
 *          short=N   a write: the first N bytes are written, then ENOSPC
 *          hold      the call waits until the generation changes, like a disk that hangs
 *          kill      SIGKILL, before the call is made
 *          note      a line "CALL SIZE PATH" goes to the file SPOOLFS_FAULTS.notes, SIZE being the file's now; the call is made
 *          pass      nothing; it is counted as seen
 *   path   of the file; for calls on a descriptor /proc tells it. after: so many calls pass first. count: no more than so many. every: each Nth.
 * The first rule of a call that acts decides; "note" and "pass" let the rules behind them look as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "store/clock.h"
#include "store/io.h"

enum { CONTROL_BYTES = 64 << 10, TEXT_AT = 64, RULES = 64 };

struct control {
	_Atomic uint64_t generation, in_force, seen, fired;
	_Atomic int64_t wall_shift_ms;
	char unused[TEXT_AT - 5 * sizeof(uint64_t)];
	char text[CONTROL_BYTES - TEXT_AT];
};

enum what { FAIL, SHORT, HOLD, KILL, NOTE, PASS };

struct rule {
	unsigned calls; /* a bit for each io_call */
	enum what what;
	int error;
	size_t short_bytes;
	char path[PATH_MAX];
	uint64_t after, count, every, met;
};

static struct control *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rule[RULES]; /* lock; as is rules */
static int rules;
static int notes = -1;

static const struct { const char *name; int error; } errors[] = {
	{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}, {"EACCES", EACCES}, {"EPERM", EPERM}, {"EMFILE", EMFILE}, {"ENFILE", ENFILE},
	{"ENOMEM", ENOMEM}, {"EFBIG", EFBIG},
};

static void wrong(const char *line)
{
	fprintf(stderr, "fault_hook: not a rule: %s\n", line);
	abort();
}

static unsigned parse_calls(char *text, const char *line)
{
	unsigned calls = 0;
	char *save;
	if (!strcmp(text, "*"))
		return ~0u;
	for (char *name = strtok_r(text, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		int i = 0;
		while (i < IO_CALLS && strcmp(name, io_call_name((enum io_call)i)))
			i++;
		if (i == IO_CALLS)
			wrong(line);
		calls |= 1u << i;
	}
	return calls;
}

static void parse_what(struct rule *r, const char *text, const char *line)
{
	static const struct { const char *name; enum what what; } others[] = {{"hold", HOLD}, {"kill", KILL}, {"note", NOTE}, {"pass", PASS}};
	if (sscanf(text, "short=%zu", &r->short_bytes) == 1) {
		r->what = SHORT;
		return;
	}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (!strcmp(text, others[i].name)) {
			r->what = others[i].what;
			return;
		}
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (!strcmp(text, errors[i].name)) {
			r->what = FAIL;
			r->error = errors[i].error;
			return;
		}
	wrong(line);
}

static void parse_rule(struct rule *r, char *line)
{
	char copy[PATH_MAX + 200], *save;
	snprintf(copy, sizeof copy, "%s", line);
	char *calls = strtok_r(line, " ", &save), *what = strtok_r(NULL, " ", &save);
	if (!calls || !what)
		wrong(copy);
	*r = (struct rule){.calls = parse_calls(calls, copy), .count = UINT64_MAX, .every = 1};
	parse_what(r, what, copy);
	for (char *word; (word = strtok_r(NULL, " ", &save));)
		if (sscanf(word, "after=%" SCNu64, &r->after) != 1 && sscanf(word, "count=%" SCNu64, &r->count) != 1 &&
		    sscanf(word, "every=%" SCNu64, &r->every) != 1 && sscanf(word, "path=%4095s", r->path) != 1)
			wrong(copy);
}

/* The test sets the generation to 0 while it writes: what was read meanwhile is not used. locks: the hook's. */
static bool take_rules(uint64_t generation)
{
	static char text[sizeof control->text];
	char *save;
	memcpy(text, control->text, sizeof text - 1);
	if (atomic_load(&control->generation) != generation)
		return false;
	rules = 0;
	for (char *line = strtok_r(text, "\n", &save); line && rules < RULES; line = strtok_r(NULL, "\n", &save))
		parse_rule(&rule[rules++], line);
	atomic_store(&control->seen, 0);
	atomic_store(&control->fired, 0);
	atomic_store(&control->in_force, generation);
	return true;
}

static const char *path_of(const char *name, int fd, char path[PATH_MAX])
{
	char link[64];
	if (name || fd < 0)
		return name ? name : "";
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, PATH_MAX - 1);
	path[n > 0 ? n : 0] = '\0';
	return path;
}

static void take_note(enum io_call call, const char *path, int fd)
{
	char line[PATH_MAX + 64];
	struct stat st = {0};
	if (fd >= 0 ? fstat(fd, &st) : stat(path, &st))
		st.st_size = -1;
	int n = snprintf(line, sizeof line, "%s %lld %s\n", io_call_name(call), (long long)st.st_size, path);
	if (notes < 0 || write(notes, line, (size_t)n) != n)
		abort();
}

static void hold(uint64_t generation)
{
	while (atomic_load(&control->generation) == generation)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* Whether the rule is about this call and it is its turn. locks: the hook's. */
static bool acts(struct rule *r, enum io_call call, const char *path, bool *seen)
{
	if (!(r->calls & 1u << call) || (*r->path && fnmatch(r->path, path, 0)))
		return false;
	*seen = true;
	uint64_t met = r->met++;
	return met >= r->after && met - r->after < r->count && (met - r->after) % r->every == 0;
}

static ssize_t hook(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	char at[PATH_MAX];
	bool seen = false;
	struct rule act = {.what = PASS};
	(void)arg;
	clock_shift_wall(atomic_load_explicit(&control->wall_shift_ms, memory_order_relaxed));
	uint64_t generation = atomic_load_explicit(&control->generation, memory_order_acquire);
	if (!generation)
		return 0;
	pthread_mutex_lock(&lock);
	bool in_force = generation == atomic_load(&control->in_force) || take_rules(generation);
	const char *path = rules ? path_of(name, fd, at) : "";
	for (int i = 0; in_force && i < rules && act.what == PASS; i++) {
		if (!acts(&rule[i], call, path, &seen))
			continue;
		if (rule[i].what == NOTE)
			take_note(call, path, fd);
		else
			act = rule[i];
	}
	if (seen)
		atomic_fetch_add(&control->seen, 1);
	if (act.what != PASS)
		atomic_fetch_add(&control->fired, 1);
	pthread_mutex_unlock(&lock);
	switch (act.what) {
	case FAIL:
		return -act.error;
	case SHORT:
		return act.short_bytes ? (ssize_t)act.short_bytes : -ENOSPC;
	case HOLD:
		hold(generation);
		return 0;
	case KILL:
		kill(getpid(), SIGKILL);
		pause();
		return -EIO;
	default:
		(void)bytes;
		return 0;
	}
}

static __attribute__((constructor)) void install(void)
{
	char path[PATH_MAX];
	const char *file = getenv("SPOOLFS_FAULTS");
	if (!file)
		return;
	int fd = open(file, O_RDWR | O_CLOEXEC);
	control = fd < 0 ? MAP_FAILED : mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (control == MAP_FAILED) {
		perror(file);
		abort();
	}
	close(fd);
	snprintf(path, sizeof path, "%s.notes", file);
	notes = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	clock_shift_wall(atomic_load(&control->wall_shift_ms));
	io_set_hook(hook, NULL);
}
