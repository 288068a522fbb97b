#include "fs/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { QUIET_MS = 500, STEP_MS = 100, LINE_BYTES = 400 };

void progress_init(struct progress *p)
{
	pthread_mutex_init(&p->lock, NULL);
	p->next = mono_after_ms(mono_now(), QUIET_MS);
	p->on_terminal = isatty(STDERR_FILENO);
	p->drawn = false;
}

static int terminal_columns(void)
{
	struct winsize w;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) || w.ws_col < 20)
		return 80;
	return w.ws_col < LINE_BYTES / 2 ? w.ws_col : LINE_BYTES / 2;
}

/* One write: it neither mixes with other lines nor flickers. */
static void put(const char *text, size_t n)
{
	if (write(STDERR_FILENO, text, n) < 0)
		return; /* nobody looks any more */
}

/* locks: p's, held. */
static void draw(struct progress *p, const char *what, uint64_t done, uint64_t total)
{
	char line[LINE_BYTES], bar[LINE_BYTES];
	int columns = terminal_columns(), n;
	if (!total)
		n = snprintf(line, sizeof line, "\r%.*s: %" PRIu64, columns / 2, what, done);
	else {
		int percent = done < total ? (int)((double)done * 100 / (double)total) : 100;
		int room = columns - columns / 2 - 10, filled = room * percent / 100;
		memset(bar, '#', (size_t)filled);
		memset(bar + filled, '.', (size_t)(room - filled));
		n = snprintf(line, sizeof line, "\r%.*s [%.*s] %3d%%", columns / 2, what, room, bar, percent);
	}
	if (n > (int)sizeof line - 4)
		n = (int)sizeof line - 4;
	memcpy(line + n, "\033[K", 3);
	put(line, (size_t)n + 3);
	p->drawn = true;
}

void progress_show(struct progress *p, const char *what, uint64_t done, uint64_t total)
{
	/* who finds it locked is not the only one with news: the line is drawn anyway */
	if (!p->on_terminal || pthread_mutex_trylock(&p->lock))
		return;
	mono_t now = mono_now();
	if (mono_diff_ns(now, p->next) >= 0) {
		draw(p, what, done, total);
		p->next = mono_after_ms(now, STEP_MS);
	}
	pthread_mutex_unlock(&p->lock);
}

void progress_clear(struct progress *p)
{
	pthread_mutex_lock(&p->lock);
	if (p->drawn)
		put("\r\033[K", 4);
	p->drawn = false;
	pthread_mutex_unlock(&p->lock);
}

void progress_end(struct progress *p)
{
	progress_clear(p);
	pthread_mutex_destroy(&p->lock);
}
