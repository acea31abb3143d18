# 两条命令 · two commands:  make run    make test    (and make test-lora for the model server's engine lora)
# Both need Python 3.11 or newer and make; everything else they install into .venv themselves.

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet install

# PYTHON=… chooses the interpreter that .venv is made with.
FIND_PYTHON = found=; \
	for name in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python; do \
		if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$name; break; fi; \
	done; \
	test -n "$$found" || { \
		echo "make: 需要 Python 3.11 或更新的版本 · Python 3.11 or newer is needed, and none is on the PATH" >&2; exit 1; }; \
	$$found -c 'import venv, ensurepip' >/dev/null 2>&1 || { \
		echo "make: $$found 缺少 venv 模块 · has no venv module; on Debian: apt-get install $$($$found -c \
		'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }

LORA := .venv-lora

.PHONY: help run test test-lora check requirements clean

help:
	@echo "make run           站点和它的全部进程 · the site with every process it needs (PORT=8000 DATA_DIR=var SEED=1)"
	@echo "make test          全部检查和测试 · all checks and the whole suite"
	@echo "make test-lora     模型服务的 LoRA 引擎的测试 · tests of the engine lora, in a $(LORA) of their own (torch, CPU)"
	@echo "make check         只做检查 · the checks alone: style, types, migrations, deployment, catalogues"
	@echo "make requirements  重新解析依赖版本 · resolve the pinned versions anew"
	@echo "make clean         删除 .venv 和缓存，保留数据 · remove .venv and caches, keep the data"

run: $(VENV)/run.stamp
	@exec $(PY) -m devserver --end-with-parent

test: $(VENV)/test.stamp
	@exec bin/test

check: $(VENV)/test.stamp
	@exec bin/check

# A .venv whose interpreter is gone (an upgraded system, a moved folder) is made anew.
$(VENV)/run.stamp: requirements.txt
	@$(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { $(FIND_PYTHON); \
		echo "make: 建立 .venv · making .venv with $$found"; rm -rf $(VENV); $$found -m venv $(VENV); }
	@echo "make: 安装依赖（约一分钟，只此一次）· installing what the site runs on (about a minute, once)"
	@$(PIP) -r requirements.txt || { \
		echo "make: 依赖没有装成，见上文 · the packages could not be installed, see above" >&2; exit 1; }
	@touch $@

$(VENV)/test.stamp: requirements-dev.txt $(VENV)/run.stamp
	@echo "make: 安装测试工具 · installing what the tests need"
	@$(PIP) -r requirements.txt -r requirements-dev.txt || { \
		echo "make: 测试工具没有装成，见上文 · the test tools could not be installed, see above" >&2; exit 1; }
	@touch $@

# torch is 200 MB without CUDA and gigabytes with it: where pip would bring the latter to a machine without a GPU,
# set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds first.
test-lora: $(LORA)/test.stamp
	@exec bin/test-lora

$(LORA)/test.stamp: requirements.txt requirements-dev.txt requirements-lora.txt
	@$(LORA)/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { $(FIND_PYTHON); \
		echo "make: 建立 $(LORA) · making $(LORA) with $$found"; rm -rf $(LORA); $$found -m venv $(LORA); }
	@echo "make: 安装 torch 等（几分钟，只此一次）· installing torch and what goes with it (some minutes, once)"
	@$(LORA)/bin/python -m pip --disable-pip-version-check --quiet install \
		-r requirements.txt -r requirements-dev.txt -r requirements-lora.txt || { \
		echo "make: 依赖没有装成，见上文 · the packages could not be installed, see above" >&2; exit 1; }
	@touch $@

requirements: $(VENV)/test.stamp
	@$(PIP) uv
	$(PY) -m uv pip compile --quiet --upgrade --python-version 3.11 requirements.in -o requirements.txt
	$(PY) -m uv pip compile --quiet --upgrade --python-version 3.11 requirements-dev.in -o requirements-dev.txt
	$(PY) -m uv pip compile --quiet --upgrade --python-version 3.11 requirements-lora.in -o requirements-lora.txt

clean:
	rm -rf $(VENV) $(LORA) .mypy_cache .ruff_cache .pytest_cache .hypothesis test-results
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +
	find locale -name '*.mo' -delete
