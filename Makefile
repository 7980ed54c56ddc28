# Two commands set everything up, with only python3 (3.11 or newer) and make present:
#   make demo    the daemon and the chat, on http://localhost:3000
#   make test    the test suite

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format clean

demo: $(VENV)/demo
	$(BIN)/sinapse demo

test: $(VENV)/develop
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Sinapse needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# editable_mode=compat: the other kinds of editable install hide the plugin from twistd.
INSTALL := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --config-settings editable_mode=compat

$(VENV)/demo: $(BIN)/python setup.cfg pyproject.toml
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/develop: $(BIN)/python setup.cfg pyproject.toml
	$(INSTALL) --editable '.[test,lint]'
	@touch $@ $(VENV)/demo
