# Two commands set everything up, with only python3 (3.11 or newer) and make present:
#   make demo    the daemon and the chat, on http://localhost:3000; elsewhere: ARGS='--port 3001'
#   make test    the test suite; a part of it: make test ARGS='-k packaging'
# And for developers: make lint, make format, make client, make clean.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes: each would compile all of Sinapse again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: dist dist-client demo docs test test-clients test-frameworks test-lowest lint format client bench bench-peers clean
# A virtual environment whose making broke off must not pass for a whole one the next time.
.DELETE_ON_ERROR:

demo: $(VENV)/demo
	$(BIN)/sinapse demo $(ARGS)

# Many tests wait for a timer of a daemon, so four processes use two cores well; conftest.py has the
# order of modules.
test: $(VENV)/develop
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# Clients in Go, Rust, Java and for React Native, which are built first; those whose tool chain is not
# here are left out, and it says which. One of them: ARGS='-k okhttp'
test-clients: $(VENV)/develop
	@for tool in go cargo mvn npm; do command -v $$tool >/dev/null || echo "there is no $$tool: its clients are left out"; done
	$(BIN)/python -m pytest -m toolchain $(ARGS) tests/system/test_clients.py

# The integrations with other versions of their frameworks. One of them: ARGS=celery-5.5
test-frameworks: $(VENV)/develop
	$(BIN)/python tests/support/frameworks.py $(ARGS)

# Some of every front, with the oldest versions of everything that setup.cfg allows: two minutes.
LOWEST := build/lowest
FRONTS := api/test_api cli/test_commands daemon/test_internals web/test_http2 system/test_resume system/test_tracing \
  streams/test_websocket listening/test_background publisher/test_aio publisher/test_tx publisher/test_celery \
  publisher/test_django publisher/test_fastapi publisher/test_flask \
  publisher/test_sqlalchemy
test-lowest: $(VENV)/develop
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct '.[test]'
	$(LOWEST)/bin/python -m pytest -n 4 --dist loadfile -p no:cacheprovider \
	  -m 'not browser' $(ARGS) $(FRONTS:%=tests/%.py)

lint: $(VENV)/develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The JavaScript client, and the copy of it that is in the package; needs Node and npm.
client:
	cd clients/js && npm ci --ignore-scripts --no-audit --no-fund && npm run build
	cp clients/js/dist/index.js sinapse/publisher/django/static/sinapse/sinapse.js

# The site, in docs/_build; strict: a warning is an error.
docs: $(VENV)/develop
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q docs docs/_build

# Wheel and sdist, the same bytes from the same commit. The times in an sdist are those of the files
# where it was built, so it is packed again.
export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct 2>/dev/null)
TAR := tar --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 --numeric-owner --format=ustar
dist: $(VENV)/develop
	rm -rf dist build/sdist && mkdir -p build/sdist
	umask 022 && $(BIN)/python -m build -q
	tar -xzf dist/*.tar.gz -C build/sdist && chmod -R u=rwX,go=rX build/sdist
	name=$$(ls build/sdist) && $(TAR) -C build/sdist -cf - $$name | gzip -9 -n > dist/$$name.tar.gz
	$(BIN)/python -m twine check --strict dist/*

# The package of the client, in dist/npm, made beside the checkout; needs Node and npm. REPOSITORY is
# the URL of the source: npm compares it with where the package comes from.
dist-client:
	@test -n "$(REPOSITORY)" || { echo 'where is the source? make dist-client REPOSITORY=https://…' >&2; exit 1; }
	rm -rf build/client dist/npm && mkdir -p build/client dist/npm
	tar -C clients/js --exclude=node_modules --exclude=dist -cf - . | tar -C build/client -xf -
	cd build/client && npm ci --ignore-scripts --no-audit --no-fund
	cd build/client && npm pkg set repository.type=git repository.url="git+$(REPOSITORY).git" repository.directory=clients/js
	cd build/client && npm pack --pack-destination ../../dist/npm

# Needs a C compiler; peers that are not installed are left out. Less: make bench ARGS=--quick, and
# only what the goals are about: make bench ARGS=--goals
bench: $(VENV)/develop
	$(BIN)/python bench/run.py $(ARGS)

# From PyPI, npm and the Go module proxy into build/bench; nginx is the system's, and is not started
# as a service.
PEERS := build/bench
bench-peers:
	$(PYTHON) -m venv $(PEERS)/venv
	$(PEERS)/venv/bin/pip install --quiet --requirement bench/peers/requirements.txt
	@if command -v npm >/dev/null; then mkdir -p $(PEERS)/node && npm install --silent --prefix $(PEERS)/node faye; \
	 else echo 'npm is not installed: without faye'; fi
	@if [ -x $(PEERS)/bin/centrifugo ]; then :; \
	 elif command -v go >/dev/null; then echo 'Building Centrifugo takes some minutes.'; \
	   GOBIN=$(abspath $(PEERS)/bin) go install github.com/centrifugal/centrifugo/v6@latest || echo 'without Centrifugo'; \
	 else echo 'Go is not installed: without Centrifugo'; fi
	@command -v mercure >/dev/null || [ -x $(PEERS)/bin/mercure ] || \
	 echo 'for Mercure, see bench/README.md: it is built from its source'
	@if [ -e /usr/lib/nginx/modules/ngx_nchan_module.so ]; then :; \
	 elif [ "$$(id -u)" = 0 ]; then RUNLEVEL=1 apt-get install -y --no-install-recommends nginx libnginx-mod-nchan; \
	 else echo 'for nginx with nchan: sudo apt install nginx libnginx-mod-nchan'; fi

clean:
	rm -rf $(VENV) .demo build dist docs/_build docs/_generated *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Sinapse needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.x")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo '$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: sudo apt install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Twisted looks for plugins in the folders on sys.path, and an editable install adds none (but in
# setuptools' `compat` mode, which is there for a time only). A .pth file adds the checkout to
# sys.path: that is Python's own. The editable install brings the dependencies, the console
# command, and sinapse.example, which lies in example/.
PTH := import os, pathlib, sysconfig; \
       pathlib.Path(sysconfig.get_path("purelib"), "sinapse-checkout.pth").write_text(os.getcwd() + "\n")

$(VENV)/demo: $(BIN)/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@$(BIN)/python -c '$(PTH)'
	@touch $@

$(VENV)/develop: $(BIN)/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	@$(BIN)/python -c '$(PTH)'
	@touch $@ $(VENV)/demo
