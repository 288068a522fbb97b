#include "store/diag.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "store/clock.h"

/* System calls are made directly, not by io: a message about a failing disk must not itself be made to fail by the
 * hook that plays the failing disk. */

enum { FILE_BYTES = 1 << 20, TEXT_BYTES = 2000, LINE_BYTES = 4 * TEXT_BYTES + 100 };
enum sink { SINK_STDERR, SINK_SYSLOG, SINK_FILE };

static const struct {
	const char *name;
	int priority;
} levels[] = {
	[DIAG_ERROR] = {"error", LOG_ERR},
	[DIAG_WARNING] = {"warning", LOG_WARNING},
	[DIAG_NOTICE] = {"notice", LOG_NOTICE},
	[DIAG_INFO] = {"info", LOG_INFO},
	[DIAG_DEBUG] = {"debug", LOG_DEBUG},
};

static _Atomic int max_level = DIAG_NOTICE;
static _Atomic int sink = SINK_STDERR;
static char ident[32] = "spoolfs"; /* openlog keeps the pointer */
static struct {
	pthread_mutex_t lock;
	int fd;
	off_t size;
	char path[4096];
} file = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

void diag_set_level(enum diag_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

static bool enabled(enum diag_level level)
{
	return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

static bool syslog_answers(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	static const int types[] = {SOCK_DGRAM, SOCK_STREAM};
	bool answers = false;
	for (int i = 0; i < 2 && !answers; i++) {
		int fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return false;
		answers = !connect(fd, (struct sockaddr *)&at, sizeof at);
		close(fd);
	}
	return answers;
}

/* locks: the file's, held. */
static bool open_file(void)
{
	if (file.fd >= 0)
		close(file.fd);
	file.fd = open(file.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	struct stat st;
	file.size = file.fd >= 0 && !fstat(file.fd, &st) ? st.st_size : 0;
	return file.fd >= 0;
}

void diag_to_background(const char *program, const char *path)
{
	if (program && syslog_answers()) {
		snprintf(ident, sizeof ident, "%s", program);
		openlog(ident, LOG_PID, LOG_DAEMON);
		atomic_store(&sink, SINK_SYSLOG);
		return;
	}
	pthread_mutex_lock(&file.lock);
	if (path && snprintf(file.path, sizeof file.path, "%s", path) < (int)sizeof file.path && open_file())
		atomic_store(&sink, SINK_FILE);
	pthread_mutex_unlock(&file.lock);
}

/* How many bytes at s are one well-formed UTF-8 character that is not a control character; 0: none. */
static size_t printable(const unsigned char *s)
{
	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	size_t n = s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return s[0] == 0xc2 && s[1] < 0xa0 ? 0 : n; /* U+0080 to U+009F are controls too */
}

/* Copies text so that it stays one line and cannot drive a terminal; names of files and topics come from anyone. */
static size_t escape(char *to, size_t size, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t n = 0;
	while (*s && n + 5 < size) {
		size_t whole = printable(s);
		if (whole) {
			memcpy(to + n, s, whole);
			n += whole;
			s += whole;
		} else if (*s == '\n' || *s == '\t') {
			to[n++] = '\\';
			to[n++] = *s++ == '\n' ? 'n' : 't';
		} else
			n += (size_t)snprintf(to + n, 5, "\\x%02x", *s++);
	}
	to[n] = '\0';
	return n;
}

/* A line in a file needs its time; a terminal does not, and what reads a pipe or socket (the journal) adds its own. */
static bool wants_time(int fd)
{
	struct stat st;
	return !fstat(fd, &st) && S_ISREG(st.st_mode);
}

static size_t put_time(char *to, size_t size)
{
	int64_t now_ms = wall_now_ms();
	time_t s = (time_t)(now_ms / 1000);
	struct tm tm;
	gmtime_r(&s, &tm);
	size_t n = strftime(to, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(to + n, size - n, ".%03dZ ", (int)(now_ms % 1000));
}

/* One write for the line, so that lines of several threads or processes do not mix. It may fail: there is no one left to tell. */
static void put_line(int fd, const char *line, size_t n)
{
	ssize_t put = write(fd, line, n);
	(void)put;
}

static void put_file(const char *line, size_t n)
{
	pthread_mutex_lock(&file.lock);
	if (file.size > 0 && file.size + (off_t)n > FILE_BYTES) {
		char old[sizeof file.path + 2];
		snprintf(old, sizeof old, "%s.1", file.path);
		rename(file.path, old);
		open_file();
	} else if (file.fd < 0)
		open_file();
	put_line(file.fd, line, n);
	file.size += (off_t)n;
	pthread_mutex_unlock(&file.lock);
}

static void emit(enum diag_level level, const char *text)
{
	char line[LINE_BYTES];
	size_t n = 0;
	int to = atomic_load(&sink);
	if (to == SINK_SYSLOG) {
		escape(line, sizeof line, text);
		syslog(levels[level].priority, "%s", line);
		return;
	}
	if (to == SINK_FILE || wants_time(STDERR_FILENO))
		n = put_time(line, sizeof line);
	n += (size_t)snprintf(line + n, sizeof line - n, "spoolfs: %s: ", levels[level].name);
	n += escape(line + n, sizeof line - n - 1, text);
	line[n++] = '\n';
	if (to == SINK_FILE)
		put_file(line, n);
	else
		put_line(STDERR_FILENO, line, n);
}

/* Formats into text; what does not fit is marked, and a final newline (a habit of printf) dropped. */
static void format(char *text, size_t size, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
static void format(char *text, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(text, size, fmt, ap);
	if (n < 0)
		snprintf(text, size, "%s", fmt);
	else if ((size_t)n >= size)
		memcpy(text + size - 4, "...", 4);
	else if (n && text[n - 1] == '\n')
		text[n - 1] = '\0';
}

void diag(enum diag_level level, const char *fmt, ...)
{
	if (!enabled(level))
		return;
	char text[TEXT_BYTES];
	va_list ap;
	va_start(ap, fmt);
	format(text, sizeof text, fmt, ap);
	va_end(ap);
	emit(level, text);
}

/* Whether this message is the one of its interval; *left_out: those since the last that was. */
static bool turn_of(struct diag_limit *limit, int interval_ms, uint32_t *left_out)
{
	int64_t now = mono_now().ns;
	int64_t next = atomic_load_explicit(&limit->next_ns, memory_order_relaxed);
	if (now < next || !atomic_compare_exchange_strong(&limit->next_ns, &next, now + interval_ms * INT64_C(1000000))) {
		atomic_fetch_add_explicit(&limit->left_out, 1, memory_order_relaxed);
		return false;
	}
	*left_out = atomic_exchange(&limit->left_out, 0);
	return true;
}

void diag_limited(struct diag_limit *limit, int interval_ms, enum diag_level level, const char *fmt, ...)
{
	uint32_t left_out;
	if (!enabled(level) || !turn_of(limit, interval_ms, &left_out))
		return;
	char text[TEXT_BYTES + 50];
	va_list ap;
	va_start(ap, fmt);
	format(text, TEXT_BYTES, fmt, ap);
	va_end(ap);
	if (left_out) {
		size_t n = strlen(text);
		snprintf(text + n, sizeof text - n, " (%u more like it left out)", left_out);
	}
	emit(level, text);
}
