# llm_enrich: LLM work over tables, as a property of the database.
# `make help` lists the targets. PG_CONFIG=/path/to/pg_config chooses the server.

# The tree, with a slash, when make runs in another folder: make -f TREE/Makefile; nothing in the tree itself
TOP := $(dir $(lastword $(MAKEFILE_LIST)))
TOP := $(if $(filter $(realpath $(CURDIR)),$(realpath $(TOP))),,$(TOP))
ifneq ($(TOP),)
ifeq ($(VPATH)$(USE_VPATH),)
VPATH := $(patsubst %/,%,$(TOP))
endif
ifneq ($(wildcard $(TOP)src/.made-with),)
$(error What is built in $(TOP) would get into this build: run "make clean" there first)
endif
endif

EXTENSION  = llm_enrich
MODULE_big = llm_enrich

# Written once, in the control file; everything else reads it from there.
EXTVERSION := $(shell sed -n "s/^default_version *= *'\([^']*\)'.*/\1/p" $(TOP)llm_enrich.control)

SOURCES   := $(patsubst $(TOP)%,%,$(sort $(wildcard $(TOP)src/*/*.c)))
SQL_PARTS := $(sort $(wildcard $(TOP)extension/parts/*.sql))

OBJS        = $(SOURCES:.c=.o)
DATA        = $(patsubst $(TOP)%,%,$(sort $(wildcard $(TOP)extension/llm_enrich--*--*.sql)))
DATA_built  = llm_enrich--$(EXTVERSION).sql
SHLIB_LINK += -lcurl
EXTRA_CLEAN = tmp_check tmp_prefix results output_iso regression.diffs regression.out llm_enrich--*.sql src/*/*.o src/*/*.bc src/.made-with \
              llm_enrich-*.zip

# Clean with gcc 12 and clang 14 on the headers of PostgreSQL 15. A warning is an
# error only on request, so that a newer compiler never breaks a packager's build.
LLM_WARNINGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
               -Wshadow -Wstrict-prototypes -Wold-style-definition -Wnull-dereference -Wformat=2 -Wvla
ifeq ($(LLM_WERROR),1)
LLM_WARNINGS += -Werror
endif
# LLM_SANITIZE=undefined or =address: the first fault ends the process with a report (script/sanitize).
# Our own assertions are checked, too, whatever the server does. -O1 compiles in two thirds of the time of -O2.
LLM_SANITIZER = $(filter undefined address,$(LLM_SANITIZE))
ifneq ($(LLM_SANITIZER),)
# The server is built with -fwrapv, under which no overflow would be a fault.
LLM_SANITIZE_FLAGS = -fsanitize=$(LLM_SANITIZER) -fno-sanitize-recover=$(LLM_SANITIZER) -fno-omit-frame-pointer -fno-wrapv \
                     -O1 -DUSE_ASSERT_CHECKING=1
SHLIB_LINK += -fsanitize=$(LLM_SANITIZER)
endif
# override: so that `make PG_CFLAGS=-DUSE_ASSERT_CHECKING` adds to these instead of replacing them
override PG_CFLAGS := $(LLM_WARNINGS) $(LLM_SANITIZE_FLAGS) $(PG_CFLAGS)
# here, since bitcode is made without PG_CFLAGS
override PG_CPPFLAGS := -I$(or $(TOP),./)src -DLLM_ENRICH_VERSION='"$(EXTVERSION)"' $(PG_CPPFLAGS)

# No bitcode by default: it needs the very clang the server was built with, and the
# time goes into waiting for a provider. `make with_llvm=yes` builds it all the same.
ifneq ($(origin with_llvm),command line)
override with_llvm := no
endif

# installcheck: a running server that preloads llm_enrich. tools/installcheck calls this Makefile
# again while nothing is sent. Tests with servers of their own are left to make check.
REGRESS        = $(patsubst $(TOP)sql/%.sql,%,$(sort $(wildcard $(TOP)sql/*.sql)))
REGRESS_OPTS   = --load-extension=llm_enrich
ISOLATION      = $(patsubst $(TOP)test/specs/%.spec,%,$(sort $(wildcard $(TOP)test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(TOP)test --load-extension=llm_enrich
ifndef LLM_SENDING_IS_OFF
NO_INSTALLCHECK = 1
endif

PG_CONFIG ?= pg_config

ifneq ($(filter check,$(MAKECMDGOALS)),)

# PGXS has a check target of its own, which only says that it is not supported. Ours
# stands in for it: when it is asked for, PGXS is not read, and other goals go first
# through a make of their own.
OTHER_GOALS := $(filter-out check,$(MAKECMDGOALS))
.PHONY: check $(OTHER_GOALS)
check: $(OTHER_GOALS)
	@PG_CONFIG='$(PG_CONFIG)' $(TOP)tools/check $(SUITE)
ifneq ($(OTHER_GOALS),)
$(OTHER_GOALS):
	@$(MAKE) --no-print-directory -f $(TOP)Makefile $@
endif

else

PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error "$(PG_CONFIG)" does not run: install the server's development files (Debian: postgresql-server-dev-15) or set PG_CONFIG)
endif
include $(PGXS)

# Every object on every header: the tree is small, and a stale object costs more than a rebuild.
$(OBJS): $(wildcard $(TOP)src/*/*.h) $(TOP)Makefile $(TOP)llm_enrich.control src/.made-with

# Objects made with another sanitizer, or with none, are made again.
src/.made-with: made-with-what
	@mkdir -p $(sort $(dir $(OBJS)))
	@echo 'sanitizer: $(or $(LLM_SANITIZER),none)' | cmp -s - $@ || echo 'sanitizer: $(or $(LLM_SANITIZER),none)' >$@

# The folder is named too, so that a part taken away is noticed.
$(DATA_built): $(SQL_PARTS) $(TOP)extension/parts $(TOP)llm_enrich.control
	cat $(SQL_PARTS) > $@.tmp && mv $@.tmp $@

ifndef LLM_SENDING_IS_OFF
.PHONY: installcheck
installcheck:
	@PG_CONFIG='$(PG_CONFIG)' $(TOP)tools/installcheck -f '$(firstword $(MAKEFILE_LIST))'
endif

.PHONY: lint format format-check chaos fuzz bench dist help clean-programs made-with-what

clean: clean-programs

clean-programs:
	@for dir in test/provider test/unit test/fuzz bench; do \
		[ ! -e $(TOP)$$dir/Makefile ] || $(MAKE) -s --no-print-directory -C $(TOP)$$dir clean; \
	done

lint:
	@PG_CONFIG='$(PG_CONFIG)' $(TOP)tools/lint

format:
	@$(TOP)tools/format

format-check:
	@$(TOP)tools/format --check

# The test of the suite, ten times as long.
chaos:
	@PG_CONFIG='$(PG_CONFIG)' LLM_CHAOS_TASKS=$${LLM_CHAOS_TASKS:-20000} $(TOP)tools/check tap 300_chaos

fuzz:
	@$(MAKE) -s --no-print-directory -C $(TOP)test/fuzz fuzz PG_CONFIG='$(PG_CONFIG)'

bench:
	@PG_CONFIG='$(PG_CONFIG)' $(TOP)bench/run $(BENCH)

dist:
	git $(if $(TOP),-C $(TOP)) archive --format=zip --prefix=llm_enrich-$(EXTVERSION)/ -o '$(CURDIR)/llm_enrich-$(EXTVERSION).zip' HEAD

help:
	@echo 'make                build the library and the install script'
	@echo 'make install        install both into the server of PG_CONFIG'
	@echo 'make check          test in a private copy of that server (SUITE="regress NAME" for one)'
	@echo 'make installcheck   test on a running server that preloads llm_enrich'
	@echo 'make lint           every rule of tools/lint'
	@echo 'make format         rewrite the C files with clang-format 14 (format-check: only look)'
	@echo 'make chaos          everything killed all the while, for minutes (LLM_CHAOS_SEED=N for other dice)'
	@echo 'make fuzz           fuzz what reads answers, FUZZ_SECONDS=600 for each of FUZZ="answer json ..."'
	@echo 'make bench          measure against the simulated provider'
	@echo 'make dist           PGXN archive of the last commit'
	@echo 'make clean          remove what was built'

endif
