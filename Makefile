# Needs python3 with venv, and make. Everything is installed into .venv and .tox, nothing elsewhere.

PYTHON ?= python3
PORT ?= 5000
VENV ?= .venv
ARGS ?=
# The Nu HTML Checker, as it is on npm.
VNU = 26.9.27

# uv must use the interpreters of this machine instead of downloading some.
export UV_PYTHON_DOWNLOADS = never

# The first of these interpreters that really starts (a pyenv shim may not); else the one of the venv.
first = $$(for minor in $(1); do if python3.$$minor -c '' 2>/dev/null; then echo 3.$$minor; exit; fi; done; \
	$(VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
NEWEST = $(call first,14 13 12 11 10)
OLDEST = $(call first,10 11 12 13 14)

.PHONY: demo test test-all attacks faults failpoints broken timing bench bench-check bench-full checker contact-sheet clean

demo: $(VENV)/demo.installed ## Serve the example app at http://127.0.0.1:$(PORT)
	FLASK_DEBUG=1 $(VENV)/bin/flask --app example_app db upgrade
	FLASK_DEBUG=1 $(VENV)/bin/flask --app example_app run --port $(PORT)

test: $(VENV)/tox.installed ## Run the tests on the newest Python of this machine
	newest=$(NEWEST); $(VENV)/bin/tox run -e "py$${newest%.*}$${newest#*.}" $(if $(ARGS),-- $(ARGS))

test-all: $(VENV)/tox.installed ## Run everything: each Python, the lowest versions, lint, types, docs
	ACCOUNTFLOW_LOWEST_PYTHON="python$(OLDEST)" $(VENV)/bin/tox run

faults: $(VENV)/test.installed ## Kill processes at random under load, and count every mail: about ten minutes
	PYTHONPATH=.:tests $(VENV)/bin/python -m faults.kills $(ARGS)

failpoints: $(VENV)/test.installed ## Kill processes at chosen points, 900 times: about five minutes
	PYTHONPATH=.:tests $(VENV)/bin/python -m faults.failpoints $(ARGS)

attacks: $(VENV)/test.installed ## Attack a running server, break the package on purpose, compare times: about ten minutes
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile tests/attack tests/broken tests/timing $(ARGS)

broken: $(VENV)/test.installed ## Break the package on purpose, and see each break found out: about fifteen minutes
	$(VENV)/bin/python tests/broken/run.py $(ARGS)

timing: $(VENV)/test.installed ## Measure whether the time of an answer tells who has an account: from half a minute on
	$(VENV)/bin/python tests/timing/run.py $(ARGS)

bench: $(VENV)/test.installed ## Measure this project beside others, each in an environment of its own: some minutes
	$(VENV)/bin/python -m benchmarks.run $(ARGS)

bench-check: $(VENV)/test.installed ## See whether a flow takes more statements or CPU than is committed: half a minute
	$(VENV)/bin/python -m benchmarks.overhead --check $(ARGS)

bench-full: $(VENV)/test.installed ## The same in more rounds, and write the results into the documentation: up to an hour
	$(VENV)/bin/python -m benchmarks.run --rounds 7 --users 100 --write-docs $(ARGS)

checker: $(VENV)/vnu-$(VNU).installed ## Fetch the checker that the tests of the pages ask, by npm; it needs Java

contact-sheet: $(VENV)/test.installed ## Take a picture of every page and every mail, with Chromium
	$(VENV)/bin/python tools/contact_sheet.py docs/_static/contact-sheet.png

clean: ## Remove what the other targets made
	rm -rf $(VENV) .tox .coverage .coverage.* build dist docs/_build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/demo.installed: $(VENV)/bin/python setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(VENV)/test.installed: $(VENV)/bin/python setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/vnu-$(VNU).installed: | $(VENV)/bin/python
	cd $(VENV) && archive=$$(npm pack --silent vnu-jar@$(VNU)) && \
		tar -xzf "$$archive" --strip-components=3 package/build/dist/vnu.jar && rm "$$archive"
	touch $@

$(VENV)/tox.installed: $(VENV)/bin/python tox.ini
	$(VENV)/bin/python -m pip install --quiet "tox>=4.23" "tox-uv>=1.16"
	touch $@
