# Everything here works on a machine with Python 3.11, make and a package index; nothing else is downloaded.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DEMO ?= demo
DEMO_PEOPLE ?= 24

.PHONY: setup demo test check format bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	test -d $(DEMO)/set || $(BIN)/preprocess sample $(DEMO)/set --people $(DEMO_PEOPLE) --shortcut 0.9
	$(BIN)/preprocess build $(DEMO)/set/photos --method det --out $(DEMO)/det
	$(BIN)/preprocess build $(DEMO)/set/photos --method seg --segmenter grabcut --out $(DEMO)/seg
	$(BIN)/preprocess gallery $(DEMO)/det $(DEMO)/seg --out $(DEMO)/gallery
	rm -rf $(DEMO)/run
	$(BIN)/classify train $(DEMO)/seg --config demo --out $(DEMO)/run
	$(BIN)/classify evaluate $(DEMO)/run
	@echo
	@echo "Side by side:  $(DEMO)/gallery/index.html  (open it in a browser)"
	@echo "Trained run:   $(DEMO)/run"
	@echo "Its scores:    $(DEMO)/run/evaluation.json"

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(DEMO) build *.egg-info
