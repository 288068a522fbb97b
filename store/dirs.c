#include "store/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "store/io.h"

enum { PATH_BYTES = 4096 };

/* ---- the lock ---- */

static void lock_say(int fd, const char *state, const char *label)
{
	char text[PATH_BYTES + 64];
	int n = snprintf(text, sizeof text, "%d\n%s\n%s\n", (int)getpid(), state, label ? label : "");
	/* for people and for who waits; the lock itself does not depend on it, so a full disk is no reason to fail */
	if (n > 0 && io_truncate(fd, 0) == 0)
		(void)io_pwrite(fd, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, 0);
}

/* 1: somebody else holds it. */
static int query_lock(int fd, struct dir_holder *h)
{
	struct flock f = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	memset(h, 0, sizeof *h);
	if (fcntl(fd, F_GETLK, &f) < 0)
		return -errno;
	if (f.l_type == F_UNLCK)
		return 0;
	h->pid = f.l_pid > 0 ? f.l_pid : 0;
	char text[PATH_BYTES + 64];
	ssize_t n = io_pread(fd, text, sizeof text - 1, 0);
	if (n <= 0)
		return 1;
	text[n] = 0;
	char *state = strchr(text, '\n');
	if (!state)
		return 1;
	char *label = strchr(++state, '\n');
	h->stopping = strncmp(state, "stopping", 8) == 0;
	if (label) {
		label++;
		label[strcspn(label, "\n")] = 0;
		snprintf(h->label, sizeof h->label, "%s", label);
	}
	return 1;
}

/* Locks the open file, or says who has it. */
static int set_lock(struct dir_lock *l, short type, const char *dir, struct dir_holder *holder, struct err *e)
{
	struct flock f = {.l_type = type, .l_whence = SEEK_SET};
	for (;;) {
		if (fcntl(l->fd, F_SETLK, &f) == 0)
			return 0;
		int why = errno, held = why == EACCES || why == EAGAIN ? query_lock(l->fd, holder) : -why;
		if (held == 0)
			continue; /* let go between the two calls */
		io_close(l->fd);
		l->fd = -1;
		if (held < 0)
			return err_sys(e, held, "cannot lock %s/.lock", dir);
		if (holder->pid)
			return err_set(e, ERR_BUSY, "%s is in use by process %d%s%s%s", dir, (int)holder->pid, *holder->label == '/' ? ", mounted at " : *holder->label ? " (" : "", holder->label,
				       *holder->label && *holder->label != '/' ? ")" : "");
		return err_set(e, ERR_BUSY, "%s is in use by a process that cannot be seen from here", dir);
	}
}

int dir_lock_take(struct dir_lock *l, const char *dir, const char *label, struct dir_holder *holder, struct err *e)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof path, "%s/.lock", dir);
	l->fd = io_open(path, O_RDWR | O_CREAT, 0644);
	if (l->fd < 0)
		return err_sys(e, l->fd, "cannot open %s", path);
	int rc = set_lock(l, F_WRLCK, dir, holder, e);
	if (rc == 0)
		lock_say(l->fd, "serving", label);
	return rc;
}

int dir_lock_share(struct dir_lock *l, const char *dir, struct dir_holder *holder, struct err *e)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof path, "%s/.lock", dir);
	l->fd = io_open(path, O_RDONLY, 0);
	if (l->fd == -ENOENT)
		l->fd = -1;
	else if (l->fd < 0)
		return err_sys(e, l->fd, "cannot open %s", path);
	return l->fd < 0 ? 0 : set_lock(l, F_RDLCK, dir, holder, e);
}

void dir_lock_stopping(struct dir_lock *l, const char *label)
{
	lock_say(l->fd, "stopping", label);
}

void dir_lock_release(struct dir_lock *l)
{
	if (l->fd >= 0)
		io_truncate(l->fd, 0);
	io_close(l->fd); /* drops the lock */
	l->fd = -1;
}

int dir_lock_holder(const char *dir, struct dir_holder *holder, struct err *e)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof path, "%s/.lock", dir);
	int fd = io_open(path, O_RDONLY, 0);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return err_sys(e, fd, "cannot open %s", path);
	int held = query_lock(fd, holder);
	io_close(fd);
	return held < 0 ? err_sys(e, held, "cannot look at the lock %s", path) : held;
}

/* ---- meta.properties ---- */

/* Takes the escapes of a Java properties file out of a text, in place: Kafka writes "cluster.id=a\=b". */
static void unescape(char *text)
{
	char *to = text;
	for (const char *p = text; *p; p++)
		*to++ = *p == '\\' && p[1] ? *++p : *p;
	*to = 0;
}

/* Splits a line into key and value at the first '=', ':' or space that is not escaped. */
static char *split_line(char *line, char **value)
{
	line += strspn(line, " \t\f");
	char *p = line;
	while (*p && !strchr("=: \t\f", *p))
		p += *p == '\\' && p[1] ? 2 : 1;
	char *end = p;
	p += strspn(p, " \t\f");
	if (*p == '=' || *p == ':')
		p++;
	*value = p + strspn(p, " \t\f");
	*end = 0;
	unescape(line);
	unescape(*value);
	return line;
}

/* -1: no number that is not negative. */
static int32_t number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);
	return end == text || *end || *text < '0' || *text > '9' || n > INT32_MAX ? -1 : (int32_t)n;
}

static void meta_line(struct dir_meta *m, char *line)
{
	char *value, *key = split_line(line, &value);
	if (!strcmp(key, "version"))
		m->version = number(value);
	else if (!strcmp(key, "broker.id") || !strcmp(key, "node.id"))
		m->broker_id = number(value);
	else if (!strcmp(key, "cluster.id"))
		snprintf(m->cluster_id, sizeof m->cluster_id, "%s", value);
}

int dir_meta_load(const char *dir, struct dir_meta *m, struct err *e)
{
	char path[PATH_BYTES], *text, *save;
	size_t n;
	snprintf(path, sizeof path, "%s/meta.properties", dir);
	int sys = io_read_file(path, 1 << 16, &text, &n);
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", path);
	*m = (struct dir_meta){.version = -1, .broker_id = -1};
	for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save))
		if (line[strspn(line, " \t\f")] != '#' && line[strspn(line, " \t\f")] != '!')
			meta_line(m, line);
	free(text);
	if (m->version < 0)
		return err_set(e, ERR_CORRUPT, "%s has no version: it is damaged; put back \"version=0\", or the file from a backup", path);
	if (m->version > 1)
		return err_set(e, ERR_VERSION, "%s has version %d, known are 0 and 1: %s was written by something newer", path, m->version, dir);
	return 0;
}

int dir_meta_write(const char *dir, const struct dir_meta *m, struct err *e)
{
	char path[PATH_BYTES], text[256];
	snprintf(path, sizeof path, "%s/meta.properties", dir);
	int n = snprintf(text, sizeof text, "#\nversion=%d\nbroker.id=%" PRId32 "\n", m->version, m->broker_id);
	if (*m->cluster_id)
		n += snprintf(text + n, sizeof text - (size_t)n, "cluster.id=%s\n", m->cluster_id);
	int sys = io_replace_file(path, text, (size_t)n, true);
	return sys < 0 ? err_sys(e, sys, "cannot write %s", path) : 0;
}

/* ---- names ---- */

static bool is_topic_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

int topic_name_check(const char *name, struct err *e)
{
	size_t n = strlen(name);
	if (n == 0 || !strcmp(name, ".") || !strcmp(name, ".."))
		return err_set(e, ERR_NAME, "\"%s\" cannot be the name of a topic", name);
	if (n > TOPIC_NAME_MAX)
		return err_set(e, ERR_TOO_LARGE, "the name of a topic has at most %d bytes, this one %zu", TOPIC_NAME_MAX, n);
	for (size_t i = 0; i < n; i++)
		if (!is_topic_char(name[i]))
			return err_set(e, ERR_NAME, "\"%s\" cannot be the name of a topic: only letters, digits, '.', '_' and '-' may stand in it", name);
	return 0;
}

bool topic_names_collide(const char *a, const char *b)
{
	bool differ = false;
	for (; *a && *b; a++, b++) {
		if (*a != *b && !((*a == '.' || *a == '_') && (*b == '.' || *b == '_')))
			return false;
		differ |= *a != *b;
	}
	return *a == *b && differ;
}

bool name_ends(const char *name, const char *end)
{
	size_t n = strlen(name), k = strlen(end);
	return n > k && !strcmp(name + n - k, end);
}

/* <topic>-<n>.<32 hex digits>-delete, to the letter: what is called so is removed. Kafka may have cut the topic's name to nothing. */
static bool is_deleted(const char *name)
{
	enum { DIGITS = 32, TAIL = sizeof "-delete" - 1 };
	size_t n = strlen(name);
	if (n < 2 + 1 + DIGITS + TAIL || strcmp(name + n - TAIL, "-delete"))
		return false;
	const char *hex = name + n - TAIL - DIGITS, *p = hex - 1;
	if (*p != '.' || strspn(hex, "0123456789abcdef") != DIGITS)
		return false;
	while (p > name && p[-1] >= '0' && p[-1] <= '9')
		p--;
	return *p != '.' && p > name && p[-1] == '-';
}

void dir_entry_parse(const char *name, struct dir_entry *d)
{
	d->kind = DIR_OTHER;
	d->topic[0] = 0;
	d->partition = -1;
	if (is_deleted(name)) {
		d->kind = DIR_DELETED;
		return;
	}
	const char *dash = strrchr(name, '-');
	if (!dash || dash == name || !dash[1] || (size_t)(dash - name) > TOPIC_NAME_MAX)
		return;
	char *end;
	if (dash[1] < '0' || dash[1] > '9' || (dash[1] == '0' && dash[2]))
		return;
	long partition = strtol(dash + 1, &end, 10);
	if (*end || partition > INT32_MAX)
		return;
	memcpy(d->topic, name, (size_t)(dash - name));
	d->topic[dash - name] = 0;
	if (topic_name_check(d->topic, NULL) < 0)
		return;
	d->partition = (int32_t)partition;
	d->kind = DIR_PARTITION;
}

/* ---- ids ---- */

static const char id_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void uuid_bytes(const char *text, uint8_t bytes[16])
{
	uint8_t digit[24] = {0}; /* 22 of 6 bits: 132 bits, of which the last 4 are none of the id's */
	for (size_t i = 0; i < TOPIC_ID_CHARS && text[i]; i++) {
		const char *at = strchr(id_digits, text[i]);
		digit[i] = at ? (uint8_t)(at - id_digits) : 0;
	}
	for (size_t i = 0; i < 16; i++) {
		size_t bit = 8 * i, d = bit / 6;
		unsigned word = (unsigned)digit[d] << 12 | (unsigned)digit[d + 1] << 6 | digit[d + 2];
		bytes[i] = (uint8_t)(word >> (10 - bit % 6));
	}
}

void uuid_text(const uint8_t bytes[16], char text[TOPIC_ID_CHARS + 1])
{
	uint8_t id[18] = {0};
	memcpy(id, bytes, 16);
	for (int i = 0; i < TOPIC_ID_CHARS; i++) {
		int bit = 6 * i, at = bit / 8, shift = 10 - bit % 8;
		text[i] = id_digits[((id[at] << 8 | id[at + 1]) >> shift) & 63];
	}
	text[TOPIC_ID_CHARS] = 0;
}

void uuid_text_new(char text[TOPIC_ID_CHARS + 1])
{
	uint8_t id[16];
	do {
		if (getrandom(id, 16, 0) != 16)
			abort(); /* the kernel has had its entropy since long before */
		id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
		id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
	} while (id[0] >> 2 == 62); /* Kafka avoids ids that begin with a dash */
	uuid_text(id, text);
}

int partition_metadata_load(const char *partition_dir, char topic_id[TOPIC_ID_CHARS + 1], struct err *e)
{
	char path[PATH_BYTES], *text, id[64];
	size_t n;
	int version;
	snprintf(path, sizeof path, "%s/partition.metadata", partition_dir);
	int sys = io_read_file(path, 1 << 12, &text, &n);
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", path);
	int rc = 0;
	if (sscanf(text, "version: %d topic_id: %63s", &version, id) != 2 || strlen(id) != TOPIC_ID_CHARS || strspn(id, id_digits) != TOPIC_ID_CHARS)
		rc = err_set(e, ERR_CORRUPT, "%s is damaged: it should have a version and a topic_id", path);
	else
		memcpy(topic_id, id, TOPIC_ID_CHARS + 1);
	free(text);
	return rc;
}

int partition_metadata_write(const char *partition_dir, const char *topic_id, struct err *e)
{
	char path[PATH_BYTES], text[64];
	snprintf(path, sizeof path, "%s/partition.metadata", partition_dir);
	int n = snprintf(text, sizeof text, "version: 0\ntopic_id: %s", topic_id);
	int sys = io_replace_file(path, text, (size_t)n, false);
	return sys < 0 ? err_sys(e, sys, "cannot write %s", path) : 0;
}
