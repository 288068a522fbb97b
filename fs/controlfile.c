#include "fs/controlfile.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/topics.h"

enum { MAX_LINE_BYTES = 64 << 10 };

struct refusal {
	struct refusal *next;
	int topic_serial;
	char text[sizeof ((struct err *)0)->text];
};

struct controlfile {
	struct controlfiles *cs; /* borrowed */
	struct topic *topic;     /* borrowed */
	pthread_mutex_t lock;
	struct wr shown;         /* what READ gives */
	struct wr unfinished;    /* the beginning of a line */
};

void controlfiles_init(struct controlfiles *cs)
{
	cs->refusals = NULL;
	pthread_mutex_init(&cs->lock, NULL);
}

void controlfiles_release(struct controlfiles *cs)
{
	for (struct refusal *r = cs->refusals, *next; r; r = next) {
		next = r->next;
		free(r);
	}
	pthread_mutex_destroy(&cs->lock);
}

/* The place of a topic's refusal; where it would be. locks: the lot's. */
static struct refusal **find_refusal(struct controlfiles *cs, const struct topic *t)
{
	struct refusal **at = &cs->refusals;
	while (*at && (*at)->topic_serial != topic_serial(t))
		at = &(*at)->next;
	return at;
}

/* why NULL: the last change succeeded. */
static void note_refusal(struct controlfiles *cs, const struct topic *t, const char *why)
{
	pthread_mutex_lock(&cs->lock);
	struct refusal **at = find_refusal(cs, t), *r = *at;
	if (!why && r) {
		*at = r->next;
		free(r);
	} else if (why) {
		if (!r && (r = malloc(sizeof *r))) {
			*r = (struct refusal){.topic_serial = topic_serial(t)};
			*at = r;
		}
		if (r)
			memcpy(r->text, why, strnlen(why, sizeof r->text - 1) + 1);
	}
	pthread_mutex_unlock(&cs->lock);
}

int controlfile_print(struct controlfiles *cs, struct topic *t, struct wr *text, struct err *e)
{
	int rc = topic_print_config(t, text);
	if (rc < 0)
		return err_set(e, rc, "cannot print the properties of topic %s", topic_name(t));
	pthread_mutex_lock(&cs->lock);
	const struct refusal *r = *find_refusal(cs, t);
	if (r)
		wr_printf(text, "# refused: %s\n", r->text);
	pthread_mutex_unlock(&cs->lock);
	return text->failed ? err_set(e, ERR_NO_MEMORY, "no memory for the properties of topic %s", topic_name(t)) : 0;
}

int controlfile_open(struct controlfiles *cs, struct topic *t, struct controlfile **out, struct err *e)
{
	struct controlfile *c = malloc(sizeof *c);
	if (!c)
		return err_set(e, ERR_NO_MEMORY, "no memory for the properties of topic %s", topic_name(t));
	*c = (struct controlfile){.cs = cs, .topic = t};
	pthread_mutex_init(&c->lock, NULL);
	wr_init(&c->shown, 0);
	wr_init(&c->unfinished, MAX_LINE_BYTES);
	int rc = controlfile_print(cs, t, &c->shown, e);
	if (rc < 0)
		controlfile_free(c);
	else
		*out = c;
	return rc;
}

void controlfile_free(struct controlfile *c)
{
	wr_release(&c->shown);
	wr_release(&c->unfinished);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

size_t controlfile_read(struct controlfile *c, off_t at, void *buf, size_t n)
{
	size_t left = at < (off_t)c->shown.len ? c->shown.len - (size_t)at : 0;
	n = n < left ? n : left;
	if (n)
		memcpy(buf, c->shown.data + at, n);
	return n;
}

static int configure(struct controlfile *c, const void *text, size_t n, struct err *e)
{
	struct err why = ERR_INIT;
	int rc = topic_configure(c->topic, text, n, &why);
	note_refusal(c->cs, c->topic, rc < 0 ? why.text : NULL);
	if (rc < 0)
		err_set(e, rc, "%s", why.text);
	return rc;
}

/* Adds to the unfinished line. locks: the file's. */
static int keep(struct controlfile *c, const char *text, size_t n, struct err *e)
{
	wr_bytes(&c->unfinished, text, n);
	if (!c->unfinished.failed)
		return 0;
	wr_clear(&c->unfinished);
	return err_set(e, ERR_TOO_LARGE, "a line for the properties of topic %s is over %d bytes", topic_name(c->topic), MAX_LINE_BYTES);
}

int controlfile_write(struct controlfile *c, const char *text, size_t n, struct err *e)
{
	const char *newline = memrchr(text, '\n', n);
	size_t whole = newline ? (size_t)(newline + 1 - text) : 0;
	int rc = 0;
	pthread_mutex_lock(&c->lock);
	if (whole && c->unfinished.len) {
		rc = keep(c, text, whole, e);
		if (rc == 0)
			rc = configure(c, c->unfinished.data, c->unfinished.len, e);
		wr_clear(&c->unfinished);
	} else if (whole)
		rc = configure(c, text, whole, e);
	if (rc == 0 && n > whole)
		rc = keep(c, text + whole, n - whole, e);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

int controlfile_flush(struct controlfile *c, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&c->lock);
	if (c->unfinished.len)
		rc = configure(c, c->unfinished.data, c->unfinished.len, e);
	wr_clear(&c->unfinished);
	pthread_mutex_unlock(&c->lock);
	return rc;
}
