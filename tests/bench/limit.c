/*
 * limit: what the system itself takes to move bytes over loopback; no server can take less.
 *
 *   limit send FILE BYTES       so many bytes of FILE (again from its start at its end) by sendfile
 *   limit receive FILE BYTES    so many bytes received, and written to FILE, which is then removed
 *
 * Prints the CPU seconds of the thread that stands for the server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CLIENT_BYTES = 256 << 10, SERVER_BYTES = 512 << 10, RANGE_BYTES = 1 << 20 };

static int64_t total;
static int client_fd;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void *client_receives(void *arg)
{
	static uint8_t buf[CLIENT_BYTES];
	for (int64_t left = total; left;) {
		ssize_t n = recv(client_fd, buf, sizeof buf, 0);
		if (n <= 0)
			die("recv");
		left -= n;
	}
	return arg;
}

static void *client_sends(void *arg)
{
	static uint8_t buf[CLIENT_BYTES];
	for (int64_t left = total; left;) {
		ssize_t n = send(client_fd, buf, left < (int64_t)sizeof buf ? (size_t)left : sizeof buf, 0);
		if (n <= 0)
			die("send");
		left -= n;
	}
	return arg;
}

static void server_sends(int fd, const char *path)
{
	struct stat st;
	int file = open(path, O_RDONLY);
	off_t at = 0;
	if (file < 0 || fstat(file, &st) || !st.st_size)
		die(path);
	for (int64_t left = total; left;) {
		ssize_t n = sendfile(fd, file, &at, left < RANGE_BYTES ? (size_t)left : RANGE_BYTES);
		if (n < 0)
			die("sendfile");
		left -= n;
		if (at == st.st_size)
			at = 0;
	}
}

static void server_receives(int fd, const char *path)
{
	static uint8_t buf[SERVER_BYTES];
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (file < 0)
		die(path);
	unlink(path);
	for (int64_t left = total; left;) {
		ssize_t n = recv(fd, buf, sizeof buf, 0);
		if (n <= 0 || write(file, buf, (size_t)n) != n)
			die("receive");
		left -= n;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof any;
	struct rusage u;
	pthread_t t;
	if (argc != 4) {
		fprintf(stderr, "usage: limit send|receive FILE BYTES\n");
		return 2;
	}
	total = atoll(argv[3]);
	bool send = !strcmp(argv[1], "send");
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 1) || getsockname(listener, (struct sockaddr *)&any, &len))
		die("listen");
	client_fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(client_fd, (struct sockaddr *)&any, sizeof any))
		die("connect");
	int fd = accept(listener, NULL, NULL);
	pthread_create(&t, NULL, send ? client_receives : client_sends, NULL);
	(send ? server_sends : server_receives)(fd, argv[2]);
	getrusage(RUSAGE_THREAD, &u);
	pthread_join(t, NULL);
	printf("%.4f\n", (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
	return 0;
}
