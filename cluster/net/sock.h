/*
 * sock: the one seam between the reactor and the system calls on sockets, as store/io is for files.
 *
 * All return 0, a count or a descriptor, or a NEGATIVE errno; EINTR is retried; descriptors are O_CLOEXEC and non-blocking. A hook sees each
 * call before it is made, and may let it pass, fail it, or make it a short one.
 *
 * thread: any; sock_set_hook only while no other thread is inside a call.
 */
#ifndef CLUSTER_NET_SOCK_H
#define CLUSTER_NET_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

enum sock_call { SOCK_ACCEPT, SOCK_RECEIVE, SOCK_SEND, SOCK_SENDFILE, SOCK_PROBE, SOCK_CALLS };

/* bytes: what is asked for. Returns 0: make the call; a negative errno: fail; n > 0: no more than n bytes of it. */
typedef ssize_t (*sock_hook_fn)(void *arg, enum sock_call call, int fd, size_t bytes);
void sock_set_hook(sock_hook_fn fn, void *arg);

/* peer: room for any address. */
int sock_accept(int fd, struct sockaddr_storage *peer);
ssize_t sock_receive(int fd, struct iovec *iov, int count, size_t *asked); /* 0: the peer sends nothing more. *asked: what the system could have given */
ssize_t sock_send(int fd, struct iovec *iov, int count, int more);
ssize_t sock_sendfile(int fd, int file, uint64_t offset, size_t bytes); /* 0: the file ends at the offset */
/* Whether reading those bytes of a file may have to wait for a disk: as far as a look here and there tells. Fails as "it may". */
bool sock_file_is_cold(int file, uint64_t offset, size_t bytes);
void sock_option(int fd, int level, int option, int value); /* one that may fail, as nothing depends on it */

#endif
