# How the tests are run; included by the top Makefile. tests/README.md says what they are.

# Debian's pytest and its python: `make deps` installs both.
pytest  := /usr/bin/python3 -m pytest
# Without -j on the command line the builds still use all processors.
submake  = +$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: check-builds check-long-builds
check-builds:
	$(submake) BUILD=plain layers binaries
	$(submake) BUILD=asan binaries
	$(submake) BUILD=tsan binaries
check-long-builds: check-builds

# Under the sanitizers: units (test_units.py sees to that), and of the mount what finds most for its time.
check: check-builds
	$(pytest) tests/fs/test_append.py tests/fs/test_locks.py --builds tsan -m "not long"
	$(pytest) tests/property tests/faults tests/fs/test_append.py --builds asan -m "not long"
	$(pytest) tests -m "not long"

check-long: check-long-builds
	SPOOLFS_TEST_BUILDS="plain asan tsan" $(pytest) tests
