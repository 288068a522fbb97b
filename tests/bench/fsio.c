/*
 * fsio: the loops of bench.py that Python is too slow for. Times go to stdout in nanoseconds.
 *
 *   fsio gen FILE BYTES                     numbered lines of 100 B
 *   fsio writes FILE LEN COUNT              one write(2) a line on one O_APPEND handle
 *   fsio cwrites LEN COUNT BATCH FILE...    one writer process a FILE (a file may stand there twice),
 *                                           BATCH lines a write(2); BATCH 0: one, and fsync(2) after it
 *   fsio check FILE LEN WRITERS COUNT       every line whole, each writer's lines in order, none lost or twice
 *   fsio follow FILE LEN COUNT              reads while the file grows (cached handle), checks each line
 *   fsio preads FILE COUNT                  random 4 KiB preads at 4 KiB boundaries
 *   fsio evict FILE                         drops this mount's cached pages of FILE, no others
 *
 * A tagged line is: one letter (the writer), 11 digits (its count), a space, the small letter to LEN-1, \n.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void put_digits(char *at, uint64_t v)
{
	for (int i = 10; i >= 0; i--, v /= 10)
		at[i] = (char)('0' + v % 10);
}

static void make_line(char *buf, size_t len, int writer, uint64_t count)
{
	memset(buf, 'a' + writer, len);
	buf[0] = (char)('A' + writer);
	put_digits(buf + 1, count);
	buf[12] = ' ';
	buf[len - 1] = '\n';
}

static void write_all(int fd, const char *buf, size_t len)
{
	ssize_t n = write(fd, buf, len); /* a short write would break a line in two: that is a failure */
	if (n != (ssize_t)len)
		err(1, "write of %zu gave %zd", len, n);
}

static int open_append(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void write_lines(int fd, size_t len, uint64_t count, unsigned batch, int writer)
{
	int sync = batch == 0;
	batch += (unsigned)sync;
	char *buf = malloc(len * batch);
	for (unsigned i = 0; i < batch; i++)
		make_line(buf + i * len, len, writer, 0);
	for (uint64_t k = 0; k < count; k += batch) {
		for (unsigned i = 0; i < batch; i++)
			put_digits(buf + i * len + 1, k + i);
		write_all(fd, buf, len * batch);
		if (sync && fsync(fd))
			err(1, "fsync");
	}
	free(buf);
}

static int64_t cwrites(size_t len, uint64_t count, unsigned batch, char **files, int nfiles)
{
	int gate[2];
	char c;
	if (pipe(gate))
		err(1, "pipe");
	for (int w = 0; w < nfiles; w++)
		if (!fork()) {
			int fd = open_append(files[w]);
			close(gate[1]);
			(void)!read(gate[0], &c, 1); /* end of file: all start at once */
			write_lines(fd, len, count, batch, w);
			_exit(0);
		}
	usleep(50000);
	int64_t t0 = now_ns();
	close(gate[1]);
	int status, bad = 0;
	while (wait(&status) > 0)
		bad |= status;
	if (bad)
		errx(1, "a writer failed");
	return now_ns() - t0;
}

/* What the lines so far said; 0 while they are right. */
static int check_line(const char *line, size_t len, uint64_t *next, uint64_t at)
{
	char want[65536];
	int w = line[0] - 'A';
	if (w < 0 || w > 25 || line[len - 1] != '\n') {
		fprintf(stderr, "byte %llu: not the start of a whole line (%d)\n", (unsigned long long)at, line[0]);
		return 1;
	}
	make_line(want, len, w, next[w]);
	if (memcmp(line, want, len)) {
		fprintf(stderr, "byte %llu: writer %c: wanted line %llu, found %.13s (NUL inside: %s)\n", (unsigned long long)at, 'A' + w,
			(unsigned long long)next[w], line, memchr(line, 0, len) ? "yes" : "no");
		return 1;
	}
	next[w]++;
	return 0;
}

/* Reads COUNT lines of each of WRITERS; at the end of file waits for more if follow. */
static int check(const char *path, size_t len, int writers, uint64_t count, int follow)
{
	static char buf[1 << 20];
	uint64_t next[26] = {0}, at = 0, lines = 0, want = count * (uint64_t)writers;
	size_t have = 0;
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		err(1, "%s", path);
	while (lines < want) {
		ssize_t n = read(fd, buf + have, sizeof buf - have);
		if (n < 0)
			err(1, "%s", path);
		if (n == 0 && !follow)
			break;
		if (n == 0)
			usleep(200);
		have += (size_t)n;
		size_t used = 0;
		for (; have - used >= len; used += len, at += len, lines++)
			if (check_line(buf + used, len, next, at))
				return 1;
		memmove(buf, buf + used, have -= used);
	}
	for (int w = 0; w < writers; w++)
		if (next[w] != count) {
			fprintf(stderr, "writer %c: %llu lines of %llu\n", 'A' + w, (unsigned long long)next[w], (unsigned long long)count);
			return 1;
		}
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";
#define NUM(i) strtoull(argc > (i) ? argv[i] : "0", NULL, 10)
	int64_t t0 = now_ns(), ns = -1;
	if (!strcmp(verb, "gen")) {
		int fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
		if (fd < 0)
			err(1, "%s", argv[2]);
		write_lines(fd, 100, NUM(3) / 100, 1, 0);
	} else if (!strcmp(verb, "writes")) {
		int fd = open_append(argv[2]);
		t0 = now_ns();
		write_lines(fd, NUM(3), NUM(4), 1, 0);
	} else if (!strcmp(verb, "cwrites")) {
		ns = cwrites(NUM(2), NUM(3), (unsigned)NUM(4), argv + 5, argc - 5);
	} else if (!strcmp(verb, "check")) {
		return check(argv[2], NUM(3), (int)NUM(4), NUM(5), 0);
	} else if (!strcmp(verb, "follow")) {
		if (check(argv[2], NUM(3), 1, NUM(4), 1))
			return 1;
	} else if (!strcmp(verb, "preads")) {
		char buf[4096];
		struct stat st;
		int fd = open(argv[2], O_RDONLY);
		if (fd < 0 || fstat(fd, &st))
			err(1, "%s", argv[2]);
		uint64_t r = 88172645463325252u, pages = (uint64_t)st.st_size / 4096;
		t0 = now_ns();
		for (uint64_t i = NUM(3); i; i--) {
			r ^= r << 13, r ^= r >> 7, r ^= r << 17;
			if (pread(fd, buf, 4096, (off_t)(r % pages * 4096)) != 4096)
				err(1, "pread");
		}
	} else if (!strcmp(verb, "evict")) {
		int fd = open(argv[2], O_RDONLY);
		if (fd < 0)
			err(1, "%s", argv[2]);
		fsync(fd);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	} else {
		errx(2, "usage: see the head of fsio.c");
	}
	printf("%lld\n", (long long)(ns >= 0 ? ns : now_ns() - t0));
	return 0;
}
