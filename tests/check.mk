# How the tests are run; included by the top Makefile. tests/README.md says what they are.

# pytest, and the Python clients of Kafka that tests/wire talks to us with, as pinned; on Debian's python.
venv    := build/venv
pytest  := $(venv)/bin/python -m pytest
# Most tests wait more than they compute: as many run at a time as keep the processors busy. `make check JOBS=0`: one after the other.
JOBS    ?= $(shell expr 2 '*' $$(nproc))
pytest_all := $(pytest) -n $(JOBS) --dist worksteal
.PHONY: venv
venv: $(venv)/made
$(venv)/made: tests/requirements.txt
	/usr/bin/python3 -m venv --clear $(venv)
	$(venv)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
# Without -j on the command line the builds still use all processors.
submake  = +$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: check-builds check-long-builds
check-builds: venv
	$(submake) BUILD=plain layers binaries
	$(submake) BUILD=asan binaries
	$(submake) BUILD=tsan binaries
check-long-builds: check-builds

# Every fuzzer for so long. What it finds on its way it keeps in build/fuzz/corpus; what is worth keeping is merged into tests/fuzz/corpus by hand.
FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz:
	$(submake) BUILD=fuzz fuzzers
	@for source in tests/fuzz/fuzz_*.c; do \
		name=$$(basename $$source .c); what=$${name#fuzz_}; \
		mkdir -p build/fuzz/corpus/$$what tests/fuzz/corpus/$$what; \
		echo "  FUZZ    $$name, $(FUZZ_SECONDS) s"; \
		build/fuzz/fuzz/$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
			-artifact_prefix=build/fuzz/$$name- build/fuzz/corpus/$$what tests/fuzz/corpus/$$what || exit 1; \
	done

# Under the sanitizers: units (test_units.py sees to that), and of mounts and clusters what finds most for its time.
check: check-builds
	$(pytest_all) tests/fs/test_append.py tests/fs/test_locks.py tests/wire/test_groups.py tests/wire/test_two_faces.py tests/cluster/test_faults.py tests/cluster/test_append.py --builds tsan -m "not long"
	$(pytest_all) tests/property tests/faults tests/fs/test_append.py tests/wire/test_bad_input.py tests/wire/test_groups.py tests/cluster/test_join.py tests/cluster/test_session.py tests/cluster/test_read.py \
		tests/cluster/test_faults.py --builds asan -m "not long"
	$(pytest_all) tests -m "not long"

# Whatever can befall a cluster, in any order, for so long; SPOOLFS_SEED=n repeats what was found with that number.
MINUTES ?= 10
.PHONY: soak
soak: venv
	$(submake) BUILD=$(BUILD) binaries
	MINUTES=$(MINUTES) $(pytest) tests/cluster/test_faults.py -k whatever_happens --builds $(BUILD) -s

check-long: check-long-builds
	SPOOLFS_TEST_BUILDS="plain asan tsan" $(pytest_all) tests
