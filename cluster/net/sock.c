#include "cluster/net/sock.h"

#include <errno.h>
#include <sys/sendfile.h>

#include "store/retried.h"

static sock_hook_fn hook;
static void *hook_arg;

void sock_set_hook(sock_hook_fn fn, void *arg)
{
	hook = fn;
	hook_arg = arg;
}

static inline ssize_t ask_hook(enum sock_call call, int fd, size_t bytes)
{
	if (__builtin_expect(!hook, 1))
		return 0;
	return hook(hook_arg, call, fd, bytes);
}

static size_t iov_bytes(const struct iovec *iov, int count)
{
	size_t bytes = 0;
	for (int i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* What the hook says to a transfer: an error, or the vector is cut to what it allows. */
static ssize_t ask_transfer(enum sock_call call, int fd, struct iovec *iov, int *count)
{
	if (__builtin_expect(!hook, 1))
		return 0;
	ssize_t allowed = hook(hook_arg, call, fd, iov_bytes(iov, *count));
	if (allowed <= 0)
		return allowed;
	int i = 0;
	for (size_t left = (size_t)allowed; i < *count && left; i++) {
		if (iov[i].iov_len > left)
			iov[i].iov_len = left;
		left -= iov[i].iov_len;
	}
	*count = i;
	return 0;
}

int sock_accept(int fd, struct sockaddr_storage *peer)
{
	ssize_t r = ask_hook(SOCK_ACCEPT, fd, 0);
	if (r < 0)
		return (int)r;
	socklen_t len = sizeof *peer;
	return RETRIED(accept4(fd, (struct sockaddr *)peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

ssize_t sock_receive(int fd, struct iovec *iov, int count, size_t *asked)
{
	ssize_t r = ask_transfer(SOCK_RECEIVE, fd, iov, &count);
	*asked = iov_bytes(iov, count);
	if (r < 0)
		return r;
	if (count == 1)
		return RETRIED(recv(fd, iov->iov_base, iov->iov_len, 0));
	return RETRIED(readv(fd, iov, count));
}

ssize_t sock_send(int fd, struct iovec *iov, int count, int more)
{
	ssize_t r = ask_transfer(SOCK_SEND, fd, iov, &count);
	if (r < 0)
		return r;
	int flags = MSG_NOSIGNAL | (more ? MSG_MORE : 0);
	if (count == 1)
		return RETRIED(send(fd, iov->iov_base, iov->iov_len, flags));
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)count};
	return RETRIED(sendmsg(fd, &m, flags));
}

ssize_t sock_sendfile(int fd, int file, uint64_t offset, size_t bytes)
{
	ssize_t r = ask_hook(SOCK_SENDFILE, fd, bytes);
	if (r < 0)
		return r;
	off_t at = (off_t)offset;
	return RETRIED(sendfile(fd, file, &at, r && (size_t)r < bytes ? (size_t)r : bytes));
}

/* The page cache is read ahead and let go of in larger pieces than a page. */
enum { PROBE_BYTES = 128 << 10, LEAST_PAGE_BYTES = 4096 };

static bool page_is_cold(int file, uint64_t offset)
{
	uint8_t byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	return preadv2(file, &iov, 1, (off_t)offset, RWF_NOWAIT) < 0 && errno == EAGAIN;
}

bool sock_file_is_cold(int file, uint64_t offset, size_t bytes)
{
	if (ask_hook(SOCK_PROBE, file, bytes) < 0)
		return true;
	for (size_t at = 0; at < bytes; at += PROBE_BYTES)
		if (page_is_cold(file, offset + at))
			return true;
	return bytes && (offset + bytes - 1) / LEAST_PAGE_BYTES != offset / LEAST_PAGE_BYTES && page_is_cold(file, offset + bytes - 1);
}

void sock_option(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof value);
}
