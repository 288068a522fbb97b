#include "store/clean_map.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

struct hash { uint64_t a, b; };
struct clean_entry { struct hash key; uint64_t offset_1; /* plus one; 0: the slot is free */ };

/* ---- SipHash-2-4 with 128 bits (Aumasson and Bernstein, 2012) ---- */

static struct hash secret;
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void make_secret(void)
{
	struct timespec now;
	if (getrandom(&secret, sizeof secret, 0) == sizeof secret)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	secret = (struct hash){(uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u, (uint64_t)now.tv_sec ^ (uintptr_t)&now};
}

static inline uint64_t rotate(uint64_t v, int bits)
{
	return v << bits | v >> (64 - bits);
}

static inline void rounds(uint64_t v[4], int n)
{
	while (n--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32) + v[3];
		v[2] += v[1];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[2] = rotate(v[2], 32);
	}
}

static void take(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	rounds(v, 2);
	v[0] ^= word;
}

static struct hash hash(const void *key, size_t n)
{
	const uint8_t *p = key;
	uint64_t v[4] = {secret.a ^ 0x736f6d6570736575u, secret.b ^ 0x646f72616e646f6du ^ 0xee, secret.a ^ 0x6c7967656e657261u, secret.b ^ 0x7465646279746573u};
	uint64_t word, last = (uint64_t)n << 56;
	for (size_t left = n; left >= 8; left -= 8, p += 8) {
		memcpy(&word, p, 8);
		take(v, le64toh(word));
	}
	for (size_t i = 0; i < n % 8; i++)
		last |= (uint64_t)p[i] << 8 * i;
	take(v, last);
	v[2] ^= 0xee;
	rounds(v, 4);
	struct hash h = {.a = v[0] ^ v[1] ^ v[2] ^ v[3]};
	v[1] ^= 0xdd;
	rounds(v, 4);
	h.b = v[0] ^ v[1] ^ v[2] ^ v[3];
	return h;
}

/* ---- the map ---- */

int clean_map_init(struct clean_map *m, size_t bytes, double load_factor, uint64_t keys, struct err *e)
{
	pthread_once(&secret_once, make_secret);
	*m = (struct clean_map){.latest = -1, .slots = bytes / sizeof(struct clean_entry)};
	double wanted = (double)keys / load_factor + 2;
	if (wanted < (double)m->slots)
		m->slots = (size_t)wanted;
	m->most = (size_t)((double)m->slots * load_factor);
	if (m->most >= m->slots) /* one slot stays free: a search ends there */
		m->most = m->slots ? m->slots - 1 : 0;
	if (!m->most)
		return err_set(e, ERR_INVALID, "%zu bytes at a load of %g hold no key: log.cleaner.dedupe.buffer.size is too small", bytes, load_factor);
	void *at = mmap(NULL, m->slots * sizeof *m->slot, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED) {
		m->slots = 0;
		return err_set(e, ERR_NO_MEMORY, "no memory for %zu keys of a log that is cleaned", m->most);
	}
	m->slot = at;
	return 0;
}

void clean_map_release(struct clean_map *m)
{
	if (m->slot)
		munmap(m->slot, m->slots * sizeof *m->slot);
	m->slot = NULL;
}

/* The key's slot, or the free one where it would stand. */
static struct clean_entry *find(const struct clean_map *m, const struct hash *h)
{
	size_t i = h->a % m->slots;
	while (m->slot[i].offset_1 && (m->slot[i].key.a != h->a || m->slot[i].key.b != h->b))
		i = i + 1 < m->slots ? i + 1 : 0;
	return &m->slot[i];
}

bool clean_map_put(struct clean_map *m, const void *key, size_t n, int64_t offset)
{
	struct hash h = hash(key, n);
	struct clean_entry *x = find(m, &h);
	if (!x->offset_1) {
		if (m->used == m->most)
			return false;
		m->used++;
		x->key = h;
	}
	x->offset_1 = (uint64_t)offset + 1;
	m->latest = offset;
	return true;
}

int64_t clean_map_get(const struct clean_map *m, const void *key, size_t n)
{
	struct hash h = hash(key, n);
	return (int64_t)find(m, &h)->offset_1 - 1;
}
