#include "fs/tail.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_tail(pid_t pid)
{
	char path[48], name[16];
	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return false;
	ssize_t n = read(fd, name, sizeof name);
	close(fd);
	return n == 5 && memcmp(name, "tail\n", 5) == 0;
}

/* Step 1, or 2 where the log starts behind the block: then nothing of it is left. */
static enum tail_answer meet_start(struct tail *t, int64_t at, size_t *size, int64_t start)
{
	if (start < at + (int64_t)*size) {
		t->state = TAIL_AT_START;
		*size = (size_t)(at + (int64_t)*size - start);
		return TAIL_SHORT;
	}
	t->state = TAIL_BEFORE_START;
	return TAIL_NEWLINE;
}

enum tail_answer tail_read(struct tail *t, bool first, int64_t at, size_t *size, int64_t start, int64_t end, pid_t pid)
{
	bool backwards = at + (int64_t)*size == (first ? end : t->last_at);
	switch (t->state) {
	case TAIL_NO:
		if (!first || !backwards)
			return TAIL_AS_USUAL;
		t->state = TAIL_BACKWARDS;
		break;
	case TAIL_BACKWARDS:
		if (!backwards) { /* it has its lines */
			t->state = TAIL_NO;
			return TAIL_AS_USUAL;
		}
		break;
	case TAIL_AT_START:
	case TAIL_BEFORE_START:
		if (backwards) {
			t->state = TAIL_BEFORE_START;
			t->last_at = at;
			return TAIL_NEWLINE;
		}
		if (t->state == TAIL_BEFORE_START && (at == t->last_at || at == t->last_at + 1)) {
			t->state = TAIL_NO;
			return TAIL_FORWARDS;
		}
		return TAIL_AS_USUAL;
	}
	t->last_at = at;
	if (at >= start)
		return TAIL_AS_USUAL;
	if (!is_tail(pid)) {
		t->state = TAIL_NO;
		return TAIL_AS_USUAL;
	}
	return meet_start(t, at, size, start);
}
