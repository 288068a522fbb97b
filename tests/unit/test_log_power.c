#include "tests/unit/log_fixture.h"

#include "tests/unit/clean_fixture.h"

/* Power cuts: of each file there is what was synced, and of what came since any part or nothing; of names the same. What was flushed is there, in its place; of
 * the rest whole batches or none; and no byte is wrong. */

static struct fx f;

/* ---- what is on the disk ---- */

struct inode { ino_t ino; int fd; char *bytes; size_t n; }; /* its bytes as of its last sync; the descriptor keeps the number from being used again */
struct name { char name[64]; ino_t ino; };
static struct inode *inode;
static size_t inode_count;
static struct name synced[400];
static size_t synced_count;

static struct inode *find_inode(ino_t ino)
{
	for (size_t i = 0; i < inode_count; i++)
		if (inode[i].ino == ino)
			return &inode[i];
	return NULL;
}

static char *read_fd(int fd, size_t *n)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	char *bytes = malloc((size_t)st.st_size + 1);
	ssize_t got = pread(fd, bytes, (size_t)st.st_size, 0);
	assert_int_equal(got, st.st_size);
	*n = (size_t)st.st_size;
	return bytes;
}

static void note_file(int fd)
{
	struct stat st;
	char path[64];
	assert_int_equal(fstat(fd, &st), 0);
	struct inode *i = find_inode(st.st_ino);
	if (!i) {
		inode = realloc(inode, (inode_count + 1) * sizeof *inode);
		i = &inode[inode_count++];
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		*i = (struct inode){.ino = st.st_ino, .fd = open(path, O_RDONLY)};
		assert_true(i->fd >= 0);
	}
	free(i->bytes);
	i->bytes = read_fd(i->fd, &i->n);
}

struct listing { const char *dir; struct name *list; size_t n; };

static int list_one(void *arg, const char *name, unsigned char type)
{
	struct listing *l = arg;
	char path[PATH_MAX];
	struct stat st;
	(void)type;
	snprintf(path, sizeof path, "%s/%s", l->dir, name);
	if (lstat(path, &st) < 0)
		return 0;
	assert_true(l->n < 400 && strlen(name) < 64);
	strcpy(l->list[l->n].name, name);
	l->list[l->n++].ino = st.st_ino;
	return 0;
}

static size_t list_dir(const char *dir, struct name *list)
{
	struct listing l = {dir, list, 0};
	DIR *d = opendir(dir); /* not through the seam: that has the hook in it */
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			list_one(&l, e->d_name, e->d_type);
	closedir(d);
	return l.n;
}

static ssize_t note_syncs(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)bytes;
	if (call == IO_SYNC && name)
		synced_count = list_dir(name, synced);
	else if (call == IO_SYNC)
		note_file(fd);
	return 0;
}

static void forget_disk(void)
{
	for (size_t i = 0; i < inode_count; i++) {
		close(inode[i].fd);
		free(inode[i].bytes);
	}
	free(inode);
	inode = NULL;
	inode_count = synced_count = 0;
}

/* ---- the cut ---- */

/* What a file may hold: as synced, as it was in memory, or something between the two. Lengths are written late: the rest may be missing, or zeros. */
static void write_cut(const char *dir, const struct name *entry, const char *from_dir)
{
	char path[PATH_MAX], *now = NULL;
	size_t n = 0;
	struct inode *i = find_inode(entry->ino);
	snprintf(path, sizeof path, "%s/%s", from_dir, entry->name);
	struct stat st;
	int fd = stat(path, &st) == 0 && st.st_ino == entry->ino ? open(path, O_RDONLY) : i ? dup(i->fd) : -1;
	if (fd >= 0) {
		now = read_fd(fd, &n);
		close(fd);
	}
	size_t safe = i ? i->n : 0, keep;
	switch (below(4)) {
	case 0:
		keep = safe;
		break;
	case 1:
		keep = n;
		break;
	default:
		keep = n > safe ? safe + below(n - safe + 1) : n;
	}
	if (keep > n)
		keep = n;
	if (i) /* what was synced, and has not been written over since */
		for (size_t k = 0; k < keep && k < safe; k++)
			now[k] = i->bytes[k];
	if (keep > safe && below(3) == 0)
		memset(now + safe, 0, keep - safe);
	snprintf(path, sizeof path, "%s/%s", dir, entry->name);
	spit(path, now ? now : "", now ? keep : 0);
	free(now);
}

static bool in_list(const struct name *list, size_t n, const struct name *entry, bool same_file)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(list[i].name, entry->name) && (!same_file || list[i].ino == entry->ino))
			return true;
	return false;
}

/* The synced name of a file that has another by now: a rename has reached the disk, or not, but a file with neither name there cannot be. */
static const struct name *name_before(const struct name *now, size_t n, const struct name *entry)
{
	for (size_t k = 0; k < synced_count; k++)
		if (synced[k].ino == entry->ino && !in_list(now, n, &synced[k], false))
			return &synced[k];
	return NULL;
}

static bool was_renamed(const struct name *now, size_t n, const struct name *before)
{
	for (size_t i = 0; i < n; i++)
		if (now[i].ino == before->ino)
			return true;
	return false;
}

static void cut_power(const char *to)
{
	static struct name now[400];
	size_t n = list_dir(f.dir, now);
	char command[300];
	snprintf(command, sizeof command, "rm -rf %s && mkdir %s", to, to);
	assert_int_equal(system(command), 0);
	for (size_t i = 0; i < n; i++) {
		bool sure = in_list(synced, synced_count, &now[i], true);
		const struct name *before = name_before(now, n, &now[i]);
		if (sure || below(2))
			write_cut(to, &now[i], f.dir);
		else if (before)
			write_cut(to, before, f.dir);
		else if (in_list(synced, synced_count, &now[i], false))
			for (size_t k = 0; k < synced_count; k++)
				if (!strcmp(synced[k].name, now[i].name))
					write_cut(to, &synced[k], f.dir);
	}
	for (size_t k = 0; k < synced_count; k++) /* removals may not have reached the disk */
		if (!in_list(now, n, &synced[k], false) && !was_renamed(now, n, &synced[k]) && below(2))
			write_cut(to, &synced[k], f.dir);
}

/* ---- */

static int setup(void **state)
{
	(void)state;
	fx_init(&f, NULL);
	diag_set_level(DIAG_ERROR - 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	forget_disk();
	fx_release(&f);
	return 0;
}

static void flush(void)
{
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
}

/* Appends something. Before a segment is full it is flushed: behind a segment whose end is lost there may be none with records (that would be damage). */
static void append_something(bool transactions, int open[3])
{
	struct log_shape *s = f.log->shape;
	if (s->segment_count && s->segment[s->segment_count - 1]->size_bytes > f.limits.segment_bytes - 3000)
		flush();
	int which = transactions ? (int)below(8) : 7;
	f.now_ms += 5;
	if (which < 3) {
		if (open[which] < 0)
			open[which] = fx_begin(&f, 1000 + which);
		fx_records(&f, CODEC_NONE, 1 + below(4), 60, open[which]);
	} else if (which < 6 && open[which - 3] >= 0 && f.m.txn[open[which - 3]].first_offset >= 0) {
		fx_end(&f, open[which - 3], below(2));
		open[which - 3] = -1;
	} else {
		fx_lines(&f, (enum codec)below(CODEC_COUNT), 1 + below(10), 90);
	}
}

/* The start moves, in the order that the caller of log_set_start keeps. */
static void move_start(void)
{
	int64_t offset = f.log->start_offset + (int64_t)below((size_t)(f.log->view_offset - f.log->start_offset) + 1), position;
	assert_int_equal(log_position_of(f.log, offset, &position, &f.err), 0);
	assert_int_equal(log_flush(f.log, offset, &f.err), 0);
	f.pair_offset = offset;
	f.pair_position = position;
	f.m.start_offset = offset;
	assert_int_equal(log_set_start(f.log, offset, position, &f.err), 0);
	if (below(2))
		assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
}

static struct { size_t left; bool done; } cut;

static void cut_path(char path[80])
{
	snprintf(path, 80, "%s/cut", f.root);
}

static ssize_t cut_at_call(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	char to[80];
	note_syncs(arg, call, name, fd, bytes);
	if (call == IO_READ || call == IO_STAT || call == IO_MMAP || cut.done || cut.left--)
		return 0;
	cut.done = true;
	cut_path(to);
	io_set_hook(NULL, NULL);
	cut_power(to);
	io_set_hook(cut_at_call, NULL);
	return 0;
}

/* The directory of the cut holds the log up to an offset from `flushed` on; where again_at is not -1 it can be cut there. */
static void check_cut_dir(int64_t flushed, int64_t again_at)
{
	struct log *l = f.log;
	char dir[sizeof f.dir], to[80];
	struct model whole = f.m;
	strcpy(dir, f.dir);
	cut_path(to);
	io_set_hook(NULL, NULL);
	snprintf(f.dir, sizeof f.dir, "%s", to);
	if (fx_try_open(&f) < 0)
		fail_msg("after the cut (flushed %" PRId64 ", recovery point %" PRId64 ", end %" PRId64 "): %s", flushed, f.recovery_point, f.m.leo, f.err.text);
	assert_true(f.log->leo >= flushed && f.log->leo <= whole.leo);
	if (again_at >= 0 && below(2)) {
		assert_int_equal(log_truncate(f.log, again_at, &f.err), 0);
		assert_true(f.log->leo <= again_at);
		assert_int_equal(log_project(f.log, log_last_stable(f.log), &f.err), 0);
	}
	/* the model cut at the same place, in a copy of what a cut changes */
	f.m.txn = malloc((whole.txn_count + 1) * sizeof *f.m.txn);
	if (whole.txn_count)
		memcpy(f.m.txn, whole.txn, whole.txn_count * sizeof *f.m.txn);
	f.m.item = malloc((whole.count + 1) * sizeof *f.m.item);
	if (whole.count)
		memcpy(f.m.item, whole.item, whole.count * sizeof *f.m.item);
	f.m.view = NULL;
	f.m.position = NULL;
	for (size_t i = (size_t)f.log->leo; i < whole.count; i++)
		f.m.item[i].value = NULL; /* model_cut frees it */
	model_cut(&f.m, f.log->leo);
	check_ends(&f);
	check_sequential(&f, 30000);
	check_random(&f, 10, 900);
	check_places(&f, 1 + f.m.count / 8);
	log_free(f.log);
	free(f.m.txn);
	free(f.m.item);
	free(f.m.view);
	free(f.m.position);
	f.m = whole;
	f.log = l;
	strcpy(f.dir, dir);
	io_set_hook(note_syncs, NULL);
}

static void check_after_cut(int64_t flushed)
{
	char to[80];
	cut_path(to);
	io_set_hook(NULL, NULL);
	cut_power(to);
	check_cut_dir(flushed, -1);
}

/* The log's end is cut, as a follower does; the power may go at any call of that, and what was cut never comes back once it has returned. */
static void cut_end(int64_t floor, int open[3])
{
	int64_t room = f.m.leo - floor, back = below(3) ? (int64_t)below(30) : (int64_t)below((size_t)room + 1), at = back > room ? floor : f.m.leo - back;
	assert_int_equal(log_hold_flushed(f.log, at, &f.err), 0);
	int64_t end = f.log->flush_limit;
	if (f.recovery_point > f.log->flushed_offset)
		f.recovery_point = f.log->flushed_offset;
	cut.left = below(25);
	cut.done = false;
	io_set_hook(cut_at_call, NULL);
	if (log_truncate(f.log, at, &f.err) < 0)
		fail_msg("log_truncate: %s", f.err.text);
	struct log *l = f.log;
	if (cut.done)
		check_cut_dir(f.recovery_point, at);
	io_set_hook(note_syncs, NULL);
	f.log = l;
	if (at < f.m.leo)
		assert_int_equal(l->leo, end);
	model_cut(&f.m, f.log->leo);
	assert_int_equal(log_project(f.log, log_last_stable(f.log), &f.err), 0);
	for (size_t i = 0; i < f.m.txn_count; i++)
		if (f.m.txn[i].outcome == OPEN && f.m.txn[i].first_offset >= 0 && f.m.txn[i].first_offset < f.m.leo)
			fx_end(&f, (int)i, below(2));
	open[0] = open[1] = open[2] = -1;
}

static void run(bool transactions, bool starts, bool ends, int rounds)
{
	int open[3] = {-1, -1, -1};
	f.limits.segment_bytes = 8000;
	f.limits.interval_bytes = 700;
	io_set_hook(note_syncs, NULL);
	fx_open(&f);
	for (int i = 0; i < rounds; i++) {
		append_something(transactions, open);
		if (below(6) == 0)
			flush();
		if (below(8) == 0) /* the checkpoint follows, durable by itself */
			f.recovery_point = f.log->flushed_offset;
		if (starts && below(15) == 0 && f.log->view_offset > f.log->start_offset)
			move_start();
		if (ends && below(20) == 0)
			cut_end(f.m.start_offset, open);
		if (below(3) == 0)
			check_after_cut(f.log->flushed_offset);
		if (below(40) == 0) { /* stopped in good order, and started again */
			fx_close(&f);
			fx_open(&f);
		}
	}
	io_set_hook(NULL, NULL);
	check_log(&f);
}

static void test_plain(void **state)
{
	(void)state;
	run(false, false, false, 600);
}

static void test_transactions(void **state)
{
	(void)state;
	run(true, false, false, 600);
}

static void test_starts(void **state)
{
	(void)state;
	run(true, true, false, 600);
}

static void test_ends(void **state)
{
	(void)state;
	run(false, true, true, 700);
}

static void test_ends_of_transactions(void **state)
{
	(void)state;
	run(true, false, true, 700);
}

/* ---- while it is compacted ---- */

static bool *records_there(const struct cx *c)
{
	bool *v = malloc(c->recs * sizeof *v);
	for (size_t i = 0; i < c->recs; i++)
		v[i] = c->rec[i].there;
	return v;
}

/* The directory of the cut holds what there was before the round, or after, or after some of its groups. */
static void check_cut(struct cx *c, const bool *least, const bool *most)
{
	struct log *l = f.log;
	char dir[sizeof f.dir], to[80];
	strcpy(dir, f.dir);
	cut_path(to);
	snprintf(f.dir, sizeof f.dir, "%s", to);
	if (fx_try_open(&f) < 0)
		fail_msg("after the cut: %s", f.err.text);
	assert_int_equal(f.log->leo, c->leo);
	assert_int_equal(log_last_stable(f.log), log_last_stable(l));
	cx_check_records(&f, c, least, most);
	cx_check_producers(&f, c);
	log_free(f.log);
	f.log = l;
	strcpy(f.dir, dir);
}

static void test_compaction(void **state)
{
	(void)state;
	struct cx c;
	size_t cuts = 0;
	cx_init(&c);
	f.sequential = f.compacted = true;
	f.limits.segment_bytes = 8000;
	f.limits.interval_bytes = 700;
	f.pair_offset = f.pair_position = 0;
	io_set_hook(note_syncs, NULL);
	fx_open(&f);
	for (int i = 0; i < 60; i++) {
		for (size_t k = 10 + below(60); k; k--)
			cx_something(&f, &c, true);
		if (below(2))
			assert_int_equal(log_roll(f.log, &f.err), 0);
		flush();
		f.now_ms += below(2) ? 10 : 6000;
		f.recovery_point = below(2) ? (int64_t)f.log->flushed_offset : 0;
		bool *most = records_there(&c);
		cut.left = below(i % 2 ? 150 : 40);
		cut.done = false;
		io_set_hook(cut_at_call, NULL);
		bool cleaned = cx_round(&f, &c);
		io_set_hook(NULL, NULL);
		bool *least = records_there(&c);
		if (cut.done)
			check_cut(&c, least, most);
		cuts += cut.done && cleaned;
		io_set_hook(note_syncs, NULL);
		if (below(4) == 0)
			assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
		free(least);
		free(most);
	}
	io_set_hook(NULL, NULL);
	cx_check(&f, &c);
	assert_true(cuts > 15);
	cx_release(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_plain),
		T(test_transactions),
		T(test_starts),
		T(test_ends),
		T(test_ends_of_transactions),
		T(test_compaction),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
