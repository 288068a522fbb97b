#include "tests/unit/role_fixture.h"

/*
 * Three replicas under load, whose roles change all the time: writers, followers that fetch, readers of the mount, parked ones and flushes, and a controller that elects any replica in sync,
 * tells some of it late, and answers who asks for another ISR. At the end the logs are the same; what was acknowledged with acks=all is in them, and each writer's lines in order; no reader has seen
 * the end go back, or other bytes at a position than stand there at the end.
 */

enum { WRITERS = 3, TURNS_MS = 4, RUN_MS = 4000, MOST = 1 << 20 };

static _Atomic bool over;
static _Atomic size_t acknowledged, refused, unsure, elections, changes, reads_done, flushes_done, woken;

/* On whichever thread: cmocka's own leave the thread that began the test only. */
#define broken(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), abort())

/* ---- the controller ---- */

static struct {
	pthread_mutex_t lock;
	int32_t leader, epoch;
	unsigned isr; /* by id */
	int answered[NODES + 1];
} control = {.lock = PTHREAD_MUTEX_INITIALIZER, .leader = 1, .epoch = 1, .isr = 14};

static const char *digits(unsigned mask, char *text)
{
	char *at = text;
	for (int i = 1; i <= NODES; i++)
		if (mask & 1u << i)
			*at++ = (char)('0' + i);
	*at = 0;
	return text;
}

static void tell_now(int id)
{
	char isr[8];
	int32_t in[NODES], all[] = {1, 2, 3};
	struct partition_role r = {.leader = control.leader, .leader_epoch = control.epoch, .partition_epoch = partition_epoch, .controller_epoch = 1, .isr = in, .replicas = all, .replica_count = NODES};
	digits(control.isr, isr);
	for (; isr[r.isr_count]; r.isr_count++)
		in[r.isr_count] = isr[r.isr_count] - '0';
	if (partition_become(node[id].p, &r, &err) < 0)
		broken("partition_become: %s", err.text);
}

/* AlterPartition, as a controller does it. */
static void answer_changes(void)
{
	for (int i = 1; i <= NODES; i++) {
		struct node *n = &node[i];
		int32_t isr[ISR_REPLICAS];
		pthread_mutex_lock(&n->lock);
		struct isr_change c = n->asked;
		bool news = n->asked_count != control.answered[i];
		control.answered[i] = n->asked_count;
		pthread_mutex_unlock(&n->lock);
		if (!news)
			continue;
		bool good = i == control.leader && c.leader_epoch == control.epoch && c.partition_epoch == partition_epoch;
		if (good) {
			control.isr = 0;
			for (int k = 0; k < c.count; k++)
				control.isr |= 1u << (isr[k] = c.member[k].id);
			partition_epoch++;
			changes++;
		}
		partition_altered(n->p, &c, good ? ISR_ALTERED : ISR_OUTDATED, isr, good ? c.count : 0, partition_epoch);
	}
}

static void *run_control(void *arg)
{
	unsigned seed = 7;
	(void)arg;
	while (!over) {
		usleep(TURNS_MS * 1000 / 4);
		answer_changes();
		if (rand_r(&seed) % 4)
			continue;
		unsigned what = (unsigned)rand_r(&seed) % 4;
		int id = 1 + rand_r(&seed) % NODES;
		if (what == 0 && control.isr != 1u << id && id != control.leader) {
			control.isr &= ~(1u << id); /* thought dead */
		} else if (what <= 2 && control.isr & 1u << id) {
			control.leader = id;
		} else
			continue;
		control.epoch++;
		partition_epoch++;
		elections++;
		int first = rand_r(&seed) % NODES, skipped = rand_r(&seed) % (2 * NODES);
		for (int k = 0; k < NODES; k++)
			if (k != skipped || 1 + (first + k) % NODES == control.leader)
				tell_now(1 + (first + k) % NODES);
		if (rand_r(&seed) % 2)
			usleep(500);
		for (int k = 1; k <= NODES; k++)
			tell_now(k);
	}
	return NULL;
}

/* ---- followers ---- */

static int32_t leader_of(struct partition *p, int32_t *epoch)
{
	struct partition_standing s, again;
	do {
		partition_standing(p, &s);
		partition_standing(p, &again);
	} while (s.leader != again.leader || s.leader_epoch != again.leader_epoch);
	*epoch = s.leader_epoch;
	return s.leader;
}

static _Atomic bool settled; /* nobody writes any more: fetch what is left */

static void *run_follower(void *arg)
{
	struct node *n = arg;
	int32_t aligned = -1, epoch;
	unsigned seed = (unsigned)n->id;
	while (!settled) {
		int32_t leader = leader_of(n->p, &epoch);
		if (leader < 1 || leader == n->id) {
			usleep(300);
			continue;
		}
		int rc = 0;
		if (aligned != epoch && (rc = try_align(n->id, leader, epoch)) == 0)
			aligned = epoch;
		if (rc == 0)
			rc = try_fetch(n->id, leader, epoch, rand_r(&seed) % 3 ? 1 << 16 : 100);
		if (rc < 0 && rc != ERR_NOT_LEADER && rc != ERR_FENCED_EPOCH && rc != ERR_UNKNOWN_EPOCH && rc != ERR_OUT_OF_RANGE)
			broken("broker %d: %s", n->id, err.text);
		if (rc == ERR_OUT_OF_RANGE)
			aligned = -1;
		if (rc < 0)
			usleep(200);
	}
	return NULL;
}

/* ---- writers ---- */

struct writing { int number, next; size_t acked_count; int *acked; };

static bool is_done(struct wait *w)
{
	pthread_mutex_lock(&w->lock);
	bool done = w->calls;
	pthread_mutex_unlock(&w->lock);
	return done;
}

static void *run_writer(void *arg)
{
	enum { AHEAD = 5 };
	struct writing *me = arg;
	struct wait w[AHEAD];
	int what[AHEAD];
	struct partition *where[AHEAD];
	unsigned seed = (unsigned)me->number;
	int32_t epoch;
	char text[40];
	for (int i = 0; i < AHEAD; i++)
		wait_init(&w[i]);
	for (int at = 0; !over; at = (at + 1) % AHEAD) {
		if (w[at].a.done) {
			while (!is_done(&w[at]) && !over) {
				usleep(200);
				if (rand_r(&seed) % 64 == 0) /* its patience is over */
					partition_append_give_up(where[at], &w[at].a);
			}
			if (over && !is_done(&w[at]))
				break;
			int code = finish_append(&w[at]);
			if (code == 0 && w[at].a.acks == ACKS_ALL) {
				me->acked[me->acked_count++] = what[at];
				acknowledged++;
			} else if (code == ERR_NOT_LEADER || code == ERR_TIMED_OUT)
				unsure++;
			else if (code < 0)
				refused++;
			w[at].a.done = NULL;
		}
		int32_t leader = leader_of(node[1 + me->number % NODES].p, &epoch);
		if (leader < 1 || me->next >= MOST) {
			usleep(100);
			continue;
		}
		what[at] = me->next++;
		where[at] = node[leader].p;
		int n = sprintf(text, "%d %d\n", me->number, what[at]);
		start_append(where[at], &w[at], text, (size_t)n, what[at] % 3 ? ACKS_ALL : ACKS_LEADER);
	}
	for (int i = 0; i < AHEAD; i++) { /* what is left is answered when followers have fetched it, or a role is taken */
		if (w[i].a.done)
			finish_append(&w[i]);
		wait_release(&w[i]);
	}
	return NULL;
}

/* ---- readers ---- */

struct reading { struct node *n; char *text; int64_t size; };

static void *run_reader(void *arg)
{
	struct reading *me = arg;
	struct partition *p = me->n->p;
	struct partition_cursor *c = partition_cursor_new(p);
	int64_t before = 0;
	while (!over) {
		struct visible v;
		if (partition_visible(p, &v, &err) < 0)
			broken("visible: %s", err.text);
		if (v.end_position < before)
			broken("the visible end went back from %lld to %lld", (long long)before, (long long)v.end_position);
		before = v.end_position;
		if (me->size == before || before > 64 * MOST) {
			usleep(200);
			continue;
		}
		ssize_t got = partition_read(p, c, me->size, me->text + me->size, (size_t)(before - me->size), &err);
		if (got < 0)
			broken("read: %s", err.text);
		me->size += got;
		reads_done++;
	}
	partition_cursor_free(c);
	return NULL;
}

static bool is_woken(struct sleeper *s)
{
	pthread_mutex_lock(&s->lock);
	bool woken_now = s->woken;
	pthread_mutex_unlock(&s->lock);
	return woken_now;
}

static void *run_sleeper(void *arg)
{
	struct node *n = arg;
	struct sleeper s;
	sleeper_init(&s, n->p);
	while (!over) {
		struct visible v;
		partition_visible(n->p, &v, NULL);
		s.key = (struct delayed_key){.list = partition_delayed(n->p), .channel = DELAYED_STABLE};
		s.woken = false;
		s.position = v.end_position;
		s.d.key = &s.key;
		delayed_init(&s.d);
		delayed_park(&s.d, broker_timers(n->b), mono_after_ms(mono_now(), 20000));
		while (!over && !is_woken(&s))
			usleep(500);
		if (over && delayed_cancel(&s.d))
			break;
		sleeper_wait(&s);
		woken++;
	}
	sleeper_release(&s);
	return NULL;
}

struct synced { struct flush f; _Atomic bool done; };

static void flush_over(struct flush *f)
{
	((struct synced *)f)->done = true;
}

static void *run_flusher(void *arg)
{
	struct node *n = arg;
	while (!over) {
		struct synced s = {.f = {.done = flush_over}};
		partition_flush(n->p, &s.f);
		while (!s.done)
			usleep(300);
		flushes_done++;
		usleep(2000);
	}
	return NULL;
}

/* ---- what came of it ---- */

static void check_lines(const struct writing *w)
{
	int64_t n;
	char *all = all_of(node[1].p, &n);
	uint8_t *seen[WRITERS];
	int last[WRITERS];
	for (int i = 0; i < WRITERS; i++) {
		seen[i] = calloc((size_t)w[i].next + 1, 1);
		last[i] = -1;
	}
	for (char *at = all, *nl; (nl = strchr(at, '\n')); at = nl + 1) {
		int writer, number;
		if (sscanf(at, "%d %d\n", &writer, &number) != 2 || writer >= WRITERS || number >= w[writer].next)
			broken("a line is torn: %.*s", (int)(nl - at), at);
		if (seen[writer][number]++)
			broken("a line is there twice: %.*s", (int)(nl - at), at);
		last[writer] = number;
	}
	for (int i = 0; i < WRITERS; i++) {
		for (size_t k = 0; k < w[i].acked_count; k++)
			if (!seen[i][w[i].acked[k]])
				broken("writer %d: line %d was acknowledged, and is lost (the last there is %d)", i, w[i].acked[k], last[i]);
		free(seen[i]);
	}
	free(all);
}

static void wait_until_same(void)
{
	for (int i = 0; i < 4000; i++) {
		answer_changes();
		if (end_of(1) == end_of(2) && end_of(2) == end_of(3) && high_of(1) == end_of(1) && high_of(2) == end_of(2) && high_of(3) == end_of(3))
			return;
		usleep(5000);
	}
	broken("the replicas do not come together: ends %lld %lld %lld, high %lld %lld %lld", (long long)end_of(1), (long long)end_of(2), (long long)end_of(3), (long long)high_of(1),
		 (long long)high_of(2), (long long)high_of(3));
}

static void test_roles_change_under_load(void **state)
{
	(void)state;
	struct writing w[WRITERS];
	struct reading r[NODES];
	pthread_t controller, follower[NODES], writer[WRITERS], reader[NODES], sleeper[NODES], flusher[NODES];
	for (int i = 1; i <= NODES; i++) {
		node_set(&node[i], "replica.lag.time.max.ms=40");
		node_set(&node[i], "log.segment.bytes=65536");
	}
	diag_set_level(DIAG_WARNING);
	open_nodes(NODES);
	partition_epoch++;
	for (int i = 1; i <= NODES; i++)
		tell_now(i);
	for (int i = 0; i < NODES; i++) {
		r[i] = (struct reading){&node[i + 1], calloc(1, 64 * MOST), 0};
		pthread_create(&follower[i], NULL, run_follower, &node[i + 1]);
		pthread_create(&reader[i], NULL, run_reader, &r[i]);
		pthread_create(&sleeper[i], NULL, run_sleeper, &node[i + 1]);
		pthread_create(&flusher[i], NULL, run_flusher, &node[i + 1]);
	}
	for (int i = 0; i < WRITERS; i++) {
		w[i] = (struct writing){.number = i, .acked = calloc(MOST, sizeof(int))};
		pthread_create(&writer[i], NULL, run_writer, &w[i]);
	}
	pthread_create(&controller, NULL, run_control, NULL);
	usleep(RUN_MS * 1000);
	over = true;
	pthread_join(controller, NULL);
	control.epoch++; /* all know who leads now; what waits with another is told so */
	partition_epoch++;
	for (int i = 1; i <= NODES; i++)
		tell_now(i);
	wait_until_same();
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writer[i], NULL);
	wait_until_same();
	settled = true;
	for (int i = 0; i < NODES; i++) {
		pthread_join(follower[i], NULL);
		pthread_join(reader[i], NULL);
		pthread_join(sleeper[i], NULL);
		pthread_join(flusher[i], NULL);
	}
	int64_t n[NODES];
	char *all[NODES];
	for (int i = 0; i < NODES; i++)
		all[i] = all_of(node[i + 1].p, &n[i]);
	for (int i = 0; i < NODES; i++) {
		assert_int_equal(n[i], n[0]);
		assert_int_equal(memcmp(all[i], all[0], (size_t)n[0]), 0);
		assert_true(r[i].size <= n[0]);
		assert_int_equal(memcmp(r[i].text, all[0], (size_t)r[i].size), 0);
	}
	check_lines(w);
	if (getenv("VERBOSE"))
		print_message("%zu acknowledged, %zu refused, %zu unsure, %zu elections, %zu changes of the ISR, %zu reads, %zu woken, %zu flushes, %lld bytes\n", (size_t)acknowledged, (size_t)refused,
			      (size_t)unsure, (size_t)elections, (size_t)changes, (size_t)reads_done, (size_t)woken, (size_t)flushes_done, (long long)n[0]);
	assert_true(acknowledged > 0 && elections > 10 && changes > 0 && reads_done > 0 && woken > 0 && flushes_done > 0);
	for (int i = 0; i < NODES; i++) {
		free(all[i]);
		free(r[i].text);
	}
	for (int i = 0; i < WRITERS; i++)
		free(w[i].acked);
	for (int i = 1; i <= NODES; i++)
		node_close(&node[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_roles_change_under_load, setup_nodes, teardown_nodes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
